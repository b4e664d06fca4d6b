//! The autoscaler of one revision: its metric over two windows, and the decisions from it.

use super::buckets::Buckets;
use super::config::Config;
use super::decide::{Decider, Decision};
use super::time::Time;

/// Takes the metric in [`record`](Self::record) and decides in [`decide`](Self::decide). It has no
/// clock and does no I/O.
#[derive(Clone, Debug)]
pub struct Autoscaler {
    config: Config,
    stable: Buckets,
    panic: Buckets,
    decider: Decider,
}

impl Autoscaler {
    /// Starts when `ready` replicas are already up.
    pub fn new(config: Config, now: Time, ready: u32) -> Self {
        Autoscaler {
            stable: Buckets::new(config.stable_window.as_secs() as usize, config.aggregation),
            panic: Buckets::new(config.panic_window.as_secs() as usize, config.aggregation),
            decider: Decider::new(&config, now, ready),
            config,
        }
    }

    /// Adds one report of the metric: mean requests in flight, or requests per second, as the
    /// configuration says. Reports of several places in the same second add up.
    pub fn record(&mut self, now: Time, value: f64) {
        self.stable.record(now.second(), value);
        self.panic.record(now.second(), value);
    }

    /// Returns the decision at `now`. `None` means that nothing is known, because replicas are
    /// scraped and no report came for a whole window. The last decision then stays.
    pub fn decide(&mut self, now: Time, ready: u32) -> Option<Decision> {
        let second = now.second();
        if self.config.scrapes_replicas() && self.stable.is_empty(second) {
            return None;
        }
        let averages = (self.stable.average(second), self.panic.average(second));
        Some(self.decider.decide(&self.config, now, averages, ready))
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn is_panicking(&self) -> bool {
        self.decider.is_panicking()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::kpa::Cluster;

    fn annotated(annotations: &[(&str, &str)]) -> Config {
        let annotations: BTreeMap<String, String> = annotations
            .iter()
            .map(|(k, v)| (format!("autoscaling.knative.dev/{k}"), v.to_string()))
            .collect();
        Config::resolve(&Cluster::default(), &annotations, 1)
    }

    fn second(s: i64) -> Time {
        Time::from_unix_nanos(1_700_000_000_000_000_000 + s * 1_000_000_000)
    }

    #[test]
    fn a_steady_load_settles_at_the_load_over_the_utilization() {
        // These values were measured with the real autoscaler at containerConcurrency 1.
        let utilizations = ["70", "80", "90", "100"];
        for (in_flight, expected) in [
            (1, [2, 2, 2, 1]),
            (3, [5, 4, 4, 3]),
            (5, [8, 7, 6, 5]),
            (10, [15, 13, 12, 10]),
            (20, [29, 25, 23, 20]),
            (100, [143, 125, 112, 100]),
        ] {
            for (utilization, expected) in utilizations.iter().zip(expected) {
                let config = annotated(&[("target-utilization-percentage", utilization)]);
                let mut autoscaler = Autoscaler::new(config, second(0), 0);
                let mut ready = 0;
                for s in 0..200 {
                    autoscaler.record(second(s), f64::from(in_flight));
                    if s % 2 == 0 {
                        ready = autoscaler.decide(second(s), ready).unwrap().desired.unsigned_abs();
                    }
                }
                assert_eq!(ready, expected, "{in_flight} in flight at {utilization} %");
            }
        }
    }

    #[test]
    fn ten_at_once_from_zero_are_asked_for_in_one_step() {
        let mut autoscaler =
            Autoscaler::new(annotated(&[("target-utilization-percentage", "100")]), second(0), 0);
        autoscaler.record(second(0), 10.0);
        assert_eq!(autoscaler.decide(second(0), 0).unwrap().desired, 10);
        assert!(autoscaler.is_panicking());
    }

    #[test]
    fn without_data_a_scraped_revision_keeps_its_scale_and_another_goes_to_zero() {
        let mut scraped = Autoscaler::new(annotated(&[]), second(0), 0);
        assert_eq!(scraped.decide(second(0), 3), None);
        let mut silent = Autoscaler::new(annotated(&[("target-burst-capacity", "-1")]), second(0), 0);
        let decision = silent.decide(second(0), 0).unwrap();
        assert_eq!((decision.desired, decision.excess_burst_capacity), (0, -1));
    }

    #[test]
    fn an_autoscaler_that_starts_over_running_replicas_keeps_them_for_a_window() {
        let mut autoscaler = Autoscaler::new(annotated(&[("target-burst-capacity", "-1")]), second(0), 7);
        assert_eq!(autoscaler.decide(second(2), 7).unwrap().desired, 7);
        assert_eq!(
            autoscaler.decide(second(60), 7).unwrap().desired,
            7,
            "the window must have passed, not only been reached"
        );
        assert_eq!(
            autoscaler.decide(second(61), 7).unwrap().desired,
            3,
            "half of them, by max-scale-down-rate"
        );
    }
}
