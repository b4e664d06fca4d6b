//! One session: one assigned partition, from its assignment until it is revoked or lost.

use std::collections::VecDeque;

use rdkafka::Message as _;
use rdkafka::message::BorrowedMessage;

use super::head::{Ages, Threat};
use super::record::Place;
use super::tracker::{Received, Tracker};
use crate::config::Start;
use crate::delivery::DeliveryId;
use crate::source::Delivery;

/// Runs of done records longer than this are jumped over instead of fetched and dropped.
const SKIP: i64 = 1000;

pub struct Partition {
    pub place: Place,
    /// Whether librdkafka was told to pause it. Pausing drops what was prefetched, and resuming what is
    /// not paused misbehaves, so both happen on transitions only.
    pub paused: bool,
    /// None until the first record, where the group has no committed offset.
    tracker: Option<Tracker>,
    /// Where that first record is looked for.
    start: Start,
    /// When its records were received.
    pub(super) ages: Ages,
    /// Where the log ended when that was last asked for, and began when it was first asked for.
    pub(super) log_end: i64,
    pub(super) first_start: Option<i64>,
    /// Heads that were told of already: because of their age, and because of retention.
    pub(super) stuck: Option<i64>,
    pub(super) threatened: Option<(i64, Threat)>,
    /// The offset polled last. librdkafka hands out rising offsets, also across pauses and seeks.
    last: Option<i64>,
    /// Records that were received and that nobody works on: returned, or never handed over.
    idle: usize,
    /// Nothing more is taken: the group wants it back.
    retired: bool,
    /// Records that the tracker did not admit. Pausing bounds them to what one turn of the loop polls.
    held_back: VecDeque<Delivery>,
    /// Acked, with the change of the map that says so, until a commit of that change was taken.
    unproven: VecDeque<(u64, u64)>,
    /// The change whose commit shows that the partition is still ours, where somebody asked.
    proof: Option<u64>,
}

/// What became of a record.
#[derive(Debug)]
pub enum Taken {
    Deliver(Delivery),
    /// It is done already, or for the next owner.
    Skipped,
    /// The partition has as much unfinished work as its map can hold.
    HeldBack,
}

impl Partition {
    pub fn new(place: Place, tracker: Option<Tracker>, start: Start) -> Self {
        Partition {
            place,
            paused: false,
            tracker,
            start,
            ages: Ages::default(),
            log_end: 0,
            first_start: None,
            stuck: None,
            threatened: None,
            last: None,
            idle: 0,
            retired: false,
            held_back: VecDeque::new(),
            unproven: VecDeque::new(),
            proof: None,
        }
    }

    /// Whether this offset can only come from another log than the one that we know: the topic was
    /// created anew, or an unclean election cut it short. What we know of it is then worthless.
    pub fn steps_back(&self, offset: i64) -> bool {
        match (self.last, &self.tracker) {
            (Some(last), _) => offset <= last,
            (None, Some(tracker)) => offset < tracker.base(),
            (None, None) => false,
        }
    }

    /// Takes a record in. `log_bounds` is asked for start and end of the log, which the first fetch has told.
    pub fn take(
        &mut self,
        record: &BorrowedMessage<'_>,
        log_bounds: impl FnOnce() -> Option<(i64, i64)>,
    ) -> Taken {
        if self.retired {
            return Taken::Skipped;
        }
        let offset = record.offset();
        if self.last.is_none()
            && let Some((_, log_end)) = log_bounds()
        {
            self.doubt_map(log_end);
        }
        self.last = Some(offset);
        let tracker = self.tracker.get_or_insert_with(|| {
            let mut tracker = Tracker::new(offset);
            tracker.touch();
            tracker
        });
        // A map that is full of what is gone from the log would have no room for anything, for ever.
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
        let vanished = made_room + vanished;
        if vanished > 0 {
            let Place { topic, partition, .. } = &self.place;
            tracing::warn!(%topic, partition, offset, vanished,
                "unfinished records are gone from the log, by its retention or compaction");
        }
        taken
    }

