//! One decision: how many replicas the load asks for (Knative Serving,
//! `pkg/autoscaler/scaling/autoscaler.go`, `Scale`).

use super::config::Config;
use super::delay::DelayWindow;
use super::time::Time;

/// The decision of the autoscaler at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// The average over the stable window.
    pub stable: f64,
    /// The average over the panic window.
    pub panic: f64,
    /// The wanted replicas, before the scale bounds are applied.
    pub desired: i32,
    /// The load that the ready replicas could take on top of the current load and the target burst.
    /// Below zero the activator must be in the path.
    pub excess_burst_capacity: i32,
}

/// The state that is kept from one decision to the next.
#[derive(Clone, Debug)]
pub struct Decider {
    delay: Option<DelayWindow>,
    /// When the panic threshold was last exceeded, while it panics.
    panicking: Option<Time>,
    /// The highest number of replicas that this panic has asked for.
    most_in_panic: i32,
}

impl Decider {
    /// Starts in panic if more than one replica is ready: a restarted autoscaler has no history,
    /// and would otherwise remove replicas that the load still needs.
    pub fn new(config: &Config, now: Time, ready: u32) -> Self {
        Decider {
            delay: DelayWindow::new(config.scale_down_delay),
            panicking: (ready > 1).then_some(now),
            most_in_panic: i32::try_from(ready).unwrap_or(i32::MAX),
        }
    }

    /// Decides from the two averages and the count of replicas that are ready and not terminating.
    pub fn decide(
        &mut self,
        config: &Config,
        now: Time,
        (stable, panic): (f64, f64),
        ready: u32,
    ) -> Decision {
        let base = f64::from(ready).max(1.0);
        let most = (config.max_scale_up_rate * base).ceil();
        let least = if config.reachable { (base / config.max_scale_down_rate).floor() } else { 0.0 };
        let for_stable = (stable / config.target_value).ceil();
        let for_panic = (panic / config.target_value).ceil();
        let limited = |replicas: f64| activated(config, replicas, replicas.max(least).min(most) as i32);
        let (by_stable, by_panic) = (limited(for_stable), limited(for_panic));

        self.follow_panic(config, now, for_panic / base >= config.panic_threshold);
        let mut desired = by_stable;
        if self.panicking.is_some() {
            // Panic never scales down.
            self.most_in_panic = self.most_in_panic.max(desired).max(by_panic);
            desired = self.most_in_panic;
        }
        if let Some(delay) = self.delay.as_mut().filter(|_| config.reachable) {
            desired = delay.highest(now, desired);
        }
        Decision {
            stable,
            panic,
            desired,
            excess_burst_capacity: excess_burst_capacity(config, panic, ready),
        }
    }

    pub fn is_panicking(&self) -> bool {
        self.panicking.is_some()
    }

    fn follow_panic(&mut self, config: &Config, now: Time, over_threshold: bool) {
        if over_threshold {
            self.panicking = Some(now);
        } else if self.panicking.is_some_and(|since| since + config.stable_window < now) {
            self.panicking = None;
            self.most_in_panic = 0;
        }
    }
}

/// Applies `activation-scale`: at least this many replicas if there is any load.
fn activated(config: &Config, wanted: f64, limited: i32) -> i32 {
    if config.activation_scale > 1 && wanted > 0.0 { limited.max(config.activation_scale) } else { limited }
}

/// Compares with the panic window and the real number of ready replicas: zero replicas have no
/// capacity.
fn excess_burst_capacity(config: &Config, panic: f64, ready: u32) -> i32 {
    let burst = config.target_burst_capacity;
    if burst == 0.0 {
        0
    } else if burst > 0.0 {
        (f64::from(ready) * config.total_value - burst - panic).floor() as i32
    } else {
        -1
    }
}
