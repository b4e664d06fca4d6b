//! The service's clock. Its seconds are those of the wall clock, as the autoscaler needs them, but
//! its time comes from tokio, which never jumps and which a test can pause. It may run faster than
//! real time, so that a minute's window can be watched in seconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, Sleep};

use crate::kpa::Time;

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    origin_time: Time,
    /// Seconds of the service per second of real time.
    speed: f64,
}

impl Clock {
    /// `speed` is above 0; 1 is real time.
    pub fn start(speed: f64) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        // The origin is a whole second. An event that is due each second then falls early into its
        // second, and belongs to it even if it is late.
        let origin_time = Time::from_unix_nanos(0) + Duration::from_secs(unix.as_secs());
        Clock { origin: Instant::now(), origin_time, speed }
    }

    pub fn now(&self) -> Time {
        self.origin_time + self.origin.elapsed().mul_f64(self.speed)
    }

    /// Returns the instant of a moment, rounded up: after a sleep until then, the moment has come.
    pub fn instant(&self, time: Time) -> Instant {
        self.origin + self.outside(time.since(self.origin_time)) + Duration::from_nanos(1)
    }

    /// Converts a span of the service's time into real time.
    pub fn outside(&self, span: Duration) -> Duration {
        span.div_f64(self.speed)
    }

    /// Sleeps for a span that begins now, and not with the first poll.
    pub fn sleep(&self, span: Duration) -> Sleep {
        tokio::time::sleep(self.outside(span))
    }
}
