//! A rate such as `30/m`, and the moments at which messages start.

use std::str::FromStr;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Messages in a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    interval: Duration,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a rate; write it as 10/s, 30/m or 500/h");
        let (count, unit) = text.split_once('/').unwrap_or((text, "s"));
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let count: f64 = count.trim().parse().map_err(|_| wrong())?;
        if !(count > 0.0 && count <= 1e6) {
            return Err(wrong());
        }
        Ok(Rate { interval: Duration::from_secs_f64(seconds / count) })
    }
}

/// Lets messages start at a rate. A pause is not made up for by a burst.
pub struct Pace {
    interval: Duration,
    next: Instant,
}

impl Pace {
    pub fn new(rate: Option<Rate>) -> Self {
        Pace { interval: rate.map_or(Duration::ZERO, |rate| rate.interval), next: Instant::now() }
    }

    /// Waits until the next message may start.
    pub async fn ready(&self) {
        // The timer has a resolution of a millisecond, so messages before it start together.
        if self.next > Instant::now() + Duration::from_millis(1) {
            sleep_until(self.next).await;
        }
    }

    /// A message has started.
    pub fn took(&mut self) {
        // At most 20 ms are made up for, which the timer itself may be late.
        let now = Instant::now().checked_sub(Duration::from_millis(20)).unwrap_or_else(Instant::now);
        self.next = self.next.max(now) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_as_people_write_them() {
        let interval = |text: &str| text.parse::<Rate>().map(|rate| rate.interval.as_millis());
        assert_eq!((interval("10"), interval("30/m"), interval("0.5/s")), (Ok(100), Ok(2000), Ok(2000)));
        for wrong in ["", "0", "-1/s", "5/d", "x/s", "inf", "nan/s"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_minute_has_as_many_messages_as_the_rate_says() {
        let mut pace = Pace::new(Some("30/m".parse().unwrap()));
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs(60) {
            pace.ready().await;
            pace.took();
            count += 1;
        }
        assert!((30..=31).contains(&count), "{count}");
    }
}
