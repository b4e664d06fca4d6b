//! The settles of one session: the unsettled deliveries, and the frames that are being written for
//! them.
//!
//! Settles are written through the channel and not through lapin's `Acker`, for two reasons. An
//! acker spawns a task for each ack, which costs more than the ack. And tasks overtake each other:
//! if an ack for many deliveries arrives first, a later ack for one of them is unknown to the
//! broker, which then closes the channel.
//!
//! The broker does not answer an ack. An item with a unique identity would be recognised if it came
//! back, so the proof of its ack matters. The proof is the next synchronous answer on the same
//! channel: a `basic.qos` that changes nothing.

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

/// The bound of one write. A connection that takes no bytes for this long counts as lost.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Settler {
    epoch: Epoch,
    channel: Channel,
    acks: Acks,
    /// The unsettled tags whose acks need proof.
    to_prove: BTreeSet<u64>,
    /// The deliveries whose acks were written and are not proven yet.
    unproven: Vec<DeliveryId>,
    /// Whether a proof is under way.
    proving: bool,
    prefetch: u16,
    intake: Intake,
    /// The writes that lapin has and that are not on the wire or not answered yet. The prefetch
    /// bounds their number.
    writes: FuturesUnordered<Write>,
}

/// The settles of one frame that is on the wire, or the reason for the loss of the session.
type Written = Result<Vec<SourceEvent>, Error>;
type Write = Pin<Box<dyn Future<Output = Written> + Send>>;

impl Settler {
    /// Creates the state. `prefetch` is the channel's value; a proof sets the same value again.
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

    /// Settles a delivery within a moment. Returns the answer at once only if there is no frame to
    /// write: for a delivery of another session, one that was settled before, or one that the end
    /// of the session returns.
    pub(super) fn settle(&mut self, id: DeliveryId, how: Settlement) -> Option<SourceEvent> {
        // A closed channel sends no frame.
        let known = id.epoch == self.epoch && self.acks.is_unsettled(id.tag);
        if !known || !self.channel.status().connected() {
            return Some(SourceEvent::Settled { delivery: id, settled: Settled::Stale });
        }
        if how == Settlement::Return && self.intake == Intake::OnlyReturns {
            // The delivery stays unsettled. Otherwise a frame for many acks would ack it too.
            return Some(SourceEvent::Settled { delivery: id, settled: Settled::Sent });
        }
        match how {
            Settlement::Ack => self.acks.ack(id.tag, Instant::now()),
            Settlement::Return => self.nack(id.tag),
        }
        None
    }

    /// Hands lapin the ack frames that are [worth](Acks::worth) writing now.
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

    /// Returns the answers of the next write that ended, or `None` if no write is under way and no
    /// ack waits. Cancel safe.
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

    /// Answers `Alive` after the broker has answered. If the broker does not answer, the session
    /// ends.
    pub(super) fn prove_alive(&mut self, epoch: Epoch) {
        // The loss of an earlier session was reported already.
        if epoch == self.epoch {
            self.round_trip(SourceEvent::Alive { epoch });
        }
    }

    /// Asks the broker for an answer that follows all acks written so far.
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
        // Nack is used and not reject: from RabbitMQ 4.3 on, only a reject counts against the
        // delivery limit.
        let options = BasicNackOptions { multiple: false, requeue: true };
        let write = async move { channel.basic_nack(tag, options).await };
        self.acks.give_up(tag);
        self.to_prove.remove(&tag);
        self.write(write, self.sent([tag]));
    }

    fn sent(&self, tags: impl IntoIterator<Item = u64>) -> Vec<SourceEvent> {
        let id = |tag| DeliveryId { epoch: self.epoch, tag };
        tags.into_iter()
            .map(|tag| SourceEvent::Settled { delivery: id(tag), settled: Settled::Sent })
            .collect()
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
        // The first poll puts the frame into lapin's queue. It happens here, so that the frames
        // have the order of these calls and not the order in which a set polls its futures.
        match write.as_mut().now_or_never() {
            Some(written) => self.writes.push(std::future::ready(written).boxed()),
            None => self.writes.push(write),
        }
    }
}
