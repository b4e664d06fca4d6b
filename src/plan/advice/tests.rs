use std::time::Duration;

use super::*;
use crate::cli::plan::with_defaults;
use crate::knative::kpa::{Cluster, Config};
use crate::plan::{Arrivals, Durations, Load, Service, Start};

const SECOND: Duration = Duration::from_secs(1);

/// Ten items of a minute each, and a service without any fault.
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
        bridge: with_defaults(10),
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
    // The work takes two rounds instead of one, and no request is cut.
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

/// Twenty requests and five replicas, each busy for a hundred seconds: the last requests wait three
/// rounds. A run in which all are cut at 150 s does not show that.
#[test]
fn the_timeout_that_is_advised_cuts_nothing() {
    let cut = |scenario: &Scenario| run(scenario, 1).unwrap().cut;
    for (timeout, work) in [(150, 100), (50, 100), (300, 100)] {
        let mut scenario = good();
        scenario.load.arrivals = vec![Arrivals::Backlog(20)];
        scenario.load.durations = Durations::Fixed(work * SECOND);
        scenario.bridge = with_defaults(20);
        scenario.service.autoscaling.max_scale = 5;
        scenario.service.timeout = timeout * SECOND;
        assert!(cut(&scenario) > 0, "{timeout} s");
        let advice = advise(&Forecast::make(scenario.clone(), 1, 1).unwrap());
        let help = &advice.iter().find(|one| one.setting == "timeoutSeconds").unwrap().help;
        let (_, number) = help.split_once("timeoutSeconds: ").unwrap();
        let (number, rest) = number.split_once(' ').unwrap();
        assert_eq!(rest, "with responseStartTimeoutSeconds: 0", "both, or Knative's default cuts instead");
        scenario.service.timeout = Duration::from_secs(number.parse().unwrap());
        assert_eq!(cut(&scenario), 0, "{timeout} s: {help}");
    }
}

/// The activator counts from the arrival: a minute of work after a minute of waiting is cut at 90
/// s.
#[test]
fn the_idle_timeout_runs_while_a_request_waits() {
    let change = |scenario: &mut Scenario| {
        scenario.service.autoscaling.max_scale = 5;
        scenario.service.idle_timeout = Some(90 * SECOND);
    };
    let mut scenario = good();
    change(&mut scenario);
    assert!(run(&scenario, 1).unwrap().cut > 0);
    let all = advised(change);
    let found = all.iter().find(|one| one.setting == "idleTimeoutSeconds").unwrap();
    assert_eq!((found.weight, found.help.as_str()), (Weight::Harm, "idleTimeoutSeconds: 0"));
    assert!(found.then.unwrap().drain_seconds.unwrap() < 130.0, "two rounds, none of them cut");
}

/// An annotation is a text: Knative refuses a number without quotes.
#[test]
fn annotations_are_advised_in_quotes() {
    for max_scale in [0, 5, 40] {
        let all = advised(|scenario| scenario.service.autoscaling.max_scale = max_scale);
        let found = all.iter().find(|one| one.setting == "max-scale").unwrap();
        assert!(found.help.starts_with("max-scale: \"10\""), "{}", found.help);
    }
}
