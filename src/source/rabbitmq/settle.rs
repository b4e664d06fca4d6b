//! Settles of one session: which deliveries are out, and what is being written about them.
//!
//! Written through the channel and not through lapin's `Acker`, for two reasons. An acker spawns a task for each ack,
//! which costs more than the ack. And tasks overtake each other: an ack for many that arrives before the ack of one of
//! them makes that one unknown to the broker, which closes the channel for it.
//!
//! No answer exists for an ack. Where it matters whether one counted, because the item could be told from all others
//! if it came back, the next synchronous answer on the same channel is its proof: a `basic.qos` that changes nothing.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicQosOptions};
use tokio::time::{Instant, sleep_until, timeout};

use super::Intake;
use super::acks::{Acks, Frame};
use crate::connect::rabbitmq::Error;
use crate::delivery::{DeliveryId, Epoch, Outline, Settlement};
use crate::source::{Settled, SourceEvent};

/// Bound of one write. A connection that takes none for this long is as good as lost.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Settler {
    epoch: Epoch,
    channel: Channel,
    acks: Acks,
    /// Of the unsettled, those whose acks are to be proven.
    to_prove: BTreeSet<u64>,
    /// Acked, and not proven.
    unproven: Vec<DeliveryId>,
    /// A proof is under way.
    proving: bool,
    prefetch: u16,
    intake: Intake,
    /// Handed to lapin and not yet on the wire, or not yet answered. No longer than the prefetch allows.
    writes: FuturesUnordered<Write>,
}

/// What one frame settles, once it is on the wire; or why the session is lost.
type Written = Result<Vec<SourceEvent>, Error>;
type Write = Pin<Box<dyn Future<Output = Written> + Send>>;

impl Settler {
    /// `prefetch` is the channel's, which a proof sets once more.
    pub(super) fn new(epoch: Epoch, channel: Channel, prefetch: u16, intake: Intake) -> Self {
        Settler {
            epoch,
            channel,
            acks: Acks::new(prefetch),
            to_prove: BTreeSet::new(),
            unproven: Vec::new(),
            proving: false,
            prefetch,
            intake,
            writes: FuturesUnordered::new(),
        }
    }

    pub(super) fn deliver(&mut self, outline: &Outline) {
        self.acks.deliver(outline.id.tag);
        if outline.identity.is_unique() {
            self.to_prove.insert(outline.id.tag);
        }
    }

    /// Settles within a moment. The answer is given at once only where there is nothing to write: a delivery of another
    /// session, one that was settled before, or one that the end of the session gives back.
    pub(super) fn settle(&mut self, id: DeliveryId, how: Settlement) -> Option<SourceEvent> {
        // On a channel that is closed nothing leaves this process.
        let known = id.epoch == self.epoch && self.acks.is_unsettled(id.tag);
        if !known || !self.channel.status().connected() {
            return Some(SourceEvent::Settled { id, settled: Settled::Stale });
        }
        if how == Settlement::Return && self.intake == Intake::OnlyReturns {
            // It stays unsettled: one frame for many acks would take it along otherwise.
            return Some(SourceEvent::Settled { id, settled: Settled::Sent });
        }
        match how {
            Settlement::Ack => self.acks.ack(id.tag, Instant::now()),
            Settlement::Return => self.nack(id.tag),
        }
        None
    }

    /// Hands lapin the acks that are [worth](Acks::worth) it.
    pub(super) fn flush_if_worth(&mut self) {
        let frames = self.acks.worth(Instant::now());
        self.write_acks(frames);
    }

    /// Hands all acks to lapin.
    pub(super) fn flush(&mut self) {
        let frames = self.acks.all();
        self.write_acks(frames);
    }

    fn write_acks(&mut self, frames: Vec<Frame>) {
        for Frame(tags) in frames {
            self.write_ack(tags);
        }
        self.prove();
    }

    /// The answers of the next write that ended; `None` when none is under way and no ack waits. Cancel safe.
    pub(super) async fn written(&mut self) -> Option<Written> {
        let written = loop {
            let Some(due) = self.acks.due() else { break self.writes.next().await };
            tokio::select! {
                biased;
                Some(written) = self.writes.next() => break Some(written),
                () = sleep_until(due) => self.flush(),
            }
        };
        if let Some(Ok(answers)) = &written
            && answers.iter().any(|answer| matches!(answer, SourceEvent::Proven(_)))
        {
            self.proving = false;
            self.prove();
        }
        written
    }

    /// Answers `Alive` once the broker has answered, or lets the session end because it does not.
    pub(super) fn prove_alive(&mut self, epoch: Epoch) {
        // The loss of an earlier session was told already.
        if epoch == self.epoch {
            self.round_trip(SourceEvent::Alive { epoch });
        }
    }

    /// Has the broker answer behind all acks that were written so far.
    fn prove(&mut self) {
        if !self.proving && !self.unproven.is_empty() {
            self.proving = true;
            let acked = std::mem::take(&mut self.unproven);
            self.round_trip(SourceEvent::Proven(acked));
        }
    }

    fn round_trip(&mut self, then: SourceEvent) {
        let (channel, prefetch) = (self.channel.clone(), self.prefetch);
        let question = async move { channel.basic_qos(prefetch, BasicQosOptions { global: false }).await };
        self.write(question, vec![then]);
    }

    fn write_ack(&mut self, tags: BTreeSet<u64>) {
        let Some(last) = tags.last().copied() else { return };
        let (channel, multiple) = (self.channel.clone(), tags.len() > 1);
        let write = async move { channel.basic_ack(last, BasicAckOptions { multiple }).await };
        for tag in &tags {
            if self.to_prove.remove(tag) {
                self.unproven.push(DeliveryId { epoch: self.epoch, tag: *tag });
            }
        }
        self.write(write, self.sent(tags));
    }

    fn nack(&mut self, tag: u64) {
        let channel = self.channel.clone();
        // Nack, never reject: from RabbitMQ 4.3 on only a reject counts against the delivery limit.
        let options = BasicNackOptions { multiple: false, requeue: true };
        let write = async move { channel.basic_nack(tag, options).await };
        self.acks.give_up(tag);
        self.to_prove.remove(&tag);
        self.write(write, self.sent([tag]));
    }

    fn sent(&self, tags: impl IntoIterator<Item = u64>) -> Vec<SourceEvent> {
        let id = |tag| DeliveryId { epoch: self.epoch, tag };
        tags.into_iter().map(|tag| SourceEvent::Settled { id: id(tag), settled: Settled::Sent }).collect()
    }

    fn write(
        &mut self,
        frame: impl Future<Output = lapin::Result<()>> + Send + 'static,
        answers: Vec<SourceEvent>,
    ) {
        let mut write = async move {
            match timeout(WRITE_TIMEOUT, frame).await {
                Ok(Ok(())) => Ok(answers),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(Error::Silent("a settle", WRITE_TIMEOUT)),
            }
        }
        .boxed();
        // Polled once here, which is what puts the frame into lapin's queue: so the order of frames is the order of
        // these calls, and not the order in which a set of futures happens to be polled.
        match write.as_mut().now_or_never() {
            Some(written) => self.writes.push(std::future::ready(written).boxed()),
            None => self.writes.push(write),
        }
    }
}
