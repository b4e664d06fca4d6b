//! The lowest unfinished record of a partition, its head: how old it is, and whether the log still has it.
//!
//! Nothing waits behind a head but the committed offset; when it is stuck for long, though, the map of
//! what is done behind it grows, and retention may take it from the log. The process still has its body
//! then, but a restart would not.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::partition::Partition;
use super::raw::{LogOffsets, Side};
use super::record::Place;
use super::thread::Worker;
use crate::delivery::DeliveryId;
use crate::source::SourceEvent;

/// How often ages are looked at, which is also how exact they are.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often the starts of the logs are asked for. Retention looks at them every five minutes itself
/// (`log.retention.check.interval.ms`).
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(4);
/// Times remembered for each partition.
const MARKS: usize = 64;

/// When to look again.
pub struct Heads {
    starts: LogOffsets,
    look_at: Instant,
    ask_at: Instant,
}

/// When offsets were received, in bounded memory: exact to a second at first, and to a thirtieth of
/// the longest age of what is remembered once that is more than a minute.
#[derive(Debug, Default)]
pub struct Ages {
    /// Offsets below the first number, and not below the one before, were received by that time.
    marks: VecDeque<(i64, Instant)>,
    /// How far apart they are at least.
    step: Duration,
}

/// What retention does to a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threat {
    /// It is among the oldest tenth of a log that retention is at work on.
    Near,
    Gone,
}

impl Heads {
    pub fn new(starts: LogOffsets, now: Instant) -> Self {
        Heads { starts, look_at: now, ask_at: now }
    }

    pub fn due(&self) -> Instant {
        self.look_at
    }
}

impl Ages {
    /// Everything below `next` was received by now, and everything below `base` is done.
    pub fn note(&mut self, base: i64, next: i64, now: Instant) {
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
        // A mark that is moved, or dropped, makes its offsets younger than they are, never older.
        let mut newest = self.marks.iter().rev().map(|(_, at)| *at);
        if let (Some(last), Some(before)) = (newest.next(), newest.next())
            && last.saturating_duration_since(before) < self.step
        {
            self.marks.pop_back();
        }
        self.marks.push_back((next, now));
    }

    /// Keeps every second mark, and makes new ones as far apart.
    fn thin_out(&mut self) {
        self.step *= 2;
        let mut keep = true;
        self.marks.retain(|_| {
            keep = !keep;
            keep
        });
    }

    /// How long ago an offset was received, at least. Nothing for one that was not.
    pub fn of(&self, offset: i64, now: Instant) -> Option<Duration> {
        let mark = self.marks.iter().find(|(below, _)| offset < *below);
        mark.map(|(_, at)| now.saturating_duration_since(*at))
    }
}

/// `first_start` is where the log began when the partition was assigned.
pub fn threat(head: i64, first_start: i64, start: i64, end: i64) -> Option<Threat> {
    if start > head {
        return Some(Threat::Gone);
    }
    let is_at_work = start > first_start;
    (is_at_work && head - start < (end - start) / 10).then_some(Threat::Near)
}

impl Worker {
    /// Tells the oldest age, and warns of heads that are stuck or will be lost.
    pub fn look_at_heads(&mut self, now: Instant) {
        if let Some(starts) = self.heads.starts.take() {
            for start in starts {
                if let Some(partition) = self.sessions.find(&start.topic, start.partition) {
                    partition.log_starts_at(start.offset);
                }
            }
        }
        if now < self.heads.look_at {
            return;
        }
        self.heads.look_at = now + INTERVAL;
        let (report_after, give_up_after) =
            (self.settings.stuck_head_report_after, self.settings.stuck_head_dead_letter_after);
        let (mut oldest, mut given_up) = (Duration::ZERO, Vec::new());
        for partition in self.sessions.iter_mut() {
            let Some((id, age)) = partition.look_at_head(report_after, now) else { continue };
            oldest = oldest.max(age);
            if give_up_after.is_some_and(|after| age >= after) {
                given_up.push(id);
            }
        }
        self.send(SourceEvent::HeadAge(oldest));
        // Told anew each second until it is done: the bridge may have been asking another replica for it.
        given_up.into_iter().for_each(|id| self.send(SourceEvent::Stuck { id }));
        // Young heads are in no danger that a person could avert.
        if now >= self.heads.ask_at && oldest >= RETENTION_INTERVAL {
            self.heads.ask_at = now + RETENTION_INTERVAL;
            let partitions: Vec<_> =
                self.sessions.iter().map(|one| (&*one.place.topic, one.place.partition)).collect();
            self.heads.starts.ask(&self.consumer, &partitions, Side::Start, TIMEOUT);
        }
    }
}

impl Partition {
    /// The head and its age, if there is one. Tells once when it is stuck.
    fn look_at_head(&mut self, report_after: Duration, now: Instant) -> Option<(DeliveryId, Duration)> {
        let (base, next) = self.window()?;
        self.ages.note(base, next, now);
        let age = self.ages.of(base, now)?;
        if age >= report_after && self.stuck != Some(base) {
            self.stuck = Some(base);
            let Place { topic, partition, .. } = &self.place;
            tracing::warn!(%topic, partition, offset = base, ?age, behind = next - base - 1,
                "a record is unfinished for long: the committed offset waits for it, what is behind it goes on");
        }
        let id = DeliveryId { epoch: self.place.epoch, tag: base.cast_unsigned() };
        Some((id, age))
    }

    /// Warns when retention took the head, or is about to.
    fn log_starts_at(&mut self, start: i64) {
        let first_start = *self.first_start.get_or_insert(start);
        let Some((head, _)) = self.window() else { return };
        let Some(threat) = threat(head, first_start, start, self.log_end) else { return };
        if self.threatened == Some((head, threat)) {
            return;
        }
        self.threatened = Some((head, threat));
        let Place { topic, partition, .. } = &self.place;
        match threat {
            Threat::Near => tracing::warn!(%topic, partition, offset = head, log_start = start,
                "retention will soon take an unfinished record from the log; lengthen retention.ms or see why it does not end"),
            Threat::Gone => tracing::error!(%topic, partition, offset = head, log_start = start,
                "retention took an unfinished record from the log: it is lost if this process ends before it is done; lengthen retention.ms"),
        }
    }
}

#[cfg(test)]
mod tests;
