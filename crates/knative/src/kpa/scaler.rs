//! The autoscaler and the reconciler on one clock: reports and ready counts go in, the number of
//! replicas comes out.

use std::time::Duration;

use super::apply::{Applied, Condition, Observed};
use super::autoscaler::Autoscaler;
use super::config::Config;
use super::time::Time;

/// How often the autoscaler decides.
pub const TICK: Duration = Duration::from_secs(2);

/// Scales one revision. It has no clock: call [`poll`](Self::poll) when
/// [`next_poll`](Self::next_poll) comes, after each report, and whenever the number of ready
/// replicas changes.
#[derive(Clone, Debug)]
pub struct Scaler {
    autoscaler: Autoscaler,
    applied: Applied,
    next_tick: Time,
    /// Whether load that wakes a revision from zero restarts the rhythm of the ticks.
    wakes_with_load: bool,
    /// The time of an extra decision, because load came in at zero replicas. The rhythm of the
    /// ticks stays.
    poked: Option<Time>,
    /// The newest decision, and the ready count with which it was last applied.
    observed: Option<Observed>,
    desired: i32,
    excess_burst_capacity: i32,
    /// The averages of the last decision.
    averages: Averages,
}

/// The metric's means over the two windows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Averages {
    pub stable: f64,
    pub panic: f64,
}

impl Scaler {
    pub fn new(config: Config, now: Time) -> Self {
        Scaler {
            applied: Applied::new(&config, now),
            excess_burst_capacity: initial_excess(&config),
            autoscaler: Autoscaler::new(config, now, 0),
            next_tick: now + TICK,
            wakes_with_load: false,
            poked: None,
            observed: None,
            desired: -1,
            averages: Averages::default(),
        }
    }

    /// Makes load that wakes a revision from zero also restart the ticks. Knative's ticks run all
    /// the time, so chance decides their position relative to the load. Here every such load gets
    /// the same position and the same result.
    pub fn waking_with_load(mut self) -> Self {
        self.wakes_with_load = true;
        self
    }

    /// Takes one report of the metric. Load on a revision at zero makes the next decision due at
    /// once.
    pub fn report(&mut self, now: Time, value: f64) {
        self.autoscaler.record(now, value);
        if value == 0.0 || self.desired > 0 {
            return;
        }
        if self.desired == 0 {
            self.poked = Some(now);
        }
        if self.wakes_with_load {
            self.next_tick = now;
        }
    }

    /// Makes and applies the decisions that are due, and returns the wanted number of replicas.
    /// `ready` does not count terminating ones.
    pub fn poll(&mut self, now: Time, ready: u32) -> u32 {
        let ticks = now >= self.next_tick;
        while self.next_tick <= now {
            self.next_tick = self.next_tick + TICK;
        }
        let due = self.poked.take().is_some() || ticks;
        if let Some(decision) = due.then(|| self.autoscaler.decide(now, ready)).flatten() {
            self.desired = decision.desired;
            self.excess_burst_capacity = decision.excess_burst_capacity;
            self.averages = Averages { stable: decision.stable, panic: decision.panic };
        }
        let observed =
            Observed { desired: self.desired, excess_burst_capacity: self.excess_burst_capacity, ready };
        let due = self.applied.again().is_some_and(|again| now >= again);
        if due || self.observed.is_none_or(|last| differs(last, observed)) {
            self.observed = Some(observed);
            self.applied.reconcile(self.autoscaler.config(), now, observed);
        }
        self.applied.replicas()
    }

    /// Returns the time of the next poll, if nothing happens before.
    pub fn next_poll(&self) -> Time {
        let next = self.poked.map_or(self.next_tick, |poked| poked.min(self.next_tick));
        self.applied.again().map_or(next, |again| again.min(next))
    }

    pub fn config(&self) -> &Config {
        self.autoscaler.config()
    }

    pub fn is_panicking(&self) -> bool {
        self.autoscaler.is_panicking()
    }

    /// Returns the averages that led to the last decision.
    pub fn averages(&self) -> Averages {
        self.averages
    }

    /// Whether requests go through the activator and do not bypass it.
    pub fn is_proxied(&self) -> bool {
        self.applied.is_proxied()
    }

    pub fn condition(&self) -> Condition {
        self.applied.condition()
    }
}

/// Whether the decision must be applied again. Only the sign of the burst capacity matters, because
/// only the sign moves the activator.
fn differs(last: Observed, now: Observed) -> bool {
    last.desired != now.desired
        || last.ready != now.ready
        || (last.excess_burst_capacity < 0) != (now.excess_burst_capacity < 0)
}

/// Returns the spare capacity of the initial scale, for the time before the first decision.
fn initial_excess(config: &Config) -> i32 {
    if config.target_burst_capacity <= 0.0 {
        return config.target_burst_capacity as i32;
    }
    (f64::from(config.initial_scale) * config.total_value - config.target_burst_capacity) as i32
}

#[cfg(test)]
mod tests;
