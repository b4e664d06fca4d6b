//! Bounds the time for which one turn of the poll thread waits for brokers.
//!
//! The thread does not look at its commands while it waits, so a close would wait too. Each answer
//! has a limit of its own, and all answers of one turn share [`TURN`]. A question that finds no
//! time left fails at once, and is asked again in a later turn.

use std::time::{Duration, Instant};

/// The longest time for which the answers of one turn are waited for.
pub const TURN: Duration = Duration::from_secs(3);

/// The time that is left in this turn.
pub struct Patience {
    until: Instant,
}

impl Patience {
    pub fn new(now: Instant) -> Self {
        Patience { until: now + TURN }
    }

    /// Starts the next turn.
    pub fn renew(&mut self, now: Instant) {
        self.until = now + TURN;
    }

    /// The time for one answer, at most `most`; `None` if the time of this turn is over.
    pub fn for_answer(&self, most: Duration) -> Option<Duration> {
        let left = self.until.saturating_duration_since(Instant::now()).min(most);
        // librdkafka counts milliseconds.
        (left >= Duration::from_millis(1)).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_a_turn_share_its_time() {
        let now = Instant::now();
        let most = Duration::from_secs(2);
        let mut patience = Patience::new(now);
        assert_eq!(patience.for_answer(most), Some(most));
        patience.renew(now.checked_sub(TURN).expect("the machine runs for longer"));
        assert_eq!(patience.for_answer(most), None);
        patience.renew(now + Duration::from_secs(60));
        assert_eq!(patience.for_answer(most), Some(most));
    }
}
