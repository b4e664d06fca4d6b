//! Which acks go to the broker together, and when.
//!
//! One frame acks every delivery up to a tag, so those that lie below the lowest unsettled one go in one; each that lies
//! above it needs a frame of its own. Every frame is work for RabbitMQ, and to a quorum queue a command in its log. So
//! acks wait a moment for others, and for the request that is in their way. Mostly it is not far behind: requests end
//! nearly in the order in which they began.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// How long an ack waits for others. Short beside any work, and long beside the time between two items where frames are
/// worth saving.
const LINGER: Duration = Duration::from_millis(3);

/// So many acks within [`LINGER`] come only from many items in flight whose work takes next to no time.
const MANY: usize = 16;

/// How long so many wait. On a machine with more to do than it can, a request may end that long after those that began
/// with it.
const PATIENCE: Duration = Duration::from_millis(50);

/// The deliveries of one session.
pub(super) struct Acks {
    /// Neither acked nor returned, nor about to be.
    unsettled: BTreeSet<u64>,
    /// To be acked.
    waiting: BTreeSet<u64>,
    /// Since when.
    since: Option<Instant>,
    prefetch: usize,
}

/// What one frame acks: the last of these tags, and where they are several, all up to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame(pub BTreeSet<u64>);

impl Acks {
    /// `prefetch` bounds what is neither acked nor returned.
    pub(super) fn new(prefetch: u16) -> Self {
        let (unsettled, waiting) = (BTreeSet::new(), BTreeSet::new());
        Acks { unsettled, waiting, since: None, prefetch: prefetch.into() }
    }

    pub(super) fn deliver(&mut self, tag: u64) {
        self.unsettled.insert(tag);
    }

    pub(super) fn is_unsettled(&self, tag: u64) -> bool {
        self.unsettled.contains(&tag)
    }

    /// Has the delivery acked in time.
    pub(super) fn ack(&mut self, tag: u64, now: Instant) {
        self.unsettled.remove(&tag);
        self.waiting.insert(tag);
        self.since.get_or_insert(now);
    }

    /// Leaves the delivery to a frame that returns it, which has to be written before any ack from here.
    pub(super) fn give_up(&mut self, tag: u64) {
        self.unsettled.remove(&tag);
    }

    /// When to write [`all`](Self::all).
    pub(super) fn due(&self) -> Option<Instant> {
        let patience = if self.waiting.len() < MANY { LINGER } else { PATIENCE };
        self.since.map(|since| since + patience)
    }

    /// What is to be written now: one frame, if it acks a sixth of what is still out, so that the broker goes on handing
    /// over long before the work runs out; or all, if they keep it from handing over most of what it may.
    pub(super) fn worth(&mut self, now: Instant) -> Vec<Frame> {
        let enough = (self.unsettled.len() / 6).max(1);
        if self.waiting.range(..self.lowest_unsettled()).nth(enough - 1).is_some() {
            let frame = self.together();
            self.since = (!self.waiting.is_empty()).then_some(now);
            return frame.into_iter().collect();
        }
        if self.waiting.len() > self.prefetch * 3 / 4 { self.all() } else { Vec::new() }
    }

    /// All that wait.
    pub(super) fn all(&mut self) -> Vec<Frame> {
        self.since = None;
        let together = self.together();
        let alone = std::mem::take(&mut self.waiting).into_iter().map(|tag| Frame(BTreeSet::from([tag])));
        together.into_iter().chain(alone).collect()
    }

    /// What lies below everything that is unsettled.
    ///
    /// Every tag up to the last of those was delivered here (tags come in order) and is acked by it or settled by an
    /// earlier frame, so the frame acks nothing that nobody asked for.
    fn together(&mut self) -> Option<Frame> {
        let above = self.waiting.split_off(&self.lowest_unsettled());
        let below = std::mem::replace(&mut self.waiting, above);
        (!below.is_empty()).then_some(Frame(below))
    }

    /// No delivery has the last of all numbers.
    fn lowest_unsettled(&self) -> u64 {
        self.unsettled.first().copied().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
