//! Decides which acks go to the broker in one frame, and when.
//!
//! One frame can ack every delivery up to a tag. So all acks below the lowest unsettled tag share a
//! frame. Each ack above it needs a frame of its own. Every frame is work for RabbitMQ, and a
//! quorum queue writes a command to its log for it. So acks wait a moment for other acks, and for
//! the running request with a lower tag. That request mostly ends soon: requests end nearly in the
//! order in which they began.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// The time that an ack waits for other acks. It is short beside any work. It is long beside the
/// time between two items, if there are enough frames to be worth saving.
const LINGER: Duration = Duration::from_millis(3);

/// This number of acks within [`LINGER`] only occurs with many items in flight and very short work.
const MANY: usize = 16;

/// The time that [`MANY`] acks wait. On an overloaded machine, a request may end this much later
/// than the requests that began with it.
const PATIENCE: Duration = Duration::from_millis(50);

/// The deliveries of one session.
pub(super) struct Acks {
    /// Tags that are not acked or returned, and whose settle is not decided.
    unsettled: BTreeSet<u64>,
    /// The highest tag that was delivered.
    last: u64,
    /// Tags with an ack to write.
    waiting: BTreeSet<u64>,
    /// The time at which the first waiting ack arrived.
    since: Option<Instant>,
    prefetch: usize,
}

/// The tags that one frame acks. A frame with several tags acks all tags up to the last one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame(pub BTreeSet<u64>);

impl Acks {
    /// Creates the state for a channel. `prefetch` bounds the deliveries that are neither acked nor
    /// returned.
    pub(super) fn new(prefetch: u16) -> Self {
        let (unsettled, waiting) = (BTreeSet::new(), BTreeSet::new());
        Acks { unsettled, last: 0, waiting, since: None, prefetch: prefetch.into() }
    }

    /// Records a delivery. The deliveries of several consumers may arrive out of order, so the tags
    /// before this one count as unsettled until they arrive.
    pub(super) fn deliver(&mut self, tag: u64) {
        if tag > self.last {
            self.unsettled.extend(self.last + 1..tag);
            self.last = tag;
        }
        self.unsettled.insert(tag);
    }

    pub(super) fn is_unsettled(&self, tag: u64) -> bool {
        self.unsettled.contains(&tag)
    }

    /// Records an ack to write within a bounded time.
    pub(super) fn ack(&mut self, tag: u64, now: Instant) {
        self.unsettled.remove(&tag);
        self.waiting.insert(tag);
        self.since.get_or_insert(now);
    }

    /// Removes a delivery that another frame returns. That frame must be written before any ack
    /// from here.
    pub(super) fn give_up(&mut self, tag: u64) {
        self.unsettled.remove(&tag);
    }

    /// Returns the time at which to write [`all`](Self::all).
    pub(super) fn due(&self) -> Option<Instant> {
        let patience = if self.waiting.len() < MANY { LINGER } else { PATIENCE };
        self.since.map(|since| since + patience)
    }

    /// Returns the ack frames to write now. One frame is worth it as soon as it covers a sixth of
    /// the unsettled deliveries, so that the broker hands over more items before the work runs out.
    /// If the waiting acks fill most of the prefetch, all of them are written.
    pub(super) fn worth(&mut self, now: Instant) -> Vec<Frame> {
        let enough = (self.unsettled.len() / 6).max(1);
        if self.waiting.range(..self.lowest_unsettled()).nth(enough - 1).is_some() {
            let frame = self.together();
            self.since = (!self.waiting.is_empty()).then_some(now);
            return frame.into_iter().collect();
        }
        if self.waiting.len() > self.prefetch * 3 / 4 { self.all() } else { Vec::new() }
    }

    /// Returns the frames for all waiting acks.
    pub(super) fn all(&mut self) -> Vec<Frame> {
        self.since = None;
        let together = self.together();
        let alone = std::mem::take(&mut self.waiting).into_iter().map(|tag| Frame(BTreeSet::from([tag])));
        together.into_iter().chain(alone).collect()
    }

    /// Returns the frame for the waiting acks below the lowest unsettled tag.
    ///
    /// Every tag up to the last of these was delivered here, because a missing tag counts as
    /// unsettled. This frame acks it, or an earlier frame settled it. So the frame acks no delivery
    /// that must stay unsettled.
    fn together(&mut self) -> Option<Frame> {
        let above = self.waiting.split_off(&self.lowest_unsettled());
        let below = std::mem::replace(&mut self.waiting, above);
        (!below.is_empty()).then_some(Frame(below))
    }

    /// Returns the lowest unsettled tag, or the largest number without one. No delivery has the
    /// largest number.
    fn lowest_unsettled(&self) -> u64 {
        self.unsettled.first().copied().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
