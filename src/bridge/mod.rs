//! The async shell of a pipeline: feeds the pure core, carries out its effects, drains.
//!
//! One task runs [`Pipeline::run`] and owns the core. Requests and writes run in their own tasks
//! and report back over one channel. This module contains no rule: `delivery` decides, and this
//! module carries out its commands.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::delivery::{Digest, Dispatcher, Effect, Input, ItemId, NoRoom, Policy};
use crate::event::{Encoder, Message};
use crate::peers::Peers;
use crate::publish::copy::Copies;
use crate::publish::{dead_letter, reply};
use crate::sink::Sink;
use crate::source::{Port, Source, SourceError, link};
use crate::telemetry::{PipelineMetrics, Status};

mod answer;
mod ask;
mod attempt;
mod commands;
mod drain;
mod events;
mod notices;
mod seal;
mod show;
mod targets;
mod verdict;
mod work;
mod writes;

pub use answer::{Asker, Question, When};
use ask::{Asking, PartitionAnswer};
pub use seal::SealKey;
use work::Kept;

/// The number of ended requests, or deliveries, that the loop handles before it checks everything
/// else. That check costs more than one of them.
const BATCH: usize = 64;

/// The time after which the loop wakes up without an event. It then shows that it is alive, and
/// checks for a lack of progress.
const TICK: Duration = Duration::from_secs(5);

/// The parts of a pipeline.
pub struct Parts {
    pub name: String,
    pub policy: Policy,
    pub encoder: Encoder,
    pub sink: Arc<dyn Sink>,
    pub dead_letter: Option<dead_letter::Target>,
    pub reply: Option<reply::Target>,
    /// The targets of copies; `None` if the broker needs no copies (Kafka).
    pub copies: Option<Copies>,
    /// The key with which the bridge seals its copies.
    pub seal: SealKey,
    /// The other replicas and their questions; `None` without peers.
    pub replicas: Option<Replicas>,
    /// The requests of people while the pipeline runs.
    pub control: Option<mpsc::Receiver<Control>>,
    pub metrics: PipelineMetrics,
    pub status: Arc<Status>,
    /// The time that running requests have after the start of a drain.
    pub drain_timeout: Duration,
}

/// The other replicas of this bridge, for one pipeline.
pub struct Replicas {
    pub peers: Arc<Peers>,
    /// Their questions about this pipeline.
    pub questions: mpsc::Receiver<Question>,
}

/// A request of a person to a running pipeline.
#[derive(Debug)]
pub enum Control {
    /// Close the breaker, and answer whether it was open.
    Resume { was_open: oneshot::Sender<bool> },
}

/// The end of a pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Items whose work was cut short, or that could not be settled in time.
    pub cut: usize,
}

/// A running pipeline.
pub struct Pipeline {
    core: Dispatcher,
    started: Instant,
    port: Port,
    /// The messages of the items in the core's hands.
    works: HashMap<ItemId, Kept>,
    /// The message of the delivery that the core is handling, until the core decides where it
    /// belongs.
    incoming: Option<(Arc<Message>, Digest)>,
    effects: Vec<Effect>,
    /// The open requests. Dropping a handle cuts its request.
    requests: HashMap<ItemId, AbortOnDropHandle<()>>,
    /// The running writes and questions to other replicas.
    tasks: JoinSet<()>,
    ended: mpsc::UnboundedSender<Ended>,
    endings: mpsc::UnboundedReceiver<Ended>,
    /// The asking side and the answering side of the protocol between replicas.
    asking: Option<Asking>,
    partition_answers: mpsc::UnboundedSender<PartitionAnswer>,
    partitions_answered: mpsc::UnboundedReceiver<PartitionAnswer>,
    questions: Option<mpsc::Receiver<Question>>,
    control: Option<mpsc::Receiver<Control>>,
    claims: answer::Claims,
    shared: Arc<Shared>,
    status: Arc<Status>,
    drain_timeout: Duration,
    intake_stopped: bool,
    /// The number of items whose work ended in the drain, too late to be settled.
    forgone: usize,
    /// The detail of the latest attempt that failed.
    last_failure: Option<String>,
    /// The time at which an item last made progress.
    /// Items whose writes fail: the start of the failures, and the last error.
    failing_writes: HashMap<ItemId, (Instant, String)>,
    progress: Instant,
    no_room: Option<NoRoom>,
    /// The working limit that was logged last.
    limit: u32,
}

/// The parts of a pipeline that its request and write tasks need.
struct Shared {
    /// The pipeline's name, for log lines.
    name: String,
    /// The configured number of attempts, for log lines.
    attempts: u32,
    encoder: Encoder,
    sink: Arc<dyn Sink>,
    dead_letter: Option<dead_letter::Target>,
    reply: Option<reply::Target>,
    copies: Option<Copies>,
    seal: SealKey,
    metrics: PipelineMetrics,
}

