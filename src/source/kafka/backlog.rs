//! Counts the records that wait in the topics.
//!
//! With work of hours the partitions are nearly always paused, and librdkafka does not learn where
//! the log of a paused partition ends. So the ends are asked for, in one request that does not
//! block.

use std::time::{Duration, Instant};

use super::context::Consumer;
use super::notice::Side;
use super::raw::{self, Question};
use super::sessions::Sessions;

const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(4);

pub struct Backlog {
    ends: Question,
    ask_at: Instant,
}

impl Backlog {
    pub fn new(ends: Question, now: Instant) -> Self {
        Backlog { ends, ask_at: now }
    }

    /// Returns the number of waiting records, once the broker has answered.
    pub fn update(&mut self, consumer: &Consumer, sessions: &mut Sessions, now: Instant) -> Option<u64> {
        if now >= self.ask_at {
            self.ask_at = now + INTERVAL;
            let partitions: Vec<_> =
                sessions.iter().map(|session| (&*session.place.topic, session.place.partition)).collect();
            if partitions.is_empty() {
                return Some(0);
            }
            self.ends.ask_offsets(consumer, &partitions, Side::End, TIMEOUT);
        }
        // An empty answer means that no broker answered, and not that no record waits.
        let ends = self.ends.offsets(Duration::ZERO).filter(|ends| !ends.is_empty())?;
        let waiting = ends.iter().filter_map(|end| {
            let log_start = || {
                let bounds = raw::cached_bounds(consumer, &end.topic, end.partition);
                bounds.map_or(0, |(start, _)| start.max(0))
            };
            Some(sessions.find(&end.topic, end.partition)?.backlog(end.offset, log_start))
        });
        Some(waiting.sum())
    }

    pub fn due(&self) -> Instant {
        self.ask_at
    }
}
