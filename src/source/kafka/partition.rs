//! One session: one assigned partition, from its assignment until it is revoked or lost.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use super::head::Head;
use super::progress::Progress;
use super::record::Place;
use super::tracker::{Received, Tracker};
use super::undecodable::Undecodable;
use crate::connect::kafka::notice::Record;
use crate::delivery::DeliveryId;
use crate::source::Delivery;
use crate::telemetry::PartitionState;

/// The longest run of done records that is fetched and dropped. A longer one is skipped by a seek.
const SKIP: i64 = 1000;
/// How long finished work may wait for its commit before the partition starts nothing new. An
/// answered commit takes less. A crash repeats at most the work of this time, besides the items in
/// flight.
const LATE: Duration = Duration::from_millis(300);
const FIRST_REFUSAL: Duration = Duration::from_millis(200);
const LONGEST_REFUSAL: Duration = Duration::from_secs(10);

pub struct Partition {
    pub place: Place,
    pub head: Head,
    pub progress: Progress,
    /// Whether librdkafka was told to pause it. Pausing drops prefetched records, and resuming a
    /// partition that is not paused misbehaves, so it is told only changes.
    pub paused: bool,
    /// None until the first record, if the group has no committed offset: it begins at the oldest
    /// record.
    pub(super) tracker: Option<Tracker>,
    /// The offset polled last. librdkafka hands out rising offsets, also across pauses and seeks.
    pub(super) last: Option<i64>,
    /// Records that were received and that nobody works on: returned, or never handed over.
    idle: usize,
    /// Whether nothing more is taken, because the group wants the partition back.
    retired: bool,
    /// Records that the tracker did not admit. Pausing bounds them to the records of one turn of
    /// the loop.
    pub(super) held_back: VecDeque<Delivery>,
    /// Acked, with the change of the map that contains it, until a commit of that change was taken.
    unproven: VecDeque<(u64, u64)>,
    /// The change whose commit will show that the partition is still ours, if somebody asked.
    proof: Option<u64>,
    /// The time since which the oldest change waits for the answer to its commit.
    unconfirmed_since: Option<Instant>,
    refusal: Option<Refusal>,
    pub(super) undecodable: Option<Undecodable>,
    /// Whether a person paused it.
    pub is_paused_by_hand: bool,
    /// When it last handed a record over, or took a commit.
    progressed_at: Option<SystemTime>,
}

/// The broker refuses to commit this partition, while it takes others.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    since: Instant,
    failures: u32,
    again_at: Instant,
}

/// The fate of a record.
#[derive(Debug)]
pub enum Taken {
    Deliver(Delivery),
    /// It is already done, or is left to the next owner.
    Skipped,
    /// The partition has as much unfinished work as its map can hold.
    HeldBack,
}

impl Partition {
    pub fn new(place: Place, tracker: Option<Tracker>) -> Self {
        Partition {
            place,
            head: Head::default(),
            progress: Progress::default(),
            paused: false,
            tracker,
            last: None,
            idle: 0,
            retired: false,
            held_back: VecDeque::new(),
            unproven: VecDeque::new(),
            proof: None,
            unconfirmed_since: None,
            refusal: None,
            undecodable: None,
            is_paused_by_hand: false,
            progressed_at: None,
        }
    }

    /// Whether this offset proves that the log was replaced: the topic was created again, or an
    /// unclean election cut the log short. Our map of it is then worthless.
    pub fn steps_back(&self, offset: i64) -> bool {
        match (self.last, &self.tracker) {
            (Some(last), _) => offset <= last,
            (None, Some(tracker)) => offset < tracker.base(),
            (None, None) => false,
        }
    }

    /// Takes a record. `log_bounds` returns the start and end of the log, as the first fetch
    /// reported them.
    pub fn take(&mut self, record: &Record<'_>, log_bounds: impl FnOnce() -> Option<(i64, i64)>) -> Taken {
        if self.retired {
            return Taken::Skipped;
        }
        let offset = record.offset;
        if self.last.is_none()
            && let Some((_, log_end)) = log_bounds()
        {
            self.doubt_map(log_end);
        }
        self.last = Some(offset);
        self.progressed_at = Some(SystemTime::now());
        let tracker = self.tracker.get_or_insert_with(|| {
            let mut tracker = Tracker::new(offset);
            tracker.touch();
            tracker
        });
        // If the map is full of records that are gone from the log, it would never have room again.
        let made_room = if tracker.admits(offset) { 0 } else { tracker.pass_over(offset) };
        let (vanished, taken) = if !self.held_back.is_empty() || !tracker.admits(offset) {
            self.held_back.push_back(self.place.delivery(record, 0));
            (0, Taken::HeldBack)
        } else {
            match tracker.receive(offset) {
                Received::New { vanished } => {
                    (vanished, Taken::Deliver(self.place.delivery(record, tracker.attempts(offset))))
                }
                Received::Done { vanished } => (vanished, Taken::Skipped),
                Received::Again => (0, Taken::Skipped),
            }
        };
        self.warn_of_vanished(made_room + vanished, offset);
        taken
    }

