//! Passes records from `poll` to the bridge, and decides when to stop fetching.
//!
//! The bridge takes a delivery when a slot is free, so its channel is usually full. Pausing a
//! partition makes librdkafka drop its prefetched records and fetch them again later, which costs
//! more than short work itself. Not polling costs nothing, but is allowed only for a moment. So a
//! few records are kept ahead. When their space is full, polling stops for at most [`GRACE`]. If
//! the bridge has not made room by then, polling continues, and each partition with its share or
//! more of the records is paused until it has half of its share.
//!
//! Every session has a lane, and the lanes take turns: a partition with many records does not delay
//! the only record of another one. librdkafka has one queue for all partitions, so that record may
//! also be behind the many in that queue. So if the end of that queue was not seen for [`BLIND`],
//! the full lanes are paused as well, which removes their prefetched records from the queue.

use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::delivery::Epoch;
use crate::source::Delivery;

/// Records kept ahead of the bridge's channel.
const AHEAD: usize = 64;
/// The most bytes kept ahead. Each lane may always keep one record of any size.
const AHEAD_BYTES: u64 = 4 << 20;
/// The smallest share of a lane.
const LEAST_SHARE: usize = 4;
/// How long the bridge may take to make room before partitions are paused. Meanwhile nothing is
/// polled, which delays rebalances and the results of commits by the same time.
pub const GRACE: Duration = Duration::from_millis(100);
/// How long a record of one partition may be hidden behind records of others.
const BLIND: Duration = Duration::from_millis(500);

pub struct Intake {
    sender: PollSender<Delivery>,
    lanes: HashMap<Epoch, Lane>,
    /// Lanes with records; the first one is next.
    turns: VecDeque<Epoch>,
    records: usize,
    bytes: u64,
    flow: Flow,
    /// When librdkafka's queue was last seen empty.
    saw_end: Instant,
}

/// The records of one session.
#[derive(Default)]
struct Lane {
    records: VecDeque<Delivery>,
    bytes: u64,
    paused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Open,
    /// The time at which the room ran out. Nothing is polled until there is room again.
    Full(Instant),
    /// There was no room for longer than the grace; polling continues, with the full lanes paused.
    Paused,
    /// The intake has stopped for good.
    Stopped,
}

impl Intake {
    pub fn new(deliveries: mpsc::Sender<Delivery>, now: Instant) -> Self {
        Intake {
            sender: PollSender::new(deliveries),
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            records: 0,
            bytes: 0,
            flow: Flow::Open,
            saw_end: now,
        }
    }

    pub fn push(&mut self, delivery: Delivery) {
        if self.flow == Flow::Stopped {
            return;
        }
        let epoch = delivery.outline.id.epoch;
        let lane = self.lanes.entry(epoch).or_default();
        if lane.records.is_empty() {
            self.turns.push_back(epoch);
        }
        let bytes = delivery.outline.kept_bytes;
        lane.bytes += bytes;
        lane.records.push_back(delivery);
        self.bytes += bytes;
        self.records += 1;
    }

    /// Hands over as many records as the bridge has room for, one of each lane in turn. A lane for
    /// which `waits` returns true keeps its records. `context` is woken when there is more room.
    pub fn hand_over(&mut self, context: &mut Context<'_>, mut waits: impl FnMut(Epoch) -> bool) {
        let mut skipped = 0;
        while skipped < self.turns.len() {
            let Some(epoch) = self.turns.pop_front() else { return };
            if waits(epoch) {
                self.turns.push_back(epoch);
                skipped += 1;
                continue;
            }
            match self.sender.poll_reserve(context) {
                Poll::Ready(Ok(())) => {}
                // If the bridge is gone, its commands are closed too, which ends the loop.
                Poll::Ready(Err(_)) | Poll::Pending => return self.turns.push_front(epoch),
            }
            skipped = 0;
            let Some(lane) = self.lanes.get_mut(&epoch) else { continue };
            let Some(delivery) = lane.records.pop_front() else { continue };
            let bytes = delivery.outline.kept_bytes;
            lane.bytes -= bytes;
            self.bytes -= bytes;
            self.records -= 1;
            if !lane.records.is_empty() {
                self.turns.push_back(epoch);
            }
            // This fails only if the bridge is gone.
            let _ = self.sender.send_item(delivery);
        }
    }

    /// Records that librdkafka's queue is empty, so no record is hidden in it.
    pub fn saw_end(&mut self, now: Instant) {
        self.saw_end = now;
    }

    /// Changes between open, full and paused, by time and room. There are this many `sessions`.
    pub fn adjust(&mut self, sessions: usize, now: Instant) {
        let full = self.records >= AHEAD || self.bytes >= AHEAD_BYTES;
        let half_empty = self.records <= AHEAD / 2 && self.bytes <= AHEAD_BYTES / 2;
        let is_blind = sessions > 1 && now >= self.saw_end + BLIND;
        self.flow = match self.flow {
            Flow::Open | Flow::Full(_) if is_blind && !half_empty => Flow::Paused,
            Flow::Open if full => Flow::Full(now),
            Flow::Full(_) if !full => Flow::Open,
            Flow::Full(since) if now >= since + GRACE => Flow::Paused,
            Flow::Paused if half_empty && !is_blind => Flow::Open,
            same => same,
        };
        let pauses = self.flow == Flow::Paused;
        let sessions = sessions.max(1);
        let (share, share_bytes) = ((AHEAD / sessions).max(LEAST_SHARE), AHEAD_BYTES / sessions as u64);
        for lane in self.lanes.values_mut() {
            let is_over = lane.records.len() >= share || lane.bytes >= share_bytes;
            let is_under = lane.records.len() <= share / 2 && lane.bytes <= share_bytes / 2;
            lane.paused = pauses && (is_over || lane.paused && !is_under);
        }
    }

    /// Takes nothing new from now on, and returns the records that were kept ahead. They stay
    /// incomplete and are read again elsewhere.
    pub fn stop(&mut self) -> impl Iterator<Item = Delivery> + use<> {
        self.flow = Flow::Stopped;
        (self.records, self.bytes) = (0, 0);
        self.turns.clear();
        self.sender.abort_send();
        std::mem::take(&mut self.lanes).into_values().flat_map(|lane| lane.records)
    }

    /// Drops the records of a session that is over, and returns their number.
    pub fn forget(&mut self, epoch: Epoch) -> usize {
        let Some(lane) = self.lanes.remove(&epoch) else { return 0 };
        self.turns.retain(|other| *other != epoch);
        self.records -= lane.records.len();
        self.bytes -= lane.bytes;
        lane.records.len()
    }

    pub fn may_poll(&self) -> bool {
        !matches!(self.flow, Flow::Full(_))
    }

    /// Whether the partition of this session must be paused.
    pub fn holds(&self, epoch: Epoch) -> bool {
        self.flow == Flow::Stopped || self.lanes.get(&epoch).is_some_and(|lane| lane.paused)
    }

    /// Returns the time at which [`adjust`](Self::adjust) has something to do, independent of the
    /// bridge.
    pub fn next_change(&self) -> Option<Instant> {
        match self.flow {
            Flow::Full(since) => Some(since + GRACE),
            _ => None,
        }
    }

    pub fn len(&self) -> usize {
        self.records
    }

    /// Returns the bridge's channel, for the next client.
    pub fn into_sender(self) -> Option<mpsc::Sender<Delivery>> {
        self.sender.get_ref().cloned()
    }
}

#[cfg(test)]
mod tests;
