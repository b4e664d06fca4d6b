//! The head of a partition: its lowest unfinished record.
//!
//! The committed offset waits for the head, while later records are still processed. If the head is
//! stuck for long, the map of the finished records behind it grows, and retention may delete the
//! head from the log. This process still has its body then, but after a restart it would be lost.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::thread::Worker;
use crate::connect::kafka::notice::{Entry, Side};
use crate::connect::kafka::raw::Question;
use crate::delivery::DeliveryId;
use crate::source::SourceEvent;

/// How often ages are checked. They are exact to this interval.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often the starts of the logs are asked for. Retention itself runs every five minutes
/// (`log.retention.check.interval.ms`).
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(4);
/// The most times that are remembered for each partition.
const MARKS: usize = 64;

/// The times of the next looks at the heads.
pub struct Heads {
    starts: Question,
    look_at: Instant,
    ask_at: Instant,
}

/// The head of one partition, as far as it was watched.
#[derive(Debug, Default)]
pub struct Head {
    ages: Ages,
    /// The end of the log at the last answer.
    log_end: i64,
    /// The start of the log at the first answer.
    first_start: Option<i64>,
    /// The head that was last reported as stuck.
    stuck: Option<i64>,
    /// The head that retention threatens, as reported.
    threatened: Option<(i64, Threat)>,
}

/// The state of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The time since it was received.
    pub age: Duration,
    /// Whether it has just become older than the limit for reports.
    pub is_newly_stuck: bool,
}

/// The times at which offsets were received, in bounded memory. They are exact to a second at
/// first, and to a thirtieth of the longest remembered age once that exceeds a minute.
#[derive(Debug, Default)]
struct Ages {
    /// Pairs of an offset and a time: offsets below it, down to the pair before, were received by
    /// that time.
    marks: VecDeque<(i64, Instant)>,
    /// The shortest distance between two pairs.
    step: Duration,
}

/// The danger from retention to a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threat {
    /// It is among the oldest tenth of a log that retention shortens.
    Near,
    Gone,
}

impl Heads {
    pub fn new(starts: Question, now: Instant) -> Self {
        Heads { starts, look_at: now, ask_at: now }
    }

    pub fn due(&self) -> Instant {
        self.look_at
    }
}

impl Head {
    pub fn log_ends_at(&mut self, end: i64) {
        self.log_end = end;
    }

    /// Checks the head `base`. All records below `next` were received.
    pub fn look(&mut self, base: i64, next: i64, report_after: Duration, now: Instant) -> Option<Look> {
        self.ages.note(base, next, now);
        let age = self.ages.of(base, now)?;
        let is_newly_stuck = age >= report_after && self.stuck != Some(base);
        if is_newly_stuck {
            self.stuck = Some(base);
        }
        Some(Look { age, is_newly_stuck })
    }

    /// Returns the threat to `head` in a log that starts at `start`, unless it was already
    /// reported.
    pub fn new_threat(&mut self, head: i64, start: i64) -> Option<Threat> {
        let first_start = *self.first_start.get_or_insert(start);
        let found = threat(head, first_start, start, self.log_end)?;
        if self.threatened == Some((head, found)) {
            return None;
        }
        self.threatened = Some((head, found));
        Some(found)
    }
}

impl Ages {
    /// Records that everything below `next` was received by now, and everything below `base` is
    /// done.
    fn note(&mut self, base: i64, next: i64, now: Instant) {
        while self.marks.front().is_some_and(|&(below, _)| below <= base) {
            self.marks.pop_front();
        }
        let known = self.marks.back().map_or(base, |&(below, _)| below);
        if next <= known {
            return;
        }
        if self.marks.is_empty() {
            self.step = INTERVAL;
        } else if self.marks.len() == MARKS {
            self.thin_out();
        }
        // Moving or dropping a pair can only make offsets look younger than they are, never older.
        let mut newest = self.marks.iter().rev().map(|(_, at)| *at);
        if let (Some(last), Some(before)) = (newest.next(), newest.next())
            && last.saturating_duration_since(before) < self.step
        {
            self.marks.pop_back();
        }
        self.marks.push_back((next, now));
    }

