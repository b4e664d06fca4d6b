//! Makes the reports of an activator about a revision: the mean number of requests that it holds,
//! both queued and running.

use super::time::Time;

/// Requests in flight at one activator, averaged over the time between two reports
/// (`pkg/activator/handler/concurrency_reporter.go`).
#[derive(Clone, Debug)]
pub struct Activity {
    load: Load,
    known: Knowledge,
}

/// Requests in flight at one place, and their mean over the time since it was last taken.
#[derive(Clone, Debug)]
pub struct Load {
    in_flight: u32,
    /// Requests times nanoseconds since the mean was taken.
    area: f64,
    /// The time up to which the area has been counted.
    counted: Time,
    taken: Time,
}

/// Whether the autoscaler has heard of this revision. After the last request one zero is reported,
/// and then nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knowledge {
    Silent,
    /// The first request was reported at once as a whole one. The next report subtracts it again.
    FirstRequest,
    Reporting,
}

impl Activity {
    pub fn new(now: Time) -> Self {
        Activity { load: Load::new(now), known: Knowledge::Silent }
    }

    /// Counts a new request. If this returns a report, the report must go out at once, because it
    /// wakes a revision from zero.
    pub fn arrive(&mut self, now: Time) -> Option<f64> {
        self.load.arrive(now);
        if self.known != Knowledge::Silent {
            return None;
        }
        self.known = Knowledge::FirstRequest;
        self.load.take_mean(now);
        Some(1.0)
    }

    /// Counts a request that was answered, or whose client went away.
    pub fn leave(&mut self, now: Time) {
        self.load.leave(now);
    }

    /// Returns the report of the time since the last one. Call it each second. `None` means that no
    /// report is due.
    pub fn report(&mut self, now: Time) -> Option<f64> {
        if self.known == Knowledge::Silent {
            return None;
        }
        let mean = self.load.take_mean(now);
        let first = self.known == Knowledge::FirstRequest;
        self.known = if mean == 0.0 { Knowledge::Silent } else { Knowledge::Reporting };
        Some(if first { (mean - 1.0).max(0.0) } else { mean })
    }

    pub fn in_flight(&self) -> u32 {
        self.load.in_flight
    }
}

impl Load {
    pub fn new(now: Time) -> Self {
        Load { in_flight: 0, area: 0.0, counted: now, taken: now }
    }

    pub fn arrive(&mut self, now: Time) {
        self.count(now);
        self.in_flight += 1;
    }

    pub fn leave(&mut self, now: Time) {
        self.count(now);
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Returns the mean since the last call.
    pub fn take_mean(&mut self, now: Time) -> f64 {
        self.count(now);
        let span = now.since(self.taken).as_nanos() as f64;
        let mean = if span > 0.0 { self.area / span } else { f64::from(self.in_flight) };
        self.area = 0.0;
        self.taken = now;
        mean
    }

    fn count(&mut self, now: Time) {
        self.area += f64::from(self.in_flight) * now.since(self.counted).as_nanos() as f64;
        self.counted = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_request_is_reported_at_once_and_silence_follows_one_zero() {
        let at = |ms: i64| Time::from_unix_nanos(ms * 1_000_000);
        let mut activity = Activity::new(at(0));
        assert_eq!(activity.report(at(1000)), None);
        assert_eq!(activity.arrive(at(1500)), Some(1.0));
        assert_eq!(activity.arrive(at(1500)), None);
        assert_eq!(activity.arrive(at(1750)), None);
        assert_eq!(
            activity.report(at(2000)),
            Some(1.5),
            "two for all of the half second, one for half of it, less the first"
        );
        activity.leave(at(2500));
        assert_eq!(activity.report(at(3000)), Some(2.5));
        activity.leave(at(3000));
        activity.leave(at(3000));
        assert_eq!(activity.report(at(4000)), Some(0.0));
        assert_eq!(activity.report(at(5000)), None);
        assert_eq!(activity.arrive(at(5100)), Some(1.0));
    }
}
