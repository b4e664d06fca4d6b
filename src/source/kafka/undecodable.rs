//! Records that librdkafka cannot decode.
//!
//! librdkafka names a batch by the offset of its first record. It tells neither the bytes of the
//! batch nor its end, and reads nothing behind it. With `undecodable: hold` the partition waits for
//! a person. With `undecodable: skip` the end of the batch is searched for: reading is tried at
//! other offsets, and the batch ends before the lowest one that is readable. One item that stands
//! for all records of the batch then goes to the dead letter, and reading continues behind the
//! batch when that item is settled. Nothing else of the partition is taken meanwhile, because a
//! record that is received makes the ones before it count as gone.

use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Code;

use super::partition::Partition;
use super::thread::Worker;
use super::tracker::Tracker;
use crate::config::Undecodable as Policy;
use crate::connect::kafka::notice::Entry;
use crate::telemetry::ProblemKind;

/// How often a record that cannot be decoded is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// A batch that is not skipped by then is a problem.
const LONG: Duration = Duration::from_secs(6);

const HOLD_HELP: &str = "restore the record, move the group's committed offset behind it, or set `undecodable: skip`; this partition waits, the others continue";
const SKIP_HELP: &str = "see whether the dead letter can be written and the broker answers; this partition waits, the others continue";

/// A batch that cannot be decoded, at the place where its partition is read.
#[derive(Debug)]
pub struct Undecodable {
    /// The first offset that is affected.
    offset: i64,
    reason: String,
    since: Instant,
    state: State,
    /// Whether a person wants to skip it, whatever the configuration says.
    is_skipped_by_hand: bool,
}

#[derive(Debug)]
enum State {
    /// Reading is tried again at this time.
    Held {
        again_at: Instant,
        /// The offset by which librdkafka names the batch, if the end of the batch can be found.
        base: Option<i64>,
    },
    Searching(Search),
    /// An item stands for the records up to `last`. Reading waits until it is settled.
    Handed {
        first: i64,
        last: i64,
    },
}

/// The search for the end of a batch.
#[derive(Debug)]
struct Search {
    /// The offset by which librdkafka names the batch.
    base: i64,
    /// The highest offset that is known to be in the batch.
    inside: i64,
    /// The lowest offset that is known to be behind it.
    outside: Option<i64>,
    /// The offset that is being tried.
    at: i64,
    step: i64,
}

/// The next thing to do.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Try(i64),
    EndsAt(i64),
}

impl Search {
    /// `inside` was tried, and is in the batch.
    fn new(base: i64, inside: i64) -> Self {
        Search { base, inside, outside: None, at: inside, step: 1 }
    }

    /// The offset that was tried cannot be decoded, because of a batch that begins at `base`.
    fn failed(&mut self, base: i64) {
        if base > self.base { self.passed_at(base.min(self.at)) } else { self.inside = self.at }
    }

    /// The offset that was tried can be read.
    fn passed(&mut self) {
        self.passed_at(self.at);
    }

    fn passed_at(&mut self, offset: i64) {
        let behind = offset.max(self.inside + 1);
        self.outside = Some(self.outside.map_or(behind, |before| before.min(behind)));
    }

    /// The log ends at `log_end`.
    fn next(&mut self, log_end: i64) -> Next {
        let next = self.inside + 1;
        self.at = match self.outside {
            Some(outside) if outside <= next => return Next::EndsAt(self.inside),
            Some(outside) => self.inside + (outside - self.inside) / 2,
            None => {
                let further = self.inside.saturating_add(self.step).min(log_end);
                self.step = self.step.saturating_mul(2);
                further.max(next)
            }
        };
        Next::Try(self.at)
    }
}

impl Undecodable {
    /// The first offset that is affected.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// A person wants to skip the batch. Returns whether the search for its end can begin.
    pub fn skip(&mut self, offset: i64, now: Instant) -> bool {
        let State::Held { base: Some(base), .. } = self.state else { return false };
        if offset != self.offset {
            return false;
        }
        self.since = now;
        self.is_skipped_by_hand = true;
        self.state = State::Searching(Search::new(base, offset));
        true
    }

    /// Whether nothing is to be read now.
    pub fn waits(&self, now: Instant) -> bool {
        match &self.state {
            State::Held { again_at, .. } => now < *again_at,
            State::Searching(_) => false,
            State::Handed { .. } => true,
        }
    }

    /// The last record that an item stands for, if `tag` is that item.
    fn last_of(&self, tag: u64) -> Option<i64> {
        match self.state {
            State::Handed { first, last } if first == tag.cast_signed() => Some(last),
            _ => None,
        }
    }
}

