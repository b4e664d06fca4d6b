//! Compares the planner with reality: recordings of a real control plane, the measured demo, and
//! numbers that follow from the arithmetic.

use std::collections::BTreeMap;
use std::time::Duration;

use longhaul::cli::plan::with_defaults;
use longhaul::knative::kpa::{Cluster, Config};
use longhaul::plan::{Arrivals, Durations, Forecast, Load, Scenario, Service, Start, run};

mod command;
mod curves;

const SECOND: Duration = Duration::from_secs(1);

/// Returns this many items of the same length, all there at the start.
fn backlog(items: usize, duration: Duration, max_in_flight: u32, service: Service) -> Scenario {
    Scenario {
        name: "test".to_owned(),
        load: Load {
            arrivals: vec![Arrivals::Backlog(items)],
            durations: Durations::Fixed(duration),
            failure_rate: 0.0,
        },
        bridge: with_defaults(max_in_flight),
        service,
        start: Start::Idle,
        price: None,
    }
}

fn service(cluster: &Cluster, annotations: &[(&str, &str)]) -> Service {
    let annotations: BTreeMap<String, String> = annotations
        .iter()
        .map(|(key, value)| (format!("autoscaling.knative.dev/{key}"), (*value).to_owned()))
        .collect();
    let mut service = Service::new(Config::resolve(cluster, &annotations, 1));
    service.timeout = 3600 * SECOND;
    service.response_start = longhaul::plan::ResponseStart::Unlimited;
    service
}

/// `longhaul demo` takes 14.0 s from its first request to its last answer with this service.
#[test]
fn the_demo_is_forecast_within_a_tenth() {
    let cluster = Cluster {
        allow_zero_initial_scale: true,
        initial_scale: 0,
        target_utilization: 1.0,
        target_burst_capacity: -1.0,
        stable_window: 6 * SECOND,
        panic_threshold_percentage: 110.0,
        max_scale: 10,
        ..Cluster::default()
    };
    let scenario = backlog(60, 2 * SECOND, 10, service(&cluster, &[]));
    let took = Forecast::make(scenario, 1, 25).unwrap().spread(|run| run.worked().as_secs_f64());
    assert!((12.6..=15.4).contains(&took.median), "{took:?}");
}

/// Knative's own numbers for one request per replica, from a real run of its autoscaler.
#[test]
fn steady_requests_get_the_replicas_that_the_arithmetic_asks_for() {
    for (in_flight, replicas) in [
        (1, [2, 2, 2, 1]),
        (3, [5, 4, 4, 3]),
        (5, [8, 7, 6, 5]),
        (10, [15, 13, 12, 10]),
        (20, [29, 25, 23, 20]),
    ] {
        for (utilization, expected) in ["70", "80", "90", "100"].into_iter().zip(replicas) {
            let service = service(&Cluster::default(), &[("target-utilization-percentage", utilization)]);
            let scenario = backlog(in_flight, 200 * SECOND, in_flight as u32, service);
            let run = run(&scenario, 1).unwrap();
            assert_eq!(run.most_replicas, expected, "{in_flight} in flight at {utilization} %");
            assert_eq!(run.cold_starts, expected, "none is started twice");
        }
    }
}

#[test]
fn with_scale_to_zero_off_one_replica_stays() {
    let cluster = Cluster { enable_scale_to_zero: false, ..Cluster::default() };
    let run = run(&backlog(4, 30 * SECOND, 2, service(&cluster, &[])), 1).unwrap();
    assert_eq!(run.curve.points().first().unwrap().ready, 1, "it is there before the first item");
    let last = run.curve.points().last().unwrap();
    assert_eq!((last.desired, last.replicas()), (1, 1));
    assert!(run.to_floor.is_some());
}

/// Five replicas serve twenty requests, which may wait and run for fifty seconds and take twenty.
/// The first ten finish in two rounds. The other ten are cut at fifty seconds, five of them while
/// they run, as on the real control plane.
#[test]
fn the_timeout_runs_while_a_request_waits() {
    let mut service = service(&Cluster::default(), &[("max-scale", "5"), ("window", "6s")]);
    service.timeout = 50 * SECOND;
    let mut scenario = backlog(20, 20 * SECOND, 20, service);
    scenario.bridge.policy.retry.attempts = 1;
    let run = run(&scenario, 1).unwrap();
    assert_eq!((run.totals.done(), run.cut, run.totals.dead_lettered), (10, 10, 10));
    assert_eq!(run.last_answer, 50 * SECOND);
}

#[test]
fn failures_are_retried_by_the_core_and_dead_lettered_in_the_end() {
    let mut scenario = backlog(500, SECOND, 10, service(&Cluster::default(), &[]));
    scenario.load.failure_rate = 0.5;
    scenario.bridge.policy.retry.attempts = 2;
    let run = run(&scenario, 7).unwrap();
    assert_eq!(run.totals.settled, 500);
    assert_eq!(run.attempts, 500 + run.totals.retries);
    assert!((95..155).contains(&run.totals.dead_lettered), "a quarter of 500: {}", run.totals.dead_lettered);
}

#[test]
fn what_nobody_may_drop_is_held_and_the_load_never_drains() {
    let mut scenario = backlog(100, SECOND, 10, service(&Cluster::default(), &[]));
    scenario.load.failure_rate = 1.0;
    scenario.bridge.policy.targets.dead_letter = false;
    scenario.bridge.policy.on_failed = longhaul::delivery::OnFailed::Hold;
    let run = run(&scenario, 1).unwrap();
    assert_eq!((run.drained, run.totals.settled), (None, 0));
    assert!(
        (5..20).contains(&run.totals.held),
        "five, and those that were running then: {}",
        run.totals.held
    );
    assert!(run.to_floor.is_some(), "the replicas go all the same");
}

#[test]
fn several_bridges_share_one_queue_and_add_up() {
    let mut scenario = backlog(60, 10 * SECOND, 5, service(&Cluster::default(), &[]));
    scenario.bridge.replicas = 2;
    let two = run(&scenario, 1).unwrap();
    scenario.bridge = with_defaults(10);
    let one = run(&scenario, 1).unwrap();
    assert_eq!((two.drained, two.most_replicas), (one.drained, one.most_replicas));
}

/// This load must be simulated within ten seconds on one core, which needs an optimised build.
#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "takes minutes without optimisation, as the core then checks itself at each step"
)]
fn a_million_items_are_planned_within_ten_seconds() {
    let service = service(&Cluster::default(), &[("max-scale", "100")]);
    let started = std::time::Instant::now();
    let run = run(&backlog(1_000_000, 60 * SECOND, 100, service), 1).unwrap();
    let took = started.elapsed();
    println!("{took:?} for {:?} of virtual time", run.drained);
    assert_eq!(run.totals.done(), 1_000_000);
    assert!(took < 10 * SECOND, "{took:?}");
}
