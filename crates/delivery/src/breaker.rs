//! The circuit breaker: stops asking a service that only fails, so that a burst of failures does not
//! flush a whole queue into the dead letter.

use std::time::Duration;

use super::item::ItemId;
use super::outcome::Outcome;
use super::protocol::Time;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Breaker {
    /// Failures in a row at which it opens; 0 is never.
    threshold: u32,
    open_for: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// All is well, after this many failures in a row.
    Closed { failures: u32 },
    /// Nothing starts before this time.
    Open { until: Time },
    /// One item may start, or runs, to find out.
    HalfOpen { probe: Option<ItemId> },
}

impl Breaker {
    pub fn new(threshold: u32, open_for: Duration) -> Self {
        Breaker { threshold, open_for, state: State::Closed { failures: 0 } }
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    pub fn may_start(&self) -> bool {
        matches!(self.state, State::Closed { .. } | State::HalfOpen { probe: None })
    }

    pub fn started(&mut self, item: ItemId) {
        if let State::HalfOpen { probe } = &mut self.state {
            *probe = Some(item);
        }
    }

    /// When to call [`Breaker::timer`].
    pub fn timeout(&self) -> Option<Time> {
        match self.state {
            State::Open { until } => Some(until),
            _ => None,
        }
    }

    pub fn timer(&mut self, now: Time) {
        if self.timeout().is_some_and(|until| until <= now) {
            self.state = State::HalfOpen { probe: None };
        }
    }

    /// Notes how a request ended. Requests that began before the breaker opened don't move it: only
    /// the probe tells how the service is now.
    pub fn ended(&mut self, now: Time, item: ItemId, outcome: Outcome) {
        let failed = matches!(outcome, Outcome::NotStarted { .. } | Outcome::Rejected);
        match self.state {
            State::Closed { failures } if failed => {
                let failures = failures.saturating_add(1);
                let opens = self.threshold > 0 && failures >= self.threshold;
                self.state = if opens { self.opened(now) } else { State::Closed { failures } };
            }
            State::Closed { .. } => self.state = State::Closed { failures: 0 },
            State::HalfOpen { probe: Some(probe) } if probe == item => {
                self.state =
                    if outcome == Outcome::Done { State::Closed { failures: 0 } } else { self.opened(now) };
            }
            State::Open { .. } | State::HalfOpen { .. } => {}
        }
    }

    /// Whatever was seen so far.
    pub fn close(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    fn opened(&self, now: Time) -> State {
        State::Open { until: now.saturating_add(self.open_for) }
    }
}
