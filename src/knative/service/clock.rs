//! The service's clock: the autoscaler's seconds are those of the wall clock, but time itself is tokio's, which never jumps and which a
//! test can pause.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::knative::kpa::Time;

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    origin_time: Time,
}

impl Clock {
    pub fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let origin_time = Time::from_unix_nanos(i64::try_from(unix.as_nanos()).unwrap_or(0));
        Clock { origin: Instant::now(), origin_time }
    }

    pub fn now(&self) -> Time {
        self.origin_time + self.origin.elapsed()
    }

    pub fn instant(&self, time: Time) -> Instant {
        self.origin + time.since(self.origin_time)
    }
}