/// The report of a task that ended.
struct Ended {
    input: Input,
    /// The detail of a fault, for people.
    detail: Option<String>,
}

impl Pipeline {
    /// Starts `source` and moves its items until `drain` is cancelled and all items are settled, or
    /// until `drain_timeout` has passed since the cancellation.
    ///
    /// # Errors
    /// Returns an error if the source gave up for good.
    pub async fn run(
        parts: Parts,
        source: impl Source,
        drain: CancellationToken,
    ) -> Result<Report, SourceError> {
        let (port, link) = link(parts.policy.max_in_flight as usize);
        let source = tokio::spawn(source.run(link).in_current_span());
        let targets = targets::watch(&parts);
        let mut pipeline = Pipeline::new(parts, port);
        let result = pipeline.until_drained(source, drain).await;
        drop(targets);
        pipeline.status.stopped();
        result
    }

    fn new(parts: Parts, port: Port) -> Self {
        let (ended, endings) = mpsc::unbounded_channel();
        let (partition_answers, partitions_answered) = mpsc::unbounded_channel();
        let (asking, questions) = match parts.replicas {
            Some(Replicas { peers, questions }) => (Some(Asking::new(peers)), Some(questions)),
            None => (None, None),
        };
        let shared = Shared {
            name: parts.name,
            attempts: parts.policy.retry.attempts,
            encoder: parts.encoder,
            sink: parts.sink,
            dead_letter: parts.dead_letter,
            reply: parts.reply,
            copies: parts.copies,
            seal: parts.seal,
            metrics: parts.metrics,
        };
        Pipeline {
            limit: parts.policy.max_in_flight,
            core: Dispatcher::new(parts.policy),
            started: Instant::now(),
            port,
            works: HashMap::new(),
            incoming: None,
            effects: Vec::new(),
            requests: HashMap::new(),
            tasks: JoinSet::new(),
            ended,
            endings,
            asking,
            partition_answers,
            partitions_answered,
            questions,
            control: parts.control,
            claims: answer::Claims::default(),
            shared: Arc::new(shared),
            status: parts.status,
            drain_timeout: parts.drain_timeout,
            intake_stopped: false,
            forgone: 0,
            last_failure: None,
            failing_writes: HashMap::new(),
            progress: Instant::now(),
            no_room: None,
        }
    }

    async fn until_drained(
        &mut self,
        mut source: JoinHandle<Result<(), SourceError>>,
        drain: CancellationToken,
    ) -> Result<Report, SourceError> {
        let mut deadline = None;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut endings = Vec::with_capacity(BATCH);
        loop {
            let wake = self.core.poll_timeout().map(|after| self.started + after);
            tokio::select! {
                biased;
                ended = &mut source => return self.source_ended(ended),
                Some(event) = self.port.events.recv() => {
                    self.event(event);
                    self.events();
                }
                count = self.endings.recv_many(&mut endings, BATCH) => {
                    debug_assert!(count > 0, "the pipeline keeps a sender");
                    for ended in endings.drain(..) {
                        self.ended(ended);
                    }
                }
                Some(answer) = self.partitions_answered.recv() => self.partition_answered(answer),
                Some(question) = next(&mut self.questions) => self.question(question),
                Some(control) = next(&mut self.control) => self.control(control),
                _ = drain.cancelled(), if !self.core.is_draining() => {
                    deadline = Some(Instant::now() + self.drain_timeout);
                    self.begin_drain();
                }
                _ = at(deadline) => return Ok(self.cut_short(source).await),
                _ = at(wake) => self.handle(Input::Timer),
                _ = tick.tick() => self.tick(),
                delivery = self.port.deliveries.recv(), if self.takes() => match delivery {
                    Some(delivery) => self.deliveries(delivery),
                    // The source is ending. Its join handle gives the reason.
                    None => return self.source_ended((&mut source).await),
                },
            }
            while self.tasks.try_join_next().is_some() {}
            self.show();
            if self.is_drained() {
                return self.close(source).await;
            }
        }
    }

    /// Gives the core an input and carries out the effects.
    fn handle(&mut self, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next {
            let mut effects = std::mem::take(&mut self.effects);
            self.core.handle(self.started.elapsed(), input, &mut effects);
            for effect in effects.drain(..) {
                self.perform(effect);
            }
            self.effects = effects;
            next = self.claims.fetched.pop().map(|claim| Input::Fetched { claim });
        }
    }
}

/// Returns the next message. Without a channel it waits without end.
async fn next<T>(messages: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match messages {
        Some(messages) => messages.recv().await,
        None => None,
    }
}

/// Waits for a time. Waits without end if there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