    /// Keeps every second mark, and doubles the distance of new ones.
    fn thin_out(&mut self) {
        self.step *= 2;
        let mut keep = true;
        self.marks.retain(|_| {
            keep = !keep;
            keep
        });
    }

    /// Returns the age of an offset, or less. `None` for an offset that was not received.
    fn of(&self, offset: i64, now: Instant) -> Option<Duration> {
        let mark = self.marks.iter().find(|(below, _)| offset < *below);
        mark.map(|(_, at)| now.saturating_duration_since(*at))
    }
}

/// Returns the threat to a head. `first_start` is the start of the log when the partition was
/// assigned.
fn threat(head: i64, first_start: i64, start: i64, end: i64) -> Option<Threat> {
    if start > head {
        return Some(Threat::Gone);
    }
    let is_shortened = start > first_start;
    (is_shortened && head - start < (end - start) / 10).then_some(Threat::Near)
}

impl Worker {
    /// Reports the oldest age, and warns of heads that are stuck or will be lost.
    pub fn look_at_heads(&mut self, now: Instant) {
        if let Some(starts) = self.heads.starts.offsets(Duration::ZERO) {
            starts.iter().for_each(|start| self.log_starts_at(start));
        }
        if now < self.heads.look_at {
            return;
        }
        self.heads.look_at = now + INTERVAL;
        let give_up_after = self.settings.stuck_head_dead_letter_after;
        let (mut oldest, mut stuck, mut states) = (Duration::ZERO, Vec::new(), Vec::new());
        for partition in self.sessions.iter_mut() {
            let Some((base, next)) = partition.window() else {
                states.push(partition.state(Duration::ZERO));
                continue;
            };
            let look = partition.head.look(base, next, self.settings.stuck_head_report_after, now);
            states.push(partition.state(look.map_or(Duration::ZERO, |look| look.age)));
            let Some(look) = look else { continue };
            oldest = oldest.max(look.age);
            if look.is_newly_stuck {
                tracing::warn!(id = %partition.place.id(base), age = ?look.age, behind = next - base - 1,
                    "A record has been unfinished for long: the committed offset waits for it, and the records behind it go on");
            }
            // The core gives the item up if its attempts have failed for as long.
            if give_up_after.is_some_and(|after| look.age >= after) {
                stuck.push(DeliveryId { epoch: partition.place.epoch, tag: base.cast_unsigned() });
            }
        }
        self.send(SourceEvent::HeadAge(oldest));
        self.send(SourceEvent::Partitions(states));
        // The event is repeated each second, because its effect depends on the state of the item.
        stuck.into_iter().for_each(|delivery| self.send(SourceEvent::Stuck { delivery }));
        // Retention cannot reach a young head, so its partition is not asked for.
        if now >= self.heads.ask_at && oldest >= RETENTION_INTERVAL {
            self.heads.ask_at = now + RETENTION_INTERVAL;
            let partitions: Vec<_> =
                self.sessions.iter().map(|one| (&*one.place.topic, one.place.partition)).collect();
            self.heads.starts.ask_offsets(&self.consumer, &partitions, Side::Start, TIMEOUT);
        }
    }

    /// Warns when retention took the head, or is about to.
    fn log_starts_at(&mut self, start: &Entry) {
        let Some(partition) = self.sessions.find(&start.topic, start.partition) else { return };
        let Some((head, _)) = partition.window() else { return };
        let id = partition.place.id(head);
        match partition.head.new_threat(head, start.offset) {
            Some(Threat::Near) => tracing::warn!(%id, log_start = start.offset,
                "Retention will soon delete an unfinished record; lengthen retention.ms, or find out why it does not end"),
            Some(Threat::Gone) => tracing::error!(%id, log_start = start.offset,
                "Retention deleted an unfinished record: it is lost if this process ends before it is done; lengthen retention.ms"),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
