//! The working limit: how many requests are open at once when the service does not start as many as asked.
//!
//! Knative answers "not started" where its queue is full or no replica comes up. Sending on at the same rate
//! helps nobody, so the limit falls to what the service was seen to bear. It rises again with time and not with
//! each answer: answers that take hours would keep it down for days.

use std::time::Duration;

use super::protocol::Time;

/// From one to the ceiling takes this many steps.
const STEPS: u32 = 20;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Limit {
    ceiling: u32,
    current: u32,
    step: Duration,
    /// When it rises by the next step; none at the ceiling.
    rises: Option<Time>,
}

impl Limit {
    /// `step` of zero keeps the limit at the ceiling.
    pub fn new(ceiling: u32, step: Duration) -> Self {
        Limit { ceiling, current: ceiling, step, rises: None }
    }

    pub fn current(&self) -> u32 {
        self.current
    }

    /// A request could not be started while so many others were open.
    pub fn fall(&mut self, now: Time, running: u32) {
        if !self.step.is_zero() && running < self.current {
            self.current = running.max(1);
            self.rises = Some(now.saturating_add(self.step));
        }
    }

    pub fn timeout(&self) -> Option<Time> {
        self.rises
    }

    pub fn timer(&mut self, now: Time) {
        while let Some(due) = self.rises.filter(|due| *due <= now) {
            self.current = self.current.saturating_add(self.ceiling.div_ceil(STEPS)).min(self.ceiling);
            self.rises = (self.current < self.ceiling).then(|| due.saturating_add(self.step));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn falls_to_what_was_borne_and_rises_with_time_alone() {
        let second = Duration::from_secs(1);
        let mut limit = Limit::new(40, second);
        limit.fall(Time::ZERO, 7);
        assert_eq!((limit.current(), limit.timeout()), (7, Some(second)));
        limit.timer(second / 2);
        assert_eq!(limit.current(), 7);
        limit.timer(second * 3);
        assert_eq!((limit.current(), limit.timeout()), (13, Some(second * 4)));
        limit.timer(second * 100);
        assert_eq!((limit.current(), limit.timeout()), (40, None));
    }

    #[test]
    fn one_request_is_always_allowed_and_zero_switches_it_off() {
        let mut limit = Limit::new(3, Duration::from_secs(1));
        limit.fall(Time::ZERO, 0);
        assert_eq!(limit.current(), 1);
        let mut off = Limit::new(3, Duration::ZERO);
        off.fall(Time::ZERO, 0);
        assert_eq!((off.current(), off.timeout()), (3, None));
    }
}
