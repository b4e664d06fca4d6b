use super::*;
use crate::kpa::Error;

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn annotations(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, value)| (format!("autoscaling.knative.dev/{key}"), value.to_string())).collect()
}

fn values(cluster: &[(&str, &str)], on_revision: &[(&str, &str)], container_concurrency: u32) -> Config {
    Config::resolve(&Cluster::parse(&map(cluster)).unwrap(), &annotations(on_revision), container_concurrency)
}

fn keys(error: Error) -> Vec<String> {
    error.problems.into_iter().map(|problem| problem.key).collect()
}

#[test]
fn the_target_follows_metric_annotation_and_container_concurrency() {
    for (on_revision, container_concurrency, target, total) in [
        (&[][..], 1, 0.7, 1.0),
        (&[], 0, 70.0, 100.0),
        (&[("target", "5")], 3, 2.0999999999999996, 3.0),
        (&[("target", "5")], 0, 3.5, 5.0),
        (&[("target", "5"), ("target-utilization-percentage", "100")], 10, 5.0, 5.0),
        (&[("target", "0.01"), ("target-utilization-percentage", "1")], 0, 0.01, 0.01),
        (&[("metric", "rps")], 1, 140.0, 200.0),
        (&[("metric", "rps"), ("target", "50")], 1, 35.0, 50.0),
    ] {
        let config = values(&[], on_revision, container_concurrency);
        assert_eq!(
            (config.target_value, config.total_value),
            (target, total),
            "{on_revision:?} at {container_concurrency}"
        );
    }
    // The cluster's percentage applies only to concurrency.
    let cluster =
        [("container-concurrency-target-percentage", "50"), ("requests-per-second-target-default", "10")];
    assert_eq!(values(&cluster, &[], 4).target_value, 2.0);
    assert_eq!(values(&cluster, &[("metric", "rps")], 4).target_value, 7.0);
}

#[test]
fn an_annotation_wins_over_the_cluster_and_the_dashed_name_over_the_alias() {
    let cluster = [("scale-down-delay", "10s"), ("max-scale", "7"), ("target-burst-capacity", "0")];
    let config =
        values(&cluster, &[("scaleDownDelay", "20s"), ("maxScale", "3"), ("targetBurstCapacity", "50")], 1);
    assert_eq!(config.scale_down_delay, Duration::from_secs(20));
    assert_eq!((config.max_scale, config.target_burst_capacity), (3, 50.0));
    assert_eq!(values(&cluster, &[("maxScale", "3"), ("max-scale", "5")], 1).max_scale, 5);
    assert_eq!(values(&cluster, &[], 1).max_scale, 7);
    // A value that does not parse counts as absent.
    assert_eq!(values(&cluster, &[("max-scale", "many"), ("window", "1d")], 1), values(&cluster, &[], 1));
}

#[test]
fn the_panic_window_is_whole_seconds_and_at_least_one() {
    for (window, percentage, seconds) in
        [("60s", "10", 6), ("20s", "1", 1), ("6s", "25", 2), ("25s", "10", 3), ("24s", "10", 2)]
    {
        let config = values(&[], &[("window", window), ("panic-window-percentage", percentage)], 1);
        assert_eq!(config.panic_window, Duration::from_secs(seconds), "{percentage} % of {window}");
    }
}

#[test]
fn a_scale_of_zero_at_the_start_needs_the_clusters_leave() {
    assert_eq!(values(&[], &[("initial-scale", "0")], 1).initial_scale, 1);
    assert_eq!(
        values(&[("allow-zero-initial-scale", "true")], &[("initial-scale", "0")], 1).initial_scale,
        0
    );
}

#[test]
fn every_bad_value_of_the_config_map_is_named_at_once() {
    let bad = map(&[
        ("stable-window", "5s"),
        ("max-scale-up-rate", "1"),
        ("panic-window-percentage", "NaN"),
        ("target-burst-capacity", "-2"),
        ("enable-scale-to-zero", "yes"),
        ("initial-scale", "0"),
        ("_example", "stable-window: nonsense"),
    ]);
    let mut found = keys(Cluster::parse(&bad).unwrap_err());
    found.sort();
    let expected = [
        "enable-scale-to-zero",
        "initial-scale",
        "max-scale-up-rate",
        "panic-window-percentage",
        "stable-window",
        "target-burst-capacity",
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_webhooks_part_refuses_each_annotation_that_does_not_do() {
    let cluster = Cluster { max_scale_limit: 50, max_scale: 50, ..Cluster::default() };
    let fine = annotations(&[
        ("window", "6s"),
        ("max-scale", "20"),
        ("min-scale", "2"),
        ("activation-scale", "2"),
        ("target", "1"),
    ]);
    assert_eq!(Annotations(&fine).check(&cluster), Ok(()));
    assert_eq!(Annotations(&annotations(&[])).check(&cluster), Ok(()));
    for (name, value) in [
        ("window", "5s"),
        ("window", "6.5s"),
        ("window", "2h"),
        ("panicThresholdPercentage", "100"),
        ("panic-window-percentage", "0.5"),
        ("target", "0"),
        ("target-utilization-percentage", "101"),
        ("target-burst-capacity", "-2"),
        ("scale-down-delay", "61m"),
        ("scale-to-zero-pod-retention-period", "61m"),
        ("initialScale", "0"),
        ("max-scale", "51"),
        ("max-scale", "0"),
        ("min-scale", "-1"),
        ("activation-scale", "1"),
        ("metric", "cpu"),
        ("class", "hpa.autoscaling.knative.dev"),
        ("metric-aggregation-algorithm", "median"),
    ] {
        let error = Annotations(&annotations(&[(name, value)])).check(&cluster).unwrap_err();
        assert_eq!(keys(error), [format!("autoscaling.knative.dev/{name}")], "{name}: {value}");
    }
    for (scale, other) in
        [(("min-scale", "5"), ("max-scale", "3")), (("activation-scale", "4"), ("max-scale", "3"))]
    {
        assert!(Annotations(&annotations(&[scale, other])).check(&cluster).is_err(), "{scale:?}");
    }
    // Only the revision's own values are compared, not the cluster's defaults.
    for scale in [("min-scale", "60"), ("activation-scale", "60")] {
        assert_eq!(Annotations(&annotations(&[scale])).check(&cluster), Ok(()), "{scale:?}");
    }
}
