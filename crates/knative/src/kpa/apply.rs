//! Turns a decision into a number of replicas: scale bounds, the initial scale, and the way to zero
//! (Knative Serving, `pkg/reconciler/autoscaling/kpa/{kpa,scaler}.go`).
//!
//! The *activator* is Knative's proxy that holds requests until a replica is ready. It is in the
//! path of all requests while the replicas could not take a burst.

use std::time::Duration;

use super::config::Config;
use super::time::Time;

/// How long after the progress deadline replicas that never became ready are given up.
const PROGRESS_DEADLINE_GRACE: Duration = Duration::from_secs(30);
/// The most passes of one call. A change of the status starts another pass; the longest sequence is
/// active, inactive, zero.
const PASSES: usize = 3;

/// The newest decision, and the number of replicas that are up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// -1 before the first decision.
    pub desired: i32,
    pub excess_burst_capacity: i32,
    pub ready: u32,
}

/// The state of a PodAutoscaler: the wanted number of replicas, and the progress towards zero.
#[derive(Clone, Debug)]
pub struct Applied {
    replicas: u32,
    condition: Condition,
    /// The time at which the condition last changed.
    since: Time,
    /// The time since which the activator is in the path; `None` while requests bypass it.
    proxied_since: Option<Time>,
    /// Whether the initial scale has been reached. It has no effect after that.
    initialized: bool,
    /// The time of the next look, even if nothing changes.
    again: Option<Time>,
}

/// The PodAutoscaler's condition `Active`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Activating,
    Active,
    Inactive,
}

/// The result of one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// This many replicas are wanted.
    Scale(u32),
    /// Zero is wanted, but must wait.
    ZeroLater,
    /// Nothing is known, so the count stays.
    Unknown,
}

impl Applied {
    /// Returns a new revision. It has its initial scale from the first moment, with the activator
    /// in the path.
    pub fn new(config: &Config, now: Time) -> Self {
        Applied {
            replicas: config.initial_scale,
            condition: Condition::Activating,
            since: now,
            proxied_since: Some(now),
            initialized: false,
            again: None,
        }
    }

    /// Brings the count up to date. Call it when the decision, the sign of the excess burst
    /// capacity or the ready replicas have changed, and at the time of [`again`](Self::again).
    pub fn reconcile(&mut self, config: &Config, now: Time, observed: Observed) -> u32 {
        self.again = None;
        for _ in 0..PASSES {
            let wanted = self.wanted(config, now, observed.desired);
            if let Wanted::Scale(replicas) = wanted {
                self.replicas = replicas;
            }
            self.route(now, wanted, observed.excess_burst_capacity);
            if !self.update_condition(config, now, wanted, observed.ready) {
                break;
            }
        }
        self.replicas
    }

    pub fn replicas(&self) -> u32 {
        self.replicas
    }

    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// Whether the activator is in the path.
    pub fn is_proxied(&self) -> bool {
        self.proxied_since.is_some()
    }

    pub fn again(&self) -> Option<Time> {
        self.again
    }

    fn wanted(&mut self, config: &Config, now: Time, desired: i32) -> Wanted {
        if desired < 0 && self.condition != Condition::Activating {
            return Wanted::Unknown;
        }
        let mut min = min_scale(config);
        if config.initial_scale > 1 && !self.initialized && config.reachable {
            min = min.max(config.initial_scale);
        }
        // Knative compares with the minimum first, so a minimum above the maximum wins.
        let desired = u32::try_from(desired).unwrap_or(0);
        let bounded = if desired < min {
            min
        } else if config.max_scale != 0 {
            desired.min(config.max_scale)
        } else {
            desired
        };
        if bounded == 0 { self.go_to_zero(config, now) } else { Wanted::Scale(bounded) }
    }

    fn go_to_zero(&mut self, config: &Config, now: Time) -> Wanted {
        if !config.enable_scale_to_zero {
            return Wanted::Scale(1);
        }
        match self.condition {
            Condition::Activating => {
                let given_up = self.since + config.progress_deadline + PROGRESS_DEADLINE_GRACE;
                if now > given_up {
                    return Wanted::Scale(0);
                }
                self.look_again(given_up + Duration::from_nanos(1));
                Wanted::Unknown
            }
            Condition::Active => {
                let idle_from = self.since + config.stable_window;
                if now >= idle_from {
                    return Wanted::ZeroLater;
                }
                self.look_again(idle_from);
                Wanted::Scale(1)
            }
            Condition::Inactive => self.finish_inactive(config, now),
        }
    }

    /// Waits for the grace period with the activator in the path before it returns zero, so that no
    /// request meets a replica that goes away.
    fn finish_inactive(&mut self, config: &Config, now: Time) -> Wanted {
        let Some(proxied_since) = self.proxied_since else {
            return Wanted::ZeroLater;
        };
        let retention = if config.reachable { config.scale_to_zero_pod_retention } else { Duration::ZERO };
        let grace = config.scale_to_zero_grace_period;
        if now.since(self.since) >= grace.max(retention) {
            return Wanted::Scale(0);
        }
        if now.since(self.since) < retention {
            self.look_again(self.since + retention);
            return Wanted::ZeroLater;
        }
        if now.since(proxied_since) >= grace {
            return Wanted::Scale(0);
        }
        self.look_again(proxied_since + grace);
        Wanted::ZeroLater
    }

    fn route(&mut self, now: Time, wanted: Wanted, excess_burst_capacity: i32) {
        let some_wanted = match wanted {
            Wanted::Scale(replicas) => replicas > 0,
            Wanted::ZeroLater => false,
            Wanted::Unknown => self.condition != Condition::Inactive,
        };
        let past_the_activator = some_wanted && excess_burst_capacity >= 0;
        if past_the_activator {
            self.proxied_since = None;
        } else if self.proxied_since.is_none() {
            self.proxied_since = Some(now);
        }
    }

    /// Whether the condition changed.
    fn update_condition(&mut self, config: &Config, now: Time, wanted: Wanted, ready: u32) -> bool {
        let at_least = min_scale(config).max(if self.initialized { 1 } else { config.initial_scale });
        self.initialized |= ready >= at_least;
        let some_wanted = matches!(wanted, Wanted::Scale(1..));
        let next = match wanted {
            Wanted::Scale(0) | Wanted::ZeroLater => Condition::Inactive,
            _ if at_least == 0 => Condition::Inactive,
            _ if !some_wanted && self.condition == Condition::Inactive => Condition::Inactive,
            _ if ready < at_least => Condition::Activating,
            _ => Condition::Active,
        };
        if next == self.condition {
            return false;
        }
        self.condition = next;
        self.since = now;
        true
    }

    fn look_again(&mut self, at: Time) {
        self.again = Some(at);
    }
}

/// The minimum holds only for a revision that a route leads to.
fn min_scale(config: &Config) -> u32 {
    if config.reachable { config.min_scale } else { 0 }
}

#[cfg(test)]
mod tests;
