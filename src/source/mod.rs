//! The contract of a source of items. The sources `rabbitmq` and `kafka` and the in-memory fake
//! keep it.
//!
//! A source runs as a task or a thread of its own and talks to the bridge over a [`link`]. The
//! source sends deliveries and events; the bridge sends [`Command`]s.
//!
//! Two channels lead to the bridge. The bridge takes a delivery only when it has room, so the
//! channel of deliveries is the back-pressure. The bridge always takes events (a session came up, a
//! session was lost, a settle was sent), and takes them before the next delivery. So the bridge
//! never mistakes a delivery of a lost session for one of the present session.

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::delivery::{DeliveryId, Epoch, LogId, Outline, Settlement};
use crate::event::Message;
use crate::telemetry::{PartitionState, Problem, ProblemKind};

#[cfg(feature = "kafka")]
pub mod kafka;
pub mod memory;
pub mod rabbitmq;

/// A broker connection that yields items and settles them. It reconnects by itself without end.
/// Clones run one after the other, when a drained pipeline starts again. Their epochs differ.
pub trait Source: Clone + Send + 'static {
    /// Runs until it has carried out [`Command::Close`], the bridge has dropped its [`Port`], or
    /// the source cannot go on.
    ///
    /// # Errors
    /// Returns only faults that no reconnect can fix, such as a wrong URL.
    fn run(self, link: Link) -> impl Future<Output = Result<(), SourceError>> + Send;
}

/// One handing-over of an item, with its message.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub outline: Outline,
    pub message: Arc<Message>,
}

/// A Kafka partition that the group assigned to this replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub epoch: Epoch,
    /// The log that the partition belongs to.
    pub log: LogId,
    pub topic: Arc<str>,
    pub partition: i32,
    /// The committed offset: every record before it has ended. 0 if nothing is committed.
    pub committed: i64,
}

/// A report of a source to the bridge. Deliveries have a channel of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// A session came up. The source sends this before the session's first delivery.
    Up { epoch: Epoch },
    /// The sessions of these partitions just came up. The source sends this before any of their
    /// records, so that the bridge can ask the other replicas for their work on these partitions.
    /// Kafka only.
    Assigned(Vec<Assignment>),
    /// The session will be lost within seconds, as planned. The bridge starts none of its
    /// deliveries any more, and can still settle the running ones until then. The release waits for
    /// the deliveries in the bridge's hands, so the bridge returns those that have not started at
    /// once. Kafka only.
    Releasing { epoch: Epoch },
    /// The session is gone: none of its deliveries can be settled any more, and the broker hands
    /// the unsettled items over again. The source sends this once for each `Up`.
    Lost { epoch: Epoch, reason: String },
    /// The result of a [`Command::Settle`]. The source sends exactly one for each command, unless
    /// the session is lost first.
    Settled { delivery: DeliveryId, settled: Settled },
    /// The broker has shown that it has these acks, so none of these deliveries comes back. A
    /// source may omit this for items without a unique identity.
    Proven(Vec<DeliveryId>),
    /// The answer to [`Command::Prove`]: the session is alive.
    Alive { epoch: Epoch },
    /// The broker can be reached, or not. Readiness and metrics show this.
    Connected(bool),
    /// The number of items that the broker has not handed over yet, if the broker tells it.
    Backlog(u64),
    /// The number of partitions that take in nothing new, because a commit could not name more
    /// unfinished records. Sent when it changes. Kafka only.
    PartitionsFull(u64),
    /// This delivery holds back its partition's committed offset, and is at least as old as
    /// `stuck_head.dead_letter_after`. Repeated each second. Kafka only.
    Stuck { delivery: DeliveryId },
    /// The age of the oldest record in our hands that holds back a partition's committed offset;
    /// zero without such a record. Kafka only.
    HeadAge(Duration),
    /// The partitions that are assigned to this replica now. Kafka only.
    Partitions(Vec<PartitionState>),
    /// The source does not progress. The problem stays until `Solved` names its kind and subject.
    Problem(Problem),
    /// The problem of this kind and subject is solved.
    Solved { kind: ProblemKind, subject: String },
    /// The source has stopped its intake: no delivery follows in any session. Answers
    /// [`Command::StopIntake`].
    IntakeStopped,
}

/// Tells whether a settle could still reach the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The source handed the settle to the broker. AMQP does not answer an ack, so this is not
    /// proof yet.
    Sent,
    /// The session was already gone, so the item will come again. This is counted and is not an
    /// error.
    Stale,
}

/// A request of the bridge to a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Settle {
        delivery: DeliveryId,
        how: Settlement,
    },
    /// An attempt was made and failed. A source that can persist the count does so (Kafka in the
    /// committed metadata); other sources ignore this.
    Note {
        delivery: DeliveryId,
        attempts: u32,
    },
    /// Ask the broker whether it still knows this session. The source answers with `Alive` or
    /// `Lost`.
    Prove {
        epoch: Epoch,
    },
    /// Hand over nothing more of this partition, or continue with it. Kafka only.
    PausePartition {
        topic: String,
        partition: i32,
        is_paused: bool,
    },
    /// Pass over the undecodable batch that begins at this offset and holds its partition up: one
    /// item stands for it. Without such a batch nothing happens. Kafka only.
    SkipUndecodable {
        topic: String,
        partition: i32,
        offset: i64,
    },
    /// Take no new deliveries. The deliveries in hand can still be settled. The source answers with
    /// `IntakeStopped`.
    StopIntake,
    /// Another replica continues, and can take the results of the requests that run here. Leave the
    /// work to that replica as soon as the broker knows it too. The bridge sends this after
    /// `StopIntake`. Kafka only: RabbitMQ already gives other replicas every item that is not in
    /// hand here.
    LeaveToOthers,
    /// Decide where the partitions begin that have lost their offsets, or that `start: refuse`
    /// holds back. The source logs the result. Kafka only.
    StartFrom(StartFrom),
    /// Flush the settled deliveries, leave the broker, and return from `run`.
    Close,
}

/// The place where a partition without a committed offset begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// At its oldest record.
    Earliest,
    /// At its end: its records are skipped.
    Latest,
    /// At its first record that is not older than this.
    Time(jiff::Timestamp),
}

impl FromStr for StartFrom {
    type Err = String;

    /// Reads `earliest`, `latest` or a time as in RFC 3339.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(StartFrom::Earliest),
            "latest" => Ok(StartFrom::Latest),
            _ => text.parse().map(StartFrom::Time).map_err(|_| {
                format!("{text:?} is not earliest, latest, or a time such as 2026-01-31T12:00:00Z")
            }),
        }
    }
}

impl fmt::Display for StartFrom {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartFrom::Earliest => formatter.write_str("earliest"),
            StartFrom::Latest => formatter.write_str("latest"),
            StartFrom::Time(time) => write!(formatter, "{time}"),
        }
    }
}

/// The reason why a source gave up for good.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct SourceError {
    /// The fault, in lower case, with the broker's own words.
    pub what: String,
    /// The way to fix the fault.
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

/// Connects a source and a bridge. At most `ahead` deliveries wait between them.
///
/// Events and commands need no bound of their own: there are at most a few for each delivery in the
/// bridge's hands, and these deliveries are bounded.
pub fn link(ahead: usize) -> (Port, Link) {
    let (delivery_sender, deliveries) = mpsc::channel(ahead.max(1));
    let (event_sender, events) = mpsc::unbounded_channel();
    let (command_sender, commands) = mpsc::unbounded_channel();
    let port = Port { deliveries, events, commands: command_sender };
    let link = Link { deliveries: delivery_sender, events: event_sender, commands };
    (port, link)
}
