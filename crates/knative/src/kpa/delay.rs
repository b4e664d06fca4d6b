//! `scale-down-delay`: the highest decision of the last while wins, so that a short dip costs no
//! replica.

use std::collections::VecDeque;
use std::time::Duration;

use super::time::Time;

/// Two seconds, the autoscaler's tick: one slot holds the decisions of that time, usually one.
const SLOT_SECONDS: i64 = 2;

/// The highest decision within the delay.
#[derive(Clone, Debug)]
pub struct DelayRing {
    slots: i64,
    /// Slot numbers and values, the values falling: a decision that is followed by a higher one can
    /// never be the highest again.
    falling: VecDeque<(i64, i32)>,
}

impl DelayRing {
    /// `None` for no delay at all. A ring of one slot is not the same as none: of two decisions in
    /// one slot it keeps the higher.
    pub fn new(delay: Duration) -> Option<Self> {
        let slots = delay.as_nanos().div_ceil(SLOT_SECONDS as u128 * 1_000_000_000);
        let slots = i64::try_from(slots).unwrap_or(i64::MAX);
        (slots > 0).then(|| DelayRing { slots, falling: VecDeque::new() })
    }

    /// Takes the decision of `now` and answers the highest one that still counts.
    pub fn highest(&mut self, now: Time, desired: i32) -> i32 {
        let slot = now.second().div_euclid(SLOT_SECONDS);
        while self.falling.back().is_some_and(|(_, value)| *value <= desired) {
            self.falling.pop_back();
        }
        while self.falling.front().is_some_and(|(old, _)| slot - old >= self.slots) {
            self.falling.pop_front();
        }
        // Within a slot the higher one stands, so each slot has one entry at most and the queue is
        // bounded by the delay.
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
        let mut ring = DelayRing::new(Duration::from_secs(5)).unwrap();
        let answers: Vec<i32> =
            [(0, 9), (1, 2), (2, 4), (4, 3), (5, 3), (6, 1), (8, 1), (10, 1), (10, 7), (11, 0)]
                .map(|(at, desired)| ring.highest(second(at), desired))
                .into();
        assert_eq!(answers, [9, 9, 9, 9, 9, 4, 3, 1, 7, 7]);
        assert!(DelayRing::new(Duration::ZERO).is_none());
    }
}