    /// Where to go on fetching, when everything in between is done.
    pub fn jump(&self) -> Option<i64> {
        let next = self.last? + 1;
        let needed = self.tracker.as_ref()?.next_needed(next);
        (!self.holds() && needed - next > SKIP).then_some(needed)
    }

    /// Records that were held back and that the tracker admits by now. They come in batches: a
    /// partition that resumed for each single one would fetch everything anew each time.
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

    /// Marks a record done; whether that is news.
    pub fn complete(&mut self, tag: u64) -> bool {
        let Some(tracker) = self.tracker.as_mut() else { return false };
        let news = tracker.complete(tag.cast_signed());
        if news {
            self.unproven.push_back((tracker.latest_change(), tag));
        }
        news
    }

    /// The broker took the map as of `change`: the acks that it tells of are proven.
    pub fn acknowledge(&mut self, change: u64) -> Vec<DeliveryId> {
        if let Some(tracker) = &mut self.tracker {
            tracker.acknowledge(change);
        }
        let count = self.unproven.iter().take_while(|(told_by, _)| *told_by <= change).count();
        let epoch = self.place.epoch;
        self.unproven.drain(..count).map(|(_, tag)| DeliveryId { epoch, tag }).collect()
    }

    /// Makes a change whose commit will show that the group still knows us. Whether there is anything to commit.
    pub fn prove(&mut self) -> bool {
        let Some(tracker) = &mut self.tracker else { return false };
        tracker.touch();
        self.proof = Some(tracker.latest_change());
        true
    }

    /// Whether the commit of `change` was the proof that somebody waits for.
    pub fn take_proof(&mut self, change: u64) -> bool {
        self.proof.take_if(|proof| *proof <= change).is_some()
    }

    /// Takes nothing more. `unclaimed` records were received and are not handed over.
    pub fn retire(&mut self, unclaimed: usize) {
        self.idle += unclaimed;
        self.retired = true;
        self.held_back.clear();
    }

    /// A record that was received will not be worked on in this session.
    pub fn returned(&mut self) {
        self.idle += 1;
    }

    /// Records in the bridge's hands.
    pub fn in_flight(&self) -> usize {
        self.tracker.as_ref().map_or(0, Tracker::received).saturating_sub(self.idle)
    }

    /// From the lowest unfinished record to the one received next, if there is any in our hands.
    pub fn window(&self) -> Option<(i64, i64)> {
        let tracker = self.tracker.as_ref().filter(|tracker| tracker.received() > 0)?;
        Some((tracker.base(), tracker.next()))
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

    /// Records that were not polled yet, in a log that ends at `log_end`. `log_start` is asked where
    /// nothing was polled or committed yet.
    pub fn backlog(&mut self, log_end: i64, log_start: impl FnOnce() -> i64) -> u64 {
        self.log_end = log_end;
        let Some(tracker) = &self.tracker else {
            return match self.start {
                Start::Earliest => u64::try_from(log_end - log_start()).unwrap_or(0),
                Start::Latest => 0,
            };
        };
        let polled_to = self.last.map_or(tracker.end(), |last| tracker.end().max(last + 1));
        let unread = u64::try_from(log_end - polled_to).unwrap_or(0);
        unread + tracker.awaited() as u64 + self.held_back.len() as u64
    }

    /// Drops a map that tells of offsets which the log does not have: it belongs to a log that was
    /// deleted, and would pass off new records as done.
    fn doubt_map(&mut self, log_end: i64) {
        let Some(tracker) = &self.tracker else { return };
        // Negative: not known.
        if log_end >= 0 && tracker.end() > log_end {
            let Place { topic, partition, .. } = &self.place;
            tracing::warn!(%topic, partition, offset = tracker.base(), log_end,
                "the committed map reaches past the end of the log and is ignored: the topic was created anew");
            self.tracker = Some(Tracker::new(tracker.base()));
        }
    }
}
