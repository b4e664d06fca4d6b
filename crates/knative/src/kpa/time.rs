//! A moment in the autoscaler's time.

use std::ops::Add;
use std::time::Duration;

/// Whole nanoseconds since the Unix epoch. They are integers because a panic ends when
/// `panic_time + window < now`, and ticks at whole seconds meet that boundary exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(i64);

impl Time {
    pub const fn from_unix_nanos(nanos: i64) -> Self {
        Time(nanos)
    }

    /// Returns the second that contains the moment. Buckets are one second wide.
    pub const fn second(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// Returns the time since `earlier`; zero if that is in the future.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, span: Duration) -> Time {
        Time(self.0.saturating_add(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)))
    }
}
