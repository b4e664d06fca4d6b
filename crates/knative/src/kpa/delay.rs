//! Applies `scale-down-delay`: the number of replicas is the highest that was wanted within the
//! delay, so a short fall of the load removes no replica.

use std::collections::VecDeque;
use std::time::Duration;

use super::time::Time;

/// The length of a slot. It equals the autoscaler's tick, so a slot usually has one decision.
const SLOT_SECONDS: i64 = 2;

/// Finds the highest decision within the delay.
#[derive(Clone, Debug)]
pub struct DelayWindow {
    slots: i64,
    /// Pairs of a slot and a decision, oldest first. Each decision is lower than the one before: an
    /// older decision that is not higher than a newer one is removed, because it can never be the
    /// highest again.
    falling: VecDeque<(i64, i32)>,
}

impl DelayWindow {
    /// Returns `None` if the delay is 0. A delay is rounded up to whole slots, and even one slot
    /// has an effect: of two decisions in it, the higher one holds.
    pub fn new(delay: Duration) -> Option<Self> {
        let slots = delay.as_nanos().div_ceil(SLOT_SECONDS as u128 * 1_000_000_000);
        let slots = i64::try_from(slots).unwrap_or(i64::MAX);
        (slots > 0).then(|| DelayWindow { slots, falling: VecDeque::new() })
    }

    /// Adds the decision that was made at `now`, and returns the highest one within the delay.
    pub fn highest(&mut self, now: Time, desired: i32) -> i32 {
        let slot = now.second().div_euclid(SLOT_SECONDS);
        while self.falling.back().is_some_and(|(_, value)| *value <= desired) {
            self.falling.pop_back();
        }
        while self.falling.front().is_some_and(|(old, _)| slot - old >= self.slots) {
            self.falling.pop_front();
        }
        // A slot keeps only its higher decision, so each slot has at most one entry and the delay
        // bounds the queue.
        if self.falling.back().is_none_or(|(last, _)| *last != slot) {
            self.falling.push_back((slot, desired));
        }
        self.falling.front().map_or(desired, |(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_decision_stands_until_the_delay_is_over() {
        let second = |s: i64| Time::from_unix_nanos(s * 1_000_000_000);
        let mut ring = DelayWindow::new(Duration::from_secs(5)).unwrap();
        let answers: Vec<i32> =
            [(0, 9), (1, 2), (2, 4), (4, 3), (5, 3), (6, 1), (8, 1), (10, 1), (10, 7), (11, 0)]
                .map(|(at, desired)| ring.highest(second(at), desired))
                .into();
        assert_eq!(answers, [9, 9, 9, 9, 9, 4, 3, 1, 7, 7]);
        assert!(DelayWindow::new(Duration::ZERO).is_none());
    }
}
