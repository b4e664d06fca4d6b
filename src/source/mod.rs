//! Where items come from: one contract, kept by `rabbitmq`, `kafka` and the in-memory fake.
//!
//! A source runs as a task (or thread) of its own and talks to the bridge over a [`link`]: deliveries
//! and events one way, [`Command`]s the other. Two channels lead to the bridge on purpose. Deliveries
//! are taken only when there is room for them, so their channel is the back-pressure; events (a
//! session came up, was lost, a settle was sent) are always taken, and always before the next delivery,
//! so that the bridge never mistakes a delivery of a lost session for one of the present session.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::delivery::{DeliveryId, Epoch, LogId, Outline, Settlement};
use crate::event::Message;
use crate::telemetry::{Problem, ProblemKind};

#[cfg(feature = "kafka")]
pub mod kafka;
pub mod memory;
pub mod rabbitmq;

/// A broker connection that yields items and settles them, reconnecting by itself for ever.
pub trait Source: Send + 'static {
    /// Runs until [`Command::Close`] has been carried out, the bridge has dropped its [`Port`], or the
    /// source cannot go on.
    ///
    /// # Errors
    /// Only what no reconnect can mend, such as refused credentials before the first session came up.
    fn run(self, link: Link) -> impl Future<Output = Result<(), SourceError>> + Send;
}

/// An item, handed over.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub outline: Outline,
    pub message: Arc<Message>,
}

/// A Kafka partition that was given to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub epoch: Epoch,
    /// The log that the partition belongs to.
    pub log: LogId,
    pub topic: Arc<str>,
    pub partition: i32,
}

/// What a source tells the bridge, apart from deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// A session came up. Sent before its first delivery.
    Up { epoch: Epoch },
    /// Partitions whose sessions just came up, before any of their records: the time to ask who else
    /// works on them. Kafka only.
    Assigned(Vec<Assignment>),
    /// A session will be lost within seconds, as planned: no delivery of it should be started any more,
    /// and what runs can still be settled until then. A delivery that is not started is best returned
    /// at once, since the release waits for what is in the bridge's hands. Kafka only.
    Releasing { epoch: Epoch },
    /// A session is gone: none of its deliveries can be settled any more, and the broker will hand
    /// over again what was not settled. Sent once for each `Up`.
    Lost { epoch: Epoch, reason: String },
    /// What became of a [`Command::Settle`]; exactly one for each, unless the session is lost first.
    Settled { id: DeliveryId, settled: Settled },
    /// The broker has shown that it knows of these acks: none of these deliveries comes back. Need not be sent for
    /// items that cannot be told from others.
    Proven(Vec<DeliveryId>),
    /// The answer to [`Command::Prove`]: the session is alive.
    Alive { epoch: Epoch },
    /// Whether the broker can be reached at all, for readiness and metrics.
    Connected(bool),
    /// Items in the broker that were not handed over yet, as far as it tells.
    Backlog(u64),
    /// This delivery holds its partition's committed offset up for longer than the configuration allows. Kafka only.
    Stuck { id: DeliveryId },
    /// How long the oldest of the records that hold up a partition's committed offset has been in our
    /// hands; zero without any. Kafka only.
    HeadAge(Duration),
    /// The source does not progress. The problem stays until `Solved` names its kind and subject.
    Problem(Problem),
    /// The problem of this kind and subject is solved.
    Solved { kind: ProblemKind, subject: String },
    /// After [`Command::StopIntake`]: no delivery will follow, in any session.
    IntakeStopped,
}

/// Whether a settle could still reach the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Handed to the broker. AMQP answers no ack, so this is not yet proof.
    Sent,
    /// The session was already gone: the item will come again. Counted, never an error.
    Stale,
}

/// What the bridge asks of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Settle {
        id: DeliveryId,
        how: Settlement,
    },
    /// An attempt was made and failed; a source that can persist the count does (Kafka's committed
    /// metadata), others ignore it.
    Note {
        id: DeliveryId,
        attempts: u32,
    },
    /// Ask the broker whether this session is still one of its own; answered by `Alive`, or by `Lost`.
    Prove {
        epoch: Epoch,
    },
    /// Take nothing new; what was handed over can still be settled. Answered by `IntakeStopped`.
    StopIntake,
    /// Another replica goes on, and can have the result of what runs here: leave the work to it as soon as the broker
    /// knows it too, instead of keeping it to the end. Sent after `StopIntake`. Kafka only: RabbitMQ's items are not
    /// kept from others.
    LeaveToOthers,
    /// Finish: flush what was settled, then leave the broker and return from `run`.
    Close,
}

/// Why a source gave up for good.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct SourceError {
    /// What is wrong, lower case, with the broker's own words.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

/// The bridge's end of a link.
pub struct Port {
    pub deliveries: mpsc::Receiver<Delivery>,
    pub events: mpsc::UnboundedReceiver<SourceEvent>,
    pub commands: mpsc::UnboundedSender<Command>,
}

/// The source's end of a link.
pub struct Link {
    pub deliveries: mpsc::Sender<Delivery>,
    pub events: mpsc::UnboundedSender<SourceEvent>,
    pub commands: mpsc::UnboundedReceiver<Command>,
}

/// Connects a source and a bridge. `ahead` is how many deliveries may wait in between.
///
/// Events and commands need no bound of their own: there are at most a few for each delivery in the
/// bridge's hands, and those are bounded.
pub fn link(ahead: usize) -> (Port, Link) {
    let (delivery_sender, deliveries) = mpsc::channel(ahead.max(1));
    let (event_sender, events) = mpsc::unbounded_channel();
    let (command_sender, commands) = mpsc::unbounded_channel();
    let port = Port { deliveries, events, commands: command_sender };
    let link = Link { deliveries: delivery_sender, events: event_sender, commands };
    (port, link)
}