/// Whether the end of such a batch can be found. librdkafka reports a batch of a newer format once,
/// and passes over it from then on.
fn can_be_skipped(code: Code, reason: &str) -> bool {
    !(code == Code::NotImplemented && reason.contains("MagicByte"))
}

impl Worker {
    /// A batch cannot be decoded. The other partitions continue.
    pub(super) fn undecodable(&mut self, at: &Entry, code: Code, reason: &str, now: Instant) {
        let policy = self.settings.undecodable;
        let Some(partition) = self.sessions.find(&at.topic, at.partition) else { return };
        if partition.holds() {
            return;
        }
        let wanted = partition.next_wanted(at.offset);
        let by_hand = partition.undecodable.as_ref().is_some_and(|known| known.is_skipped_by_hand);
        let base = can_be_skipped(code, reason).then_some(at.offset);
        if (policy == Policy::Skip || by_hand) && base.is_some() {
            match &mut partition.undecodable {
                Some(Undecodable { state: State::Searching(search), .. }) => search.failed(at.offset),
                Some(Undecodable { state: State::Handed { last, .. }, .. }) => {
                    let behind = *last + 1;
                    return self.seek(&at.topic, at.partition, behind);
                }
                _ => {
                    tracing::warn!(id = %partition.place.id(wanted), error = reason,
                        "A batch can't be decoded and is skipped; its end is searched for");
                    let state = State::Searching(Search::new(at.offset, wanted));
                    let reason = reason.to_owned();
                    let is_skipped_by_hand = false;
                    partition.undecodable =
                        Some(Undecodable { offset: wanted, reason, since: now, state, is_skipped_by_hand });
                }
            }
            return self.search_on(&at.topic, at.partition);
        }
        let since = partition.undecodable.as_ref().map_or(now, |known| known.since);
        let state = State::Held { again_at: now + AGAIN, base };
        let reason_kept = reason.to_owned();
        partition.undecodable = Some(Undecodable {
            offset: wanted,
            reason: reason_kept,
            since,
            state,
            is_skipped_by_hand: false,
        });
        let id = partition.place.id(wanted);
        self.problem(ProblemKind::Undecodable, &id, undecodable_text(&id, reason), HOLD_HELP);
        // librdkafka may have passed over it.
        self.seek(&at.topic, at.partition, wanted);
    }

    /// A record, or the end of the log, was read at this offset. True when a batch is being
    /// skipped: the record then shows at most where the batch ends, and comes again.
    pub(super) fn is_skipping(&mut self, topic: &str, number: i32, offset: i64) -> bool {
        let Some(partition) = self.sessions.find(topic, number) else { return false };
        match partition.undecodable.as_mut().map(|found| &mut found.state) {
            Some(State::Searching(search)) => {
                if offset >= search.at {
                    search.passed();
                    self.search_on(topic, number);
                }
                true
            }
            Some(State::Handed { .. }) => true,
            Some(State::Held { .. }) | None => false,
        }
    }

    /// Tries the next offset, or hands over the item that stands for the batch.
    pub(super) fn search_on(&mut self, topic: &str, number: i32) {
        let Some(partition) = self.sessions.find(topic, number) else { return };
        let log_end = partition.progress.readable_to();
        let Some(Undecodable { state: State::Searching(search), .. }) = &mut partition.undecodable else {
            return;
        };
        match search.next(log_end) {
            Next::Try(offset) => self.seek(topic, number, offset),
            Next::EndsAt(last) => {
                let delivery = partition.hand_over(last);
                // librdkafka loses its place behind a batch with a wrong checksum, and would go
                // back to the beginning of the log.
                self.seek(topic, number, last + 1);
                match delivery {
                    Some(delivery) => self.intake.push(delivery),
                    // Its records were done before, or it has to wait for room.
                    None => self.read_behind(topic, number),
                }
            }
        }
    }

    /// Continues behind a batch whose item was settled.
    pub(super) fn read_behind(&mut self, topic: &str, number: i32) {
        let Some(partition) = self.sessions.find(topic, number) else { return };
        if partition.undecodable.is_some() {
            return;
        }
        let next = partition.next_wanted(0);
        tracing::info!(id = %partition.place.id(next), "Reading continues behind an undecodable batch");
        self.seek(topic, number, next);
    }

