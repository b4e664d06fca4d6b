//! The circuit breaker: stops requests to a service that only fails, so that a burst of failures
//! does not move a whole queue into the dead letter.

use std::time::Duration;

use super::item::ItemId;
use super::outcome::Outcome;
use super::protocol::Time;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Breaker {
    /// The number of failures in a row at which it opens; 0 means never.
    threshold: u32,
    open_for: Duration,
    state: State,
}

/// An open breaker, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpenBreaker {
    /// The outcome that opened it.
    pub cause: Outcome,
    pub since: Time,
    /// When the next probe starts; `None` while a probe may start or runs.
    pub probe: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// Requests start. The latest `failures` of them failed.
    Closed { failures: u32 },
    /// Nothing starts before `until`.
    Open { until: Time, cause: Outcome, since: Time },
    /// One item may start, or runs, to test the service.
    HalfOpen { probe: Option<ItemId>, cause: Outcome, since: Time },
}

impl Breaker {
    pub fn new(threshold: u32, open_for: Duration) -> Self {
        Breaker { threshold, open_for, state: State::Closed { failures: 0 } }
    }

    pub fn open(&self) -> Option<OpenBreaker> {
        match self.state {
            State::Closed { .. } => None,
            State::Open { until, cause, since } => Some(OpenBreaker { cause, since, probe: Some(until) }),
            State::HalfOpen { cause, since, .. } => Some(OpenBreaker { cause, since, probe: None }),
        }
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    pub fn may_start(&self) -> bool {
        matches!(self.state, State::Closed { .. } | State::HalfOpen { probe: None, .. })
    }

    /// Whether it waits for the time of the next probe.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    pub fn started(&mut self, item: ItemId) {
        if let State::HalfOpen { probe, .. } = &mut self.state {
            *probe = Some(item);
        }
    }

    /// Returns the time at which to call [`Breaker::timer`].
    pub fn timeout(&self) -> Option<Time> {
        match self.state {
            State::Open { until, .. } => Some(until),
            _ => None,
        }
    }

    pub fn timer(&mut self, now: Time) {
        if let State::Open { until, cause, since } = self.state
            && until <= now
        {
            self.state = State::HalfOpen { probe: None, cause, since };
        }
    }

    /// Takes the outcome of a request. Requests that began before the breaker opened do not move
    /// it: only the probe shows the present state of the service.
    pub fn ended(&mut self, now: Time, item: ItemId, outcome: Outcome) {
        match self.state {
            State::Closed { failures } => self.state = self.after(now, failures, outcome),
            State::HalfOpen { probe: Some(probe), since, .. } if probe == item => {
                self.state = match outcome {
                    Outcome::Done => State::Closed { failures: 0 },
                    // An interruption tells nothing about the service, so the next item probes.
                    Outcome::Interrupted => State::HalfOpen { probe: None, cause: outcome, since },
                    _ => self.opened(now, outcome, since),
                };
            }
            State::Open { .. } | State::HalfOpen { .. } => {}
        }
    }

    /// Closes the breaker and forgets the failures so far.
    pub fn close(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    fn after(&self, now: Time, failures: u32, outcome: Outcome) -> State {
        match outcome {
            // The configuration is wrong, so every other item would end the same way.
            Outcome::Misconfigured => self.opened(now, outcome, now),
            Outcome::NotStarted { .. } | Outcome::Rejected => {
                let failures = failures.saturating_add(1);
                let opens = self.threshold > 0 && failures >= self.threshold;
                if opens { self.opened(now, outcome, now) } else { State::Closed { failures } }
            }
            Outcome::Interrupted => State::Closed { failures },
            Outcome::Done
            | Outcome::Failed { .. }
            | Outcome::Unknown
            | Outcome::Unreadable
            | Outcome::Stalled => State::Closed { failures: 0 },
        }
    }

    fn opened(&self, now: Time, cause: Outcome, since: Time) -> State {
        State::Open { until: now.saturating_add(self.open_for), cause, since }
    }
}
