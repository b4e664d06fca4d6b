use std::collections::BTreeMap;

use super::*;
use crate::kpa::{Activity, Cluster};

const MILLISECOND: i64 = 1_000_000;

/// Simulates requests that each take `work`, on replicas that start cold, in steps of 10 ms.
struct World {
    now: i64,
    scaler: Scaler,
    activity: Activity,
    /// The times at which each replica becomes ready and becomes free again.
    replicas: Vec<(i64, i64)>,
    queued: usize,
    running: usize,
    most_ready: u32,
}

impl World {
    fn new(annotations: &[(&str, &str)]) -> Self {
        let cluster = Cluster { allow_zero_initial_scale: true, initial_scale: 0, ..Cluster::default() };
        let annotations: BTreeMap<String, String> = annotations
            .iter()
            .map(|(key, value)| (format!("autoscaling.knative.dev/{key}"), value.to_string()))
            .collect();
        let start = Time::from_unix_nanos(1_700_000_000_300 * MILLISECOND);
        World {
            now: 1_700_000_000_300,
            scaler: Scaler::new(Config::resolve(&cluster, &annotations, 1), start),
            activity: Activity::new(start),
            replicas: Vec::new(),
            queued: 0,
            running: 0,
            most_ready: 0,
        }
    }

    fn time(&self) -> Time {
        Time::from_unix_nanos(self.now * MILLISECOND)
    }

    fn arrive(&mut self, requests: usize) {
        for _ in 0..requests {
            if let Some(report) = self.activity.arrive(self.time()) {
                self.scaler.report(self.time(), report);
            }
        }
        self.queued += requests;
    }

    fn ready(&self) -> u32 {
        self.replicas.iter().filter(|(ready, _)| *ready <= self.now).count() as u32
    }

    fn run_until(&mut self, limit_ms: i64, done: impl Fn(&World) -> bool) -> i64 {
        let start = self.now;
        while !done(self) {
            assert!(
                self.now - start < limit_ms,
                "not done after {limit_ms} ms: {} replicas, {} queued",
                self.replicas.len(),
                self.queued
            );
            self.step();
        }
        self.now - start
    }

    fn step(&mut self) {
        self.now += 10;
        let now = self.time();
        if self.now % 1000 == 0 {
            if let Some(report) = self.activity.report(now) {
                self.scaler.report(now, report);
            }
            if self.scaler.config().scrapes_replicas() && self.ready() > 0 {
                self.scaler.report(now, 0.0);
            }
        }
        for (ready, free) in &mut self.replicas {
            if *free == self.now {
                self.running -= 1;
                self.activity.leave(now);
            }
            if *ready <= self.now && *free <= self.now && self.queued > 0 {
                self.queued -= 1;
                self.running += 1;
                *free = self.now + 20_000;
            }
        }
        let wanted = self.scaler.poll(now, self.ready()) as usize;
        while self.replicas.len() < wanted {
            self.replicas.push((self.now + 1000, 0));
        }
        let surplus = self.replicas.len().saturating_sub(wanted);
        for _ in 0..surplus {
            if let Some(idle) = self.replicas.iter().position(|(_, free)| *free <= self.now) {
                self.replicas.remove(idle);
            }
        }
        self.most_ready = self.most_ready.max(self.ready());
    }
}

#[test]
fn ten_requests_of_twenty_seconds_run_as_they_do_on_a_cluster() {
    // These numbers were measured on a real control plane with a cold start of 1 s: most pods, time
    // until all are ready, time until zero after the last answer (seconds, +- 3).
    for (annotations, most, ready_after, zero_after) in [
        (&[][..], 15, 8_100, 61_000),
        (&[("target-utilization-percentage", "100")], 10, 8_600, 61_000),
        (&[("window", "6s")], 15, 6_300, 9_500),
        (
            &[
                ("target-utilization-percentage", "100"),
                ("target-burst-capacity", "-1"),
                ("panic-threshold-percentage", "110"),
                ("max-scale", "20"),
            ],
            10,
            3_400,
            64_000,
        ),
    ] {
        let mut world = World::new(annotations);
        world.run_until(5_000, |w| w.now % 5_000 == 0);
        world.arrive(10);
        let grown = world.run_until(15_000, |w| w.ready() >= most);
        world.run_until(60_000, |w| w.queued + w.running == 0);
        let shrunk = world.run_until(80_000, |w| w.replicas.is_empty());
        assert_eq!(world.most_ready, most, "{annotations:?}");
        assert!((grown - ready_after).abs() <= 5_000, "{annotations:?}: all ready after {grown} ms");
        assert!((shrunk - zero_after).abs() <= 4_000, "{annotations:?}: zero after {shrunk} ms");
    }
}

#[test]
fn the_first_request_at_zero_is_decided_on_at_once() {
    let mut world = World::new(&[("target-burst-capacity", "-1")]);
    world.run_until(20_000, |w| w.now % 5_000 == 30);
    world.arrive(1);
    world.step();
    assert!(!world.replicas.is_empty());
}

fn at(millis: i64) -> Time {
    Time::from_unix_nanos(millis * MILLISECOND)
}

/// Returns the scaler of a revision without replicas, made at time zero.
fn at_zero() -> Scaler {
    let annotations = [("autoscaling.knative.dev/target-burst-capacity".to_owned(), "-1".to_owned())];
    let cluster = Cluster { allow_zero_initial_scale: true, initial_scale: 0, ..Cluster::default() };
    Scaler::new(Config::resolve(&cluster, &BTreeMap::from(annotations), 1), at(0))
}

#[test]
fn load_at_zero_is_decided_on_at_once_and_the_ticks_keep_their_beat() {
    let mut scaler = at_zero();
    assert_eq!((scaler.poll(at(2_000), 0), scaler.next_poll()), (0, at(4_000)));
    scaler.report(at(2_700), 1.0);
    assert_eq!(scaler.next_poll(), at(2_700));
    assert_eq!((scaler.poll(at(2_700), 0), scaler.next_poll()), (2, at(4_000)));
    // A late driver has missed several ticks; it makes up for one.
    scaler.poll(at(9_100), 2);
    assert_eq!(scaler.next_poll(), at(10_000));
}

#[test]
fn ticks_can_begin_with_the_load_at_zero() {
    let mut scaler = at_zero().waking_with_load();
    assert_eq!((scaler.poll(at(2_000), 0), scaler.next_poll()), (0, at(4_000)));
    scaler.report(at(2_700), 1.0);
    assert_eq!((scaler.poll(at(2_700), 0), scaler.next_poll()), (2, at(4_700)));
    // Load at a replica does not change the rhythm.
    scaler.report(at(3_000), 1.0);
    assert_eq!(scaler.next_poll(), at(4_700));
}
