use std::time::Duration;

use super::*;
use crate::knative::kpa::{Cluster, Config};
use crate::plan::{Arrivals, Bridge, Durations, Load, Service, Start};

const SECOND: Duration = Duration::from_secs(1);

/// Ten items of a minute, and a service that nothing can be said against.
fn good() -> Scenario {
    let cluster = Cluster {
        target_utilization: 1.0,
        panic_threshold_percentage: 110.0,
        target_burst_capacity: -1.0,
        max_scale: 10,
        ..Cluster::default()
    };
    let mut service = Service::new(Config::resolve(&cluster, &Default::default(), 1));
    service.timeout = 3600 * SECOND;
    service.response_start = ResponseStart::Unlimited;
    Scenario {
        name: "good".to_owned(),
        load: Load {
            arrivals: vec![Arrivals::Backlog(10)],
            durations: Durations::Fixed(60 * SECOND),
            failure_rate: 0.0,
        },
        bridge: Bridge::new(10),
        service,
        start: Start::Idle,
        price: None,
    }
}

fn advised(change: impl FnOnce(&mut Scenario)) -> Vec<Advice> {
    let mut scenario = good();
    change(&mut scenario);
    advise(&Forecast::make(scenario, 1, 1).unwrap())
}

#[test]
fn nothing_is_said_against_good_settings() {
    assert_eq!(advised(|_| ()), []);
}

#[test]
fn each_setting_that_hurts_is_named_with_its_weight() {
    type Change = fn(&mut Scenario);
    let cases: [(Change, Weight, &str); 9] = [
        (
            |s| s.service.response_start = ResponseStart::Default(50 * SECOND),
            Weight::Harm,
            "responseStartTimeoutSeconds",
        ),
        (
            |s| s.service.response_start = ResponseStart::Default(300 * SECOND),
            Weight::Note,
            "responseStartTimeoutSeconds",
        ),
        (|s| s.service.timeout = 50 * SECOND, Weight::Harm, "timeoutSeconds"),
        (|s| s.service.idle_timeout = Some(50 * SECOND), Weight::Harm, "idleTimeoutSeconds"),
        (|s| s.service.autoscaling.max_scale = 5, Weight::Cost, "max-scale"),
        (|s| s.service.autoscaling.max_scale = 0, Weight::Note, "max-scale"),
        (|s| s.service.autoscaling.target_value = 0.7, Weight::Note, "target-utilization-percentage"),
        (|s| s.service.autoscaling.panic_threshold = 2.0, Weight::Note, "panic-threshold-percentage"),
        (|s| s.service.autoscaling.scale_down_delay = 300 * SECOND, Weight::Cost, "scale-down-delay"),
    ];
    for (index, (change, weight, setting)) in cases.into_iter().enumerate() {
        let all = advised(change);
        assert!(
            all.iter().any(|one| (one.weight, one.setting) == (weight, setting)),
            "case {index}: {all:?}"
        );
    }
}

#[test]
fn a_timeout_shorter_than_wait_and_work_is_harm_and_the_mend_helps() {
    let all = advised(|scenario| {
        scenario.service.autoscaling.max_scale = 5;
        scenario.service.timeout = 100 * SECOND;
    });
    let first = &all[0];
    assert_eq!((first.weight, first.setting), (Weight::Harm, "timeoutSeconds"));
    assert!(first.why.contains("waits for a replica"), "{}", first.why);
    let (then, now) = (first.then.unwrap(), good());
    let run = run(&now, 1).unwrap();
    // Two rounds in place of one, none of them cut.
    assert!(then.drain_seconds.unwrap() < 2.0 * run.drained.unwrap().as_secs_f64() + 5.0, "{then:?}");
}

#[test]
fn a_surplus_of_replicas_costs_and_the_mend_says_how_much() {
    let all = advised(|scenario| {
        scenario.service.autoscaling.target_value = 0.7;
        scenario.service.autoscaling.max_scale = 0;
    });
    let found = all.iter().find(|one| one.setting == "target-utilization-percentage").unwrap();
    assert_eq!(found.weight, Weight::Cost);
    assert!(found.why.contains("10 requests ask for 15 replicas"), "{}", found.why);
    assert!(found.then.unwrap().replica_seconds > 0.0);
}
