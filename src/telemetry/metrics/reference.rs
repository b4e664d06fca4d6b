//! Makes docs/metrics.md from the table.

use std::fmt::Write;

use super::{OUTCOMES, Row, rows};
use crate::delivery::Reason;
use crate::telemetry::problem::ProblemKind;

/// The reference page in Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Metrics\n\nMade by `longhaul schema --metrics`. `GET /metrics` on `admin.listen` serves OpenMetrics or Prometheus' text \
         format, by `Accept`.\nNames and labels are stable. Every label has a fixed set of values, apart from `pipeline`, which the \
         configuration sets.\n\n| name | type | labels | meaning |\n| --- | --- | --- | --- |\n",
    );
    for Row { name, kind, labels, help } in rows() {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing to a string never fails.
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
    }
    page.push_str("\n## Values of the labels\n\n| label | values |\n| --- | --- |\n");
    let mut values = |label: &str, values: Vec<&str>| {
        let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
        let _ = writeln!(page, "| `{label}` | {} |", values.join(", "));
    };
    values("outcome", OUTCOMES.iter().map(|outcome| outcome.label()).collect());
    values("how", vec!["ack", "return", "drop"]);
    values("reason", Reason::ALL.iter().map(|reason| reason.as_str()).collect());
    values("kind", ProblemKind::ALL.iter().map(|kind| kind.as_str()).collect());
    page
}
