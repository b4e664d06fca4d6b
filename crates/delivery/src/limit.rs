//! The working limit: the number of requests that may be open while the service does not start all
//! of them.
//!
//! Knative answers "not started" if its queue is full or no replica comes up. More requests at the
//! same rate help nobody, so the limit falls by the share that was refused. It rises with time and
//! not with each answer, because answers that take hours would keep it down for days.

use std::time::Duration;

use super::protocol::Time;

/// The limit rises from one to the ceiling in this number of steps.
const STEPS: u32 = 20;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Limit {
    ceiling: u32,
    step: Duration,
    current: u32,
    /// The present step, if the limit is below the ceiling.
    window: Option<Window>,
}

/// The answers within one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Window {
    ends: Time,
    /// The limit at the start of the step.
    base: u32,
    started: u32,
    refused: u32,
}

impl Limit {
    /// A `step` of zero keeps the limit at the ceiling.
    pub fn new(ceiling: u32, step: Duration) -> Self {
        Limit { ceiling, step, current: ceiling, window: None }
    }

    pub fn current(&self) -> u32 {
        self.current
    }

    /// The most that the limit rises to.
    pub fn ceiling(&self) -> u32 {
        self.ceiling
    }

    /// Moves the ceiling. The limit follows at once, and rises to a higher ceiling at once unless
    /// requests were refused lately.
    pub fn set_ceiling(&mut self, ceiling: u32) {
        self.ceiling = ceiling;
        self.current = if self.window.is_some() { self.current.min(ceiling) } else { ceiling };
    }

    /// A request ended that the service had started.
    pub fn started(&mut self) {
        if let Some(window) = &mut self.window {
            window.started = window.started.saturating_add(1);
        }
    }

    /// A request could not be started while `running` others were open.
    pub fn refused(&mut self, now: Time, running: u32) {
        if self.step.is_zero() {
            return;
        }
        // The service was offered one request more than are running. A limit above that has no
        // effect.
        let base = self.current.min(running.saturating_add(1)).max(1);
        let ends = now.saturating_add(self.step);
        let window = self.window.get_or_insert(Window { ends, base, started: 0, refused: 0 });
        if window.refused == 0 {
            window.base = window.base.min(base);
        }
        window.refused = window.refused.saturating_add(1);
        let accepted = u64::from(window.started) + u64::from(running);
        let share = u64::from(window.base) * accepted / (accepted + u64::from(window.refused));
        self.current = self.current.min(share as u32).max(1);
    }

    /// Returns the time at which to call [`Limit::timer`].
    pub fn timeout(&self) -> Option<Time> {
        self.window.map(|window| window.ends)
    }

    pub fn timer(&mut self, now: Time) {
        while let Some(window) = self.window.filter(|window| window.ends <= now) {
            self.current = self.current.saturating_add(self.ceiling.div_ceil(STEPS)).min(self.ceiling);
            let next = Window {
                ends: window.ends.saturating_add(self.step),
                base: self.current,
                started: 0,
                refused: 0,
            };
            self.window = (self.current < self.ceiling).then_some(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_full_service_lowers_the_limit_to_its_capacity() {
        let mut limit = Limit::new(20, SECOND);
        for running in (5..20).rev() {
            limit.refused(Time::ZERO, running);
        }
        assert_eq!((limit.current(), limit.timeout()), (5, Some(SECOND)));
        limit.timer(SECOND / 2);
        assert_eq!(limit.current(), 5);
        limit.timer(SECOND * 3);
        assert_eq!((limit.current(), limit.timeout()), (8, Some(SECOND * 4)));
        limit.timer(SECOND * 100);
        assert_eq!((limit.current(), limit.timeout()), (20, None));
    }

    /// Runs 100 s of full load in which every `nth` request is refused. Returns the lowest limit.
    fn lowest_with_every(nth: u32) -> u32 {
        let mut limit = Limit::new(100, SECOND);
        let mut lowest = 100;
        for request in 1..=10_000 {
            let now = SECOND / 100 * request;
            limit.timer(now);
            if request % nth == 0 {
                limit.refused(now, limit.current() - 1)
            } else {
                limit.started()
            }
            lowest = lowest.min(limit.current());
        }
        lowest
    }

    #[test]
    fn a_few_refusals_cost_their_share_only() {
        assert!(lowest_with_every(100) >= 97);
        assert!(lowest_with_every(20) >= 85);
    }

    /// A new ceiling counts at once, but requests that were refused lately keep the limit down.
    #[test]
    fn a_ceiling_moves_the_limit() {
        let mut limit = Limit::new(10, SECOND);
        limit.set_ceiling(4);
        assert_eq!((limit.current(), limit.ceiling()), (4, 4));
        limit.set_ceiling(8);
        assert_eq!((limit.current(), limit.timeout()), (8, None));
        limit.refused(Time::ZERO, 3);
        assert_eq!(limit.current(), 3);
        limit.set_ceiling(10);
        assert_eq!(limit.current(), 3);
        limit.set_ceiling(2);
        assert_eq!(limit.current(), 2);
        limit.timer(SECOND);
        assert_eq!((limit.current(), limit.timeout()), (2, None), "it is at its ceiling");
    }

    /// The first refusal of a step may come when fewer requests run than at the start of the step.
    #[test]
    fn a_step_counts_from_its_first_refusal() {
        let mut limit = Limit::new(20, SECOND);
        limit.refused(Time::ZERO, 9);
        assert_eq!(limit.current(), 9, "nine of ten");
        limit.timer(SECOND);
        assert_eq!(limit.current(), 10);
        limit.refused(SECOND, 4);
        assert_eq!(limit.current(), 4, "four of five");
        limit.refused(SECOND, 4);
        assert_eq!(limit.current(), 3, "four of six, of five");
    }

    #[test]
    fn a_started_request_weighs_as_much_as_a_running_one() {
        let mut limit = Limit::new(20, SECOND);
        limit.started();
        limit.refused(Time::ZERO, 9);
        (0..9).for_each(|_| limit.started());
        limit.refused(Time::ZERO, 9);
        assert_eq!(limit.current(), 9, "18 of 20, of ten");
    }

    #[test]
    fn one_request_is_always_allowed_and_a_zero_step_switches_the_limit_off() {
        let mut limit = Limit::new(3, SECOND);
        (0..10).for_each(|_| limit.refused(Time::ZERO, 0));
        assert_eq!(limit.current(), 1);
        let mut off = Limit::new(3, Duration::ZERO);
        off.refused(Time::ZERO, 0);
        assert_eq!((off.current(), off.timeout()), (3, None));
    }
}