    /// Records that everything below `end` was polled. Missing offsets are markers of transactions
    /// or aborted records. Returns false if the known log cannot end there.
    pub fn reached(&mut self, end: i64) -> bool {
        let polled_to = self.last.map_or(0, |last| last + 1);
        if end < polled_to || self.tracker.as_ref().is_some_and(|tracker| end < tracker.base()) {
            return false;
        }
        if self.retired || !self.held_back.is_empty() || self.undecodable.is_some() {
            return true;
        }
        self.last = self.last.max(end.checked_sub(1).filter(|last| *last >= 0));
        let tracker = self.tracker.get_or_insert_with(|| {
            let mut tracker = Tracker::new(end);
            tracker.touch();
            tracker
        });
        let vanished = tracker.reach(end);
        self.warn_of_vanished(vanished, end);
        true
    }

    fn warn_of_vanished(&self, vanished: usize, offset: i64) {
        if vanished > 0 {
            tracing::warn!(id = %self.place.id(offset), vanished,
                "Unfinished records below this offset are gone from the log, by its retention or compaction");
        }
    }

    /// Returns the offset at which to continue fetching, if everything before it is done.
    pub fn jump(&self) -> Option<i64> {
        let next = self.last? + 1;
        let needed = self.tracker.as_ref()?.next_needed(next);
        (!self.holds() && needed - next > SKIP).then_some(needed)
    }

    /// Returns records that were held back and that the tracker now admits. They come in batches,
    /// because a partition that resumes for a single record would fetch everything again each time.
    pub fn release(&mut self) -> Vec<Delivery> {
        let mut released = Vec::new();
        let Some(tracker) = self.tracker.as_mut().filter(|tracker| tracker.has_room()) else {
            return released;
        };
        while let Some(delivery) = self.held_back.pop_front() {
            let offset = delivery.outline.id.tag.cast_signed();
            if !tracker.admits(offset) {
                self.held_back.push_front(delivery);
                break;
            }
            tracker.receive(offset);
            released.push(delivery);
        }
        released
    }

    /// Marks a record as done. Returns whether it was not done before.
    pub fn complete(&mut self, tag: u64, now: Instant) -> bool {
        let Some(tracker) = self.tracker.as_mut() else { return false };
        let is_new = tracker.complete(tag.cast_signed());
        if is_new {
            self.unproven.push_back((tracker.latest_change(), tag));
            self.unconfirmed_since.get_or_insert(now);
        }
        is_new
    }

    /// Records that the broker took the map up to `change`. Returns the acks that this proves.
    pub fn acknowledge(&mut self, change: u64, now: Instant) -> Vec<DeliveryId> {
        if let Some(tracker) = &mut self.tracker {
            tracker.acknowledge(change);
        }
        self.progressed_at = Some(SystemTime::now());
        let count = self.unproven.iter().take_while(|(contained_in, _)| *contained_in <= change).count();
        let epoch = self.place.epoch;
        let proven = self.unproven.drain(..count).map(|(_, tag)| DeliveryId { epoch, tag }).collect();
        // The other changes were made after the commit was sent, a moment ago.
        self.unconfirmed_since = (!self.unproven.is_empty()).then_some(now);
        proven
    }

    /// Whether finished work has waited so long for its commit that no more should start.
    pub fn is_late(&self, now: Instant) -> bool {
        self.unconfirmed_for(now).is_some_and(|time| time >= LATE)
    }

    /// Returns how long finished work has waited for its commit.
    pub fn unconfirmed_for(&self, now: Instant) -> Option<Duration> {
        self.unconfirmed_since.map(|since| now.saturating_duration_since(since))
    }

    /// Records that the broker refused the commit of this partition. Returns how long that has
    /// lasted.
    pub fn commit_refused(&mut self, now: Instant) -> Duration {
        let first = Refusal { since: now, failures: 0, again_at: now };
        let refusal = self.refusal.get_or_insert(first);
        let backoff = FIRST_REFUSAL.saturating_mul(1 << refusal.failures.min(6)).min(LONGEST_REFUSAL);
        refusal.failures += 1;
        refusal.again_at = now + backoff;
        now.saturating_duration_since(refusal.since)
    }

    /// Records that the broker took the commit. Returns whether it had refused the one before.
    pub fn commit_taken(&mut self) -> bool {
        self.refusal.take().is_some()
    }

