//! A moment as the autoscaler counts it.

use std::ops::Add;
use std::time::Duration;

/// Whole nanoseconds since the Unix epoch. Integers, because the end of a panic is decided by
/// `panic_time + window < now`, and ticks that lie whole seconds apart meet that boundary exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(i64);

impl Time {
    pub const fn from_unix_nanos(nanos: i64) -> Self {
        Time(nanos)
    }

    /// The second that the moment lies in: buckets are one second wide.
    pub const fn second(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// How long ago `earlier` was; zero if it lies ahead.
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
