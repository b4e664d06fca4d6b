//! Makes docs/metrics.md from the table.

use std::fmt::Write;

use super::labels::{CODES, NO_CODE, outcomes};
use super::{BreakerState, GuardFailure, GuardWrite, Row, problem_kinds, rows};
use crate::delivery::Reason;
use crate::view::{Binding, ItemState};

/// The reference page in Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Metrics\n\nMade by `longhaul schema --metrics`. `GET /metrics` on `admin.listen` serves OpenMetrics or Prometheus' text \
         format, by `Accept`.\nNames and labels are stable. Every label has a fixed set of values, apart from those that the \
         configuration or the broker sets: `pipeline`, `source`, `sink`, `queue`, `topic` and `partition`. If more than 500 \
         partitions are assigned to a pipeline here, each topic has one sample with the partition `all` (sum of the lag, \
         highest age, latest progress); beyond 500 topics, all of them share one.\n\n| name | type | labels | meaning |\n| --- | --- | --- | --- |\n",
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
    values("outcome", outcomes().collect());
    let codes = CODES.map(|code| code.to_string());
    let classes = (1..10).map(|first| format!("{first}xx")).collect::<Vec<_>>();
    let codes = codes.iter().chain(&classes).map(String::as_str).chain([NO_CODE]);
    values("code", codes.collect());
    values("state", ItemState::UNFINISHED.map(ItemState::as_str).into());
    values("end", ItemState::FINISHED.map(ItemState::as_str).into());
    values("binding", Binding::ALL.map(Binding::as_str).into());
    values("breaker", BreakerState::ALL.map(BreakerState::as_str).into());
    values("how", vec!["ack", "return", "drop"]);
    values("reason", Reason::ALL.iter().map(|reason| reason.as_str()).collect());
    values("kind", problem_kinds().collect());
    values("write", GuardWrite::ALL.map(GuardWrite::as_str).into());
    values("failure", GuardFailure::ALL.map(GuardFailure::as_str).into());
    page
}