    /// Tries a refused commit again at once, because the partition will be left.
    pub fn retry_refused(&mut self, now: Instant) {
        if let Some(refusal) = &mut self.refusal {
            refusal.again_at = now;
        }
    }

    /// Returns the time at which a refused commit is tried again.
    pub fn commit_again_at(&self) -> Option<Instant> {
        self.refusal.map(|refusal| refusal.again_at)
    }

    /// Makes a change whose commit will show that the group still knows this member. Returns false
    /// if there is nothing to commit.
    pub fn prove(&mut self) -> bool {
        let Some(tracker) = &mut self.tracker else { return false };
        tracker.touch();
        self.proof = Some(tracker.latest_change());
        true
    }

    /// Whether somebody waits for the commit of `change` as a proof.
    pub fn take_proof(&mut self, change: u64) -> bool {
        self.proof.take_if(|proof| *proof <= change).is_some()
    }

    /// Takes nothing more. `unclaimed` received records will not be handed over.
    pub fn retire(&mut self, unclaimed: usize) {
        self.idle += unclaimed;
        self.retired = true;
        self.held_back.clear();
    }

    /// Records that a received record will not be worked on in this session.
    pub fn returned(&mut self) {
        self.idle += 1;
    }

    /// Where reading must continue so that nothing from `offset` on is passed over.
    pub fn next_wanted(&self, offset: i64) -> i64 {
        self.polled_to().map_or(offset, |polled_to| offset.max(polled_to))
    }

    /// Everything below this offset was polled or is done. None when nothing is known yet.
    pub fn polled_to(&self) -> Option<i64> {
        self.last.map(|last| last + 1).or_else(|| self.tracker.as_ref().map(Tracker::base))
    }

    /// Returns the number of records in the bridge's hands.
    pub fn in_flight(&self) -> usize {
        self.tracker.as_ref().map_or(0, Tracker::received).saturating_sub(self.idle)
    }

    /// Returns the range from the lowest unfinished record to the next one to receive, if any
    /// record is in hand.
    pub fn window(&self) -> Option<(i64, i64)> {
        let tracker = self.tracker.as_ref().filter(|tracker| tracker.received() > 0)?;
        Some((tracker.base(), tracker.next()))
    }

    /// The state for people.
    pub fn state(&self, head_age: Duration) -> PartitionState {
        let unfinished_from = self.tracker.as_ref().map(Tracker::base);
        // The end is zero before the broker's first answer, and in a log without a record.
        let end = self.progress.log_end();
        let lag = unfinished_from.filter(|base| end >= *base).and_then(|base| u64::try_from(end - base).ok());
        let lag = lag.or_else(|| (end == 0 && unfinished_from.is_none()).then_some(0));
        PartitionState {
            topic: self.place.topic.clone(),
            partition: self.place.partition,
            unfinished_from,
            lag,
            head_age,
            progress: self.progressed_at,
        }
    }

    /// Whether nothing should be fetched now.
    pub fn holds(&self) -> bool {
        self.retired || !self.held_back.is_empty()
    }

    pub fn is_held_back(&self) -> bool {
        !self.held_back.is_empty()
    }

    pub fn tracker(&mut self) -> Option<&mut Tracker> {
        self.tracker.as_mut()
    }

    pub fn is_dirty(&self) -> bool {
        self.tracker.as_ref().is_some_and(Tracker::is_dirty)
    }

    /// Records that were not polled yet, in a log whose readable part ends at `readable_to`. The
    /// records of open transactions count too. `log_start` is asked when nothing was polled or
    /// committed yet.
    pub fn backlog(&mut self, readable_to: i64, log_start: impl FnOnce() -> i64) -> u64 {
        self.head.log_ends_at(readable_to);
        self.progress.log_is_readable_to(readable_to);
        let log_end = self.progress.log_end();
        let Some(tracker) = &self.tracker else {
            return u64::try_from(log_end - log_start()).unwrap_or(0);
        };
        let polled_to = self.last.map_or(tracker.end(), |last| tracker.end().max(last + 1));
        let unread = u64::try_from(log_end - polled_to).unwrap_or(0);
        unread + tracker.awaited() as u64 + self.held_back.len() as u64
    }

    /// Drops a map with offsets beyond the end of the log. Such a map belongs to a log that was
    /// deleted or cut short, and would make new records count as done.
    fn doubt_map(&mut self, log_end: i64) {
        let Some(tracker) = &self.tracker else { return };
        // A negative end is unknown.
        if log_end >= 0 && tracker.end() > log_end {
            tracing::warn!(id = %self.place.id(tracker.base()), log_end,
                "The committed map reaches past the end of the log and is ignored");
            self.tracker = Some(Tracker::new(tracker.base()));
        }
    }
}
