use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use super::*;
use crate::delivery::Outcome;
use crate::telemetry::{Problem, Status};

fn metrics() -> Metrics {
    let metrics = Metrics::new();
    let pipeline = metrics.pipeline("p", 20);
    metrics.describe("p", "queue q", "http://sink");
    pipeline.attempt(Outcome::Done, Some(200), Duration::from_secs(2));
    pipeline.queue_progressed("q");
    pipeline.partitions(vec![PartitionState {
        topic: "t".into(),
        partition: 3,
        unfinished_from: Some(4),
        lag: Some(7),
        head_age: Duration::from_secs(5),
        progress: Some(SystemTime::UNIX_EPOCH),
    }]);
    let status = Arc::new(Status::new("p"));
    status.set_connected(true);
    status.raise(Problem {
        kind: ProblemKind::TargetMissing,
        subject: "q.dead".to_owned(),
        text: "missing".to_owned(),
        help: "create it".to_owned(),
    });
    metrics.watch(&[status]);
    drop(metrics.guard());
    metrics.intake().answered(202);
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
fn attempts_are_counted_by_outcome_and_code() {
    let metrics = Metrics::new();
    let pipeline = metrics.pipeline("p", 20);
    pipeline.attempt(Outcome::Failed { retry_after: None }, Some(599), Duration::from_secs(4000));
    pipeline.attempt(Outcome::Unknown, None, Duration::from_secs(1));
    pipeline.cancelled(Duration::from_secs(1));
    let text = metrics.render().unwrap();
    let count = |outcome: &str, code: &str, count: u32| {
        format!("longhaul_attempts_total{{pipeline=\"p\",outcome=\"{outcome}\",code=\"{code}\"}} {count}\n")
    };
    for line in [
        count("failed", "5xx", 1),
        count("unknown", "none", 1),
        count("cancelled", "none", 1),
        count("done", "none", 0),
    ] {
        assert!(text.contains(&line), "{line}: {text}");
    }
    assert!(
        text.contains("longhaul_attempt_duration_seconds_sum{pipeline=\"p\",outcome=\"failed\"} 4000.0\n")
    );
}

#[test]
fn a_pipeline_that_drains_is_not_ready_for_that_reason() {
    let metrics = Metrics::new();
    let status = Arc::new(Status::new("p"));
    status.set_draining();
    metrics.watch(&[status]);
    let text = metrics.render().unwrap();
    assert!(text.contains("longhaul_problems{pipeline=\"p\",kind=\"draining\"} 1\n"), "{text}");
}

#[test]
fn samples_of_a_revoked_partition_are_gone() {
    let metrics = Metrics::new();
    let pipeline = metrics.pipeline("p", 20);
    let state = |partition| PartitionState {
        topic: "t".into(),
        partition,
        unfinished_from: Some(4),
        lag: Some(7),
        head_age: Duration::ZERO,
        progress: None,
    };
    pipeline.partitions(vec![state(0), state(1)]);
    pipeline.partitions(vec![state(1)]);
    let text = metrics.render().unwrap();
    assert!(
        text.contains("longhaul_kafka_lag_records{pipeline=\"p\",topic=\"t\",partition=\"1\"} 7\n"),
        "{text}"
    );
    assert!(!text.contains("partition=\"0\"") && !text.contains("last_progress"), "{text}");
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
