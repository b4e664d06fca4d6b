use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::telemetry::{Problem, Status};

fn metrics() -> Metrics {
    let metrics = Metrics::new();
    metrics.pipeline("p", 20).attempt(Outcome::Done, std::time::Duration::ZERO);
    let status = Arc::new(Status::new("p"));
    status.set_connected(true);
    status.raise(Problem {
        kind: ProblemKind::TargetMissing,
        subject: "q.dead".to_owned(),
        text: "missing".to_owned(),
        help: "create it".to_owned(),
    });
    metrics.watch(&[status]);
    metrics
}

#[test]
fn every_row_of_the_table_is_served_and_nothing_else() {
    let text = metrics().render().unwrap();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let served: BTreeMap<String, &str> = types
        .map(|(name, kind)| (if kind == "counter" { format!("{name}_total") } else { name.to_owned() }, kind))
        .collect();
    let table: BTreeMap<String, &str> = rows().map(|row| (row.name.to_owned(), row.kind)).collect();
    assert_eq!(served, table);
    for row in rows() {
        let sample = text.lines().find(|line| {
            let rest = line.strip_prefix(row.name).unwrap_or_default();
            rest.starts_with(['{', ' ']) || rest.starts_with("_bucket{")
        });
        let sample = sample.unwrap_or_else(|| panic!("no sample of {}", row.name));
        for label in row.labels {
            assert!(sample.contains(&format!("{label}=\"")), "{sample}");
        }
    }
    assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1);
    assert!(text.contains("# UNIT longhaul_attempt_duration_seconds seconds\n"), "{text}");
}

#[test]
fn readiness_is_a_metric_with_its_reason() {
    let text = metrics().render().unwrap();
    assert!(text.contains("longhaul_pipeline_ready{pipeline=\"p\"} 0\n"), "{text}");
    assert!(text.contains("longhaul_problems{pipeline=\"p\",kind=\"target-missing\"} 1\n"), "{text}");
    assert!(text.contains("longhaul_problems{pipeline=\"p\",kind=\"stalled\"} 0\n"), "{text}");
}

#[test]
fn prometheus_own_format_names_counters_as_their_samples() {
    let text = Exposition::Prometheus.of(metrics().render().unwrap());
    assert!(
        text.contains("# TYPE longhaul_items_received_total counter\nlonghaul_items_received_total{"),
        "{text}"
    );
    assert!(text.contains("# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total "), "{text}");
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    // Every sample follows the type of its own family.
    let types: BTreeSet<&str> =
        text.lines().filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split_once(' ')?.0)).collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let is_part = |ending| name.strip_suffix(ending).is_some_and(|family| types.contains(family));
        assert!(types.contains(name) || ["_bucket", "_sum", "_count"].into_iter().any(is_part), "{line}");
    }
}

#[test]
fn the_checked_in_reference_is_fresh() {
    let checked_in = include_str!("../../../docs/metrics.md");
    assert!(reference() == checked_in, "stale: run `cargo run -- schema --metrics > docs/metrics.md`");
}
