//! Counts the records that wait in the topics.
//!
//! With work of hours the partitions are paused nearly always, and a paused partition does not
//! learn where the log ends. So the ends are asked for, in requests that do not block: the end that
//! a consumer may read to, and the end with the records of open transactions, which wait too.

use std::time::{Duration, Instant};

use super::context::Consumer;
use super::sessions::Sessions;
use crate::connect::kafka::notice::Side;
use crate::connect::kafka::raw::{self, Question};

const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(4);

pub struct Backlog {
    ends: Question,
    /// The ends with the records of open transactions.
    written: Question,
    ask_at: Instant,
}

impl Backlog {
    pub fn new(ends: Question, written: Question, now: Instant) -> Self {
        Backlog { ends, written, ask_at: now }
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
            self.written.ask_offsets(consumer, &partitions, Side::WrittenEnd, TIMEOUT);
            self.ends.ask_offsets(consumer, &partitions, Side::End, TIMEOUT);
        }
        for end in self.written.offsets(Duration::ZERO).into_iter().flatten() {
            if let Some(partition) = sessions.find(&end.topic, end.partition) {
                partition.progress.log_is_written_to(end.offset);
            }
        }
        // An empty answer means that no broker answered, not that nothing waits.
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