    /// Reports batches that should be skipped and are not.
    pub(super) fn look_at_undecodable(&mut self, now: Instant) {
        let is_slow = |one: &&Undecodable| {
            !matches!(one.state, State::Held { .. }) && now.saturating_duration_since(one.since) >= LONG
        };
        let slow = self.sessions.iter().filter_map(|partition| {
            let found = partition.undecodable.as_ref().filter(is_slow)?;
            let id = partition.place.id(found.offset);
            let text = format!("{}, and is not skipped yet", undecodable_text(&id, &found.reason));
            Some((id, text))
        });
        for (id, text) in slow.collect::<Vec<_>>() {
            self.problem(ProblemKind::Undecodable, &id, text, SKIP_HELP);
        }
    }
}

fn undecodable_text(id: &str, reason: &str) -> String {
    format!("the record or batch at {id} can't be decoded: {reason}")
}

impl Partition {
    /// Makes the item that stands for the undecodable records up to `last`. None when it
    /// has to wait for room, or when all of them are done already; reading then continues behind
    /// them.
    fn hand_over(&mut self, last: i64) -> Option<crate::source::Delivery> {
        let found = self.undecodable.as_mut()?;
        let offset = found.offset;
        let tracker = self.tracker.get_or_insert_with(|| Tracker::new(offset));
        let first = tracker.next_needed(offset);
        if first > last {
            self.undecodable = None;
            self.pass(last);
            return None;
        }
        found.state = State::Handed { first, last };
        let delivery = self.place.undecodable(first, last, &found.reason, tracker.attempts(first));
        if !tracker.admits(first) {
            self.held_back.push_back(delivery);
            return None;
        }
        tracker.receive(first);
        Some(delivery)
    }

    /// The item of this tag was acked. If it stood for an undecodable batch, all records of the
    /// batch are done now. Returns the offset by which the batch was reported.
    pub fn skipped(&mut self, tag: u64) -> Option<i64> {
        let last = self.undecodable.as_ref()?.last_of(tag)?;
        let offset = self.undecodable.take()?.offset;
        self.pass(last);
        Some(offset)
    }

    fn pass(&mut self, last: i64) {
        if let Some(tracker) = &mut self.tracker {
            tracker.reach(last + 1);
        }
        self.last = self.last.max(Some(last));
    }

    /// The offset that could not be decoded, once a later record has come.
    pub fn decoded(&mut self, offset: i64) -> Option<i64> {
        let is_over =
            |found: &mut Undecodable| matches!(found.state, State::Held { .. }) && found.offset <= offset;
        self.undecodable.take_if(is_over).map(|found| found.offset)
    }

    /// Whether an undecodable record holds the partition up now.
    pub fn waits_to_decode(&self, now: Instant) -> bool {
        self.undecodable.as_ref().is_some_and(|found| found.waits(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What librdkafka says when it reads at `at`, in a log of these undecodable batches.
    fn reads(batches: &[(i64, i64)], at: i64) -> Result<(), i64> {
        match batches.iter().find(|(base, last)| (*base..=*last).contains(&at)) {
            Some((base, _)) => Err(*base),
            None => Ok(()),
        }
    }

    fn last_of(batches: &[(i64, i64)], first: i64, log_end: i64) -> (i64, u32) {
        let mut search = Search::new(batches[0].0, first);
        let mut tries = 0;
        loop {
            match search.next(log_end) {
                Next::EndsAt(last) => return (last, tries),
                Next::Try(at) => {
                    assert!(at > first && at <= log_end, "{at}");
                    tries += 1;
                    match reads(batches, at) {
                        Err(base) => search.failed(base),
                        Ok(()) => search.passed(),
                    }
                }
            }
        }
    }

    #[test]
    fn the_end_of_a_batch_is_found() {
        for base in [0, 7] {
            for length in (1..70).chain([1000, 100_000]) {
                let last = base + length - 1;
                for behind in [0, 1, 500] {
                    for first in [base, base + length / 2, last] {
                        let (found, tries) = last_of(&[(base, last)], first, last + 1 + behind);
                        assert_eq!(found, last, "{base} {length} {behind} {first}");
                        assert!(tries < 40, "{tries} tries for {length}");
                    }
                }
            }
        }
    }

    #[test]
    fn another_undecodable_batch_behind_it_is_another_one() {
        for second in 1..50 {
            let batches = [(3, 5), (6, 5 + second)];
            assert_eq!(last_of(&batches, 3, 6 + second).0, 5, "{second}");
        }
    }

    #[test]
    fn only_batches_whose_end_can_be_found_are_skipped() {
        assert!(can_be_skipped(Code::BadCompression, "Decompression failed"));
        assert!(can_be_skipped(Code::NotImplemented, "codec 0x7"));
        assert!(!can_be_skipped(Code::NotImplemented, "Unsupported Message(Set) MagicByte 9"));
    }
}
