//! The way of records from `poll` to the bridge, and when to stop fetching.
//!
//! The bridge takes a delivery when a slot is free, so its channel is full most of the time. Pausing a
//! partition makes librdkafka forget what it prefetched and fetch it again later, which would cost more
//! than short work itself; not polling costs nothing, but nobody may stop polling for long. So a few
//! records are kept ahead; when those fill up too, polling stops for at most [`GRACE`], and only when
//! that was not enough are the partitions paused. They are resumed when half of what was kept is gone.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::delivery::Epoch;
use crate::source::Delivery;

/// Records kept ahead of the bridge's channel.
const AHEAD: usize = 64;
/// Bytes kept ahead; one record of any size always is.
const AHEAD_BYTES: u64 = 4 << 20;
/// How long the bridge may take to make room before the partitions are paused. Polls stop meanwhile,
/// which delays rebalances and commit results by as much.
pub const GRACE: Duration = Duration::from_millis(100);

pub struct Intake {
    sender: PollSender<Delivery>,
    ahead: VecDeque<Delivery>,
    bytes: u64,
    flow: Flow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Open,
    /// No room since then; not polling.
    Full(Instant),
    /// No room for longer than the grace; polling, with all partitions paused.
    Paused,
    /// For good.
    Stopped,
}

impl Intake {
    pub fn new(deliveries: mpsc::Sender<Delivery>) -> Self {
        let sender = PollSender::new(deliveries);
        Intake { sender, ahead: VecDeque::new(), bytes: 0, flow: Flow::Open }
    }

    pub fn push(&mut self, delivery: Delivery) {
        if self.flow != Flow::Stopped {
            self.bytes += delivery.outline.kept_bytes;
            self.ahead.push_back(delivery);
        }
    }

    /// Passes on what the bridge has room for; `context` is woken when there is more room.
    pub fn hand_over(&mut self, context: &mut Context<'_>) {
        while !self.ahead.is_empty() {
            match self.sender.poll_reserve(context) {
                Poll::Ready(Ok(())) => {}
                // A bridge that is gone has closed the commands too, which ends the loop.
                Poll::Ready(Err(_)) | Poll::Pending => return,
            }
            if let Some(delivery) = self.ahead.pop_front() {
                self.bytes -= delivery.outline.kept_bytes;
                // Fails only where the bridge is gone.
                let _ = self.sender.send_item(delivery);
            }
        }
    }

    /// Moves on from full to paused and back to open, as time and room say.
    pub fn adjust(&mut self, now: Instant) {
        let full = self.ahead.len() >= AHEAD || self.bytes >= AHEAD_BYTES;
        let half_empty = self.ahead.len() <= AHEAD / 2 && self.bytes <= AHEAD_BYTES / 2;
        self.flow = match self.flow {
            Flow::Open if full => Flow::Full(now),
            Flow::Full(_) if !full => Flow::Open,
            Flow::Full(since) if now >= since + GRACE => Flow::Paused,
            Flow::Paused if half_empty => Flow::Open,
            same => same,
        };
    }

    /// Takes nothing new any more, and hands out what was kept ahead: it stays incomplete, and comes
    /// again elsewhere.
    pub fn stop(&mut self) -> impl Iterator<Item = Delivery> + use<> {
        self.flow = Flow::Stopped;
        self.bytes = 0;
        self.sender.abort_send();
        std::mem::take(&mut self.ahead).into_iter()
    }

    /// Drops what belongs to a session that is over, and tells how many that were.
    pub fn forget(&mut self, epoch: Epoch) -> usize {
        let before = self.ahead.len();
        self.ahead.retain(|delivery| delivery.outline.id.epoch != epoch);
        self.bytes = self.ahead.iter().map(|delivery| delivery.outline.kept_bytes).sum();
        before - self.ahead.len()
    }

    pub fn may_poll(&self) -> bool {
        !matches!(self.flow, Flow::Full(_))
    }

    /// Whether every partition is to be paused.
    pub fn holds_all(&self) -> bool {
        matches!(self.flow, Flow::Paused | Flow::Stopped)
    }

    /// When [`adjust`](Self::adjust) has something to do, whatever the bridge does.
    pub fn next_change(&self) -> Option<Instant> {
        match self.flow {
            Flow::Full(since) => Some(since + GRACE),
            _ => None,
        }
    }

    pub fn len(&self) -> usize {
        self.ahead.len()
    }
}

#[cfg(test)]
mod tests;
