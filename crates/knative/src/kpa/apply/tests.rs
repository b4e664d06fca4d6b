use std::collections::BTreeMap;

use super::*;
use crate::kpa::Cluster;

const SECOND: i64 = 1_000_000_000;

fn at(seconds: i64) -> Time {
    Time::from_unix_nanos(seconds * SECOND)
}

fn config() -> Config {
    let cluster = Cluster { target_burst_capacity: -1.0, ..Cluster::default() };
    Config::resolve(&cluster, &BTreeMap::new(), 1)
}

fn observed(desired: i32, ready: u32) -> Observed {
    Observed { desired, excess_burst_capacity: -1, ready }
}

#[test]
fn an_active_revision_keeps_one_replica_for_the_stable_window_and_then_goes_to_zero() {
    let config = config();
    let mut applied = Applied::new(&config, at(0));
    assert_eq!(applied.reconcile(&config, at(0), observed(-1, 0)), 1, "the initial scale");
    assert_eq!(applied.reconcile(&config, at(2), observed(5, 1)), 5);
    assert_eq!(applied.condition(), Condition::Active);
    assert_eq!(applied.reconcile(&config, at(40), observed(0, 5)), 1, "active for 38 s of 60 s");
    assert_eq!(applied.again(), Some(at(62)));
    assert_eq!(applied.reconcile(&config, at(62), observed(0, 1)), 0);
    assert_eq!(applied.condition(), Condition::Inactive);
    assert_eq!(applied.reconcile(&config, at(90), observed(3, 0)), 3);
    assert_eq!(applied.condition(), Condition::Activating);
}

#[test]
fn zero_waits_for_the_grace_period_where_requests_went_past_the_activator() {
    let config = config();
    let mut applied = Applied::new(&config, at(0));
    applied.reconcile(&config, at(0), observed(-1, 1));
    let spare = Observed { desired: 1, excess_burst_capacity: 4, ready: 1 };
    applied.reconcile(&config, at(10), spare);
    assert_eq!(applied.reconcile(&config, at(100), Observed { desired: 0, ..spare }), 1);
    assert_eq!(applied.again(), Some(at(130)));
    assert_eq!(applied.reconcile(&config, at(129), observed(0, 1)), 1);
    assert_eq!(applied.reconcile(&config, at(130), observed(0, 1)), 0);
}

#[test]
fn the_last_replica_is_retained_as_long_as_asked() {
    let config = Config { scale_to_zero_pod_retention: Duration::from_secs(120), ..config() };
    let mut applied = Applied::new(&config, at(0));
    applied.reconcile(&config, at(0), observed(1, 1));
    assert_eq!(applied.reconcile(&config, at(60), observed(0, 1)), 1);
    assert_eq!(applied.again(), Some(at(180)));
    assert_eq!(applied.reconcile(&config, at(180), observed(0, 1)), 0);
}

#[test]
fn replicas_that_never_become_ready_are_given_up_after_the_progress_deadline() {
    let config = config();
    let mut applied = Applied::new(&config, at(0));
    assert_eq!(applied.reconcile(&config, at(630), observed(0, 0)), 1);
    assert_eq!(applied.reconcile(&config, at(631), observed(0, 0)), 0);
    assert_eq!(applied.condition(), Condition::Inactive);
}

#[test]
fn bounds_hold_and_zero_may_be_forbidden() {
    let bounded = Config { min_scale: 2, max_scale: 4, ..config() };
    let mut applied = Applied::new(&bounded, at(0));
    let replicas = [0, 3, 9].map(|desired| applied.reconcile(&bounded, at(1), observed(desired, 2)));
    assert_eq!(replicas, [2, 3, 4]);
    let awake = Config { enable_scale_to_zero: false, ..config() };
    let mut applied = Applied::new(&awake, at(0));
    assert_eq!(applied.reconcile(&awake, at(500), observed(0, 1)), 1);
}

#[test]
fn the_initial_scale_is_a_minimum_until_it_was_reached_once() {
    let config = Config { initial_scale: 3, ..config() };
    let mut applied = Applied::new(&config, at(0));
    let replicas = [2, 3, 2].map(|ready| applied.reconcile(&config, at(1), observed(1, ready)));
    assert_eq!(replicas[0], 3);
    assert_eq!(replicas[2], 1);
}

#[test]
fn a_revision_that_starts_at_zero_stays_there_until_a_request_comes() {
    let config = Config { initial_scale: 0, ..config() };
    let mut applied = Applied::new(&config, at(0));
    assert_eq!(applied.reconcile(&config, at(0), observed(-1, 0)), 0);
    assert_eq!(applied.condition(), Condition::Inactive);
    assert_eq!(applied.reconcile(&config, at(2), observed(0, 0)), 0);
    assert_eq!(applied.reconcile(&config, at(4), observed(2, 0)), 2);
}
