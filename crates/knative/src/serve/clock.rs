//! The service's clock: the autoscaler's seconds are those of the wall clock, but time itself is
//! tokio's, which never jumps and which a test can pause. It may pass faster than outside, so that
//! a minute's window can be watched in seconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, Sleep};

use crate::kpa::Time;

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    origin_time: Time,
    /// Seconds here for each second outside.
    speed: f64,
}

impl Clock {
    /// `speed` is above 0; 1 is real time.
    pub fn start(speed: f64) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        // Whole seconds: an event that is due each second then falls early into its second. If it
        // is late, it still belongs to that second.
        let origin_time = Time::from_unix_nanos(0) + Duration::from_secs(unix.as_secs());
        Clock { origin: Instant::now(), origin_time, speed }
    }

    pub fn now(&self) -> Time {
        self.origin_time + self.origin.elapsed().mul_f64(self.speed)
    }

    /// The instant at which a moment comes. Rounded up: after a sleep until then, the moment must
    /// have come.
    pub fn instant(&self, time: Time) -> Instant {
        self.origin + self.outside(time.since(self.origin_time)) + Duration::from_nanos(1)
    }

    /// How long a span takes outside.
    pub fn outside(&self, span: Duration) -> Duration {
        span.div_f64(self.speed)
    }

    /// The span begins now, not with the first poll.
    pub fn sleep(&self, span: Duration) -> Sleep {
        tokio::time::sleep(self.outside(span))
    }
}
