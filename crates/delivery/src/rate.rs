//! The rate: how many requests may start within a time, for workers behind a quota.
//!
//! A token bucket that holds one token (the generic cell rate algorithm of ITU-T I.371). Requests
//! start evenly spaced, so no minute gets more than its share, wherever the minute begins. The
//! bucket is half full at first: an earlier process may have started a request just now, or as long
//! ago as the rate asks. So a restart costs or gains half a request at most.

use std::time::Duration;

use super::protocol::Time;

/// A request that started late, because a timer fired late, is made up for within this time.
const SLACK: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rate {
    /// The time between two starts; zero switches the rate off.
    every: Duration,
    /// The earliest time of the next start.
    next: Time,
}

impl Rate {
    pub fn new(every: Duration) -> Self {
        Rate { every, next: every / 2 }
    }

    pub fn next(&self) -> Time {
        self.next
    }

    pub fn may_start(&self, now: Time) -> bool {
        self.next <= now
    }

    pub fn started(&mut self, now: Time) {
        if !self.every.is_zero() {
            self.next = self.next.max(now.saturating_sub(SLACK)).saturating_add(self.every);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The starts within `length`, if an item waits all the time and a timer fires `late`.
    fn starts(every: Duration, late: Duration, length: Duration) -> Vec<Time> {
        let mut rate = Rate::new(every);
        let mut starts = Vec::new();
        let mut now = Time::ZERO;
        while now < length {
            if rate.may_start(now) {
                rate.started(now);
                starts.push(now);
            } else {
                now = rate.next() + late;
            }
        }
        starts
    }

    #[test]
    fn every_minute_gets_its_share_wherever_it_begins() {
        let minute = Duration::from_secs(60);
        for late in [0, 1, 40].map(Duration::from_millis) {
            let starts = starts(minute / 30, late, minute * 10);
            for first in 0..starts.len() - 31 {
                let inside = starts[first..].iter().take_while(|at| **at < starts[first] + minute).count();
                assert!((29..=31).contains(&inside), "{inside} starts, timers late by {late:?}");
            }
        }
    }

    #[test]
    fn late_timers_do_not_lower_a_high_rate() {
        let starts = starts(Duration::from_micros(100), Duration::from_millis(1), Duration::from_secs(1));
        assert!((9_900..=10_100).contains(&starts.len()), "{}", starts.len());
    }

    /// A second process begins somewhere between two starts of the first one.
    #[test]
    fn a_restart_costs_no_minute_more_than_one_request() {
        let (minute, every) = (Duration::from_secs(60), Duration::from_secs(2));
        for since_last in (0..=20).map(|tenths| every * tenths / 20) {
            let first = starts(every, Duration::ZERO, minute * 2);
            let again = first[40] + since_last;
            let second = starts(every, Duration::ZERO, minute * 2).into_iter().map(|at| again + at);
            let all: Vec<Time> = first[..=40].iter().copied().chain(second).collect();
            for begin in 0..60 {
                let inside = all[begin..].iter().take_while(|at| **at < all[begin] + minute).count();
                assert!((29..=31).contains(&inside), "{inside} starts, {since_last:?} after the last");
            }
        }
    }

    #[test]
    fn an_idle_time_saves_up_nothing() {
        let mut rate = Rate::new(Duration::from_secs(2));
        let later = Duration::from_secs(3600);
        rate.started(later);
        assert!(!rate.may_start(later) && !rate.may_start(later + Duration::from_millis(1900)));
        assert!(rate.may_start(later + Duration::from_secs(2)));
    }

    #[test]
    fn without_a_rate_everything_may_start() {
        let mut rate = Rate::new(Duration::ZERO);
        rate.started(Time::ZERO);
        assert!(rate.may_start(Time::ZERO));
    }
}
