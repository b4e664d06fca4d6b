//! The clock of the rules that give an item up after some time. It stands still while nothing may
//! start by order, because an item must not fail for a wait that a person or a rule imposed.

use std::time::Duration;

use super::protocol::Time;

/// A reading of [`StartClock`]. It cannot be mixed up with a [`Time`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StartTime(Duration);

/// Counts the time in which items might start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct StartClock {
    /// The length of all stops that are over.
    stopped_for: Duration,
    /// The start of the present stop.
    stopped_at: Option<Time>,
}

impl StartTime {
    /// The time since an earlier reading.
    pub fn since(self, earlier: StartTime) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl StartClock {
    /// Reads the clock.
    pub fn at(&self, now: Time) -> StartTime {
        StartTime(self.stopped_at.unwrap_or(now).saturating_sub(self.stopped_for))
    }

    /// Stops the clock, or lets it run. Call it after each input.
    pub fn set_stopped(&mut self, now: Time, is_stopped: bool) {
        match (self.stopped_at, is_stopped) {
            (None, true) => self.stopped_at = Some(now),
            (Some(since), false) => {
                self.stopped_for += now.saturating_sub(since);
                self.stopped_at = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn stops_do_not_count() {
        let mut clock = StartClock::default();
        let start = clock.at(SECOND * 5);
        clock.set_stopped(SECOND * 10, true);
        clock.set_stopped(SECOND * 11, true);
        assert_eq!(clock.at(SECOND * 100).since(start), SECOND * 5);
        clock.set_stopped(SECOND * 110, false);
        clock.set_stopped(SECOND * 111, false);
        assert_eq!(clock.at(SECOND * 112).since(start), SECOND * 7);
        clock.set_stopped(SECOND * 120, true);
        clock.set_stopped(SECOND * 130, false);
        assert_eq!(clock.at(SECOND * 131).since(start), SECOND * 16);
    }
}
