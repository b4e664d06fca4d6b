//! The async shell of a pipeline: feeds the pure core, carries out its effects, drains.
//!
//! One task runs [`Pipeline::run`] and owns the core. Requests and writes run in their own tasks
//! and report back over one channel. This module contains no rule: `delivery` decides, and this
//! module carries out its commands.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet, yield_now};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::checkpoints::Store;
use crate::delivery::{Dispatcher, Effect, Input, ItemId, Policy, Time};
use crate::event::Encoder;
use crate::guard;
use crate::peers::Peers;
use crate::progress::Registry;
use crate::publish::hops::HopsKey;
use crate::sink::Sink;
use crate::source::{Port, Source, SourceError, StartFrom, link};
use crate::telemetry::{PipelineMetrics, Status, Traces};
use crate::view::{self, Action, Filter, Then};

mod answer;
mod ask;
mod attempt;
mod board;
mod bulk;
mod commands;
mod drain;
mod events;
mod list;
mod notices;
mod overview;
mod partitions;
mod people;
mod seal;
mod show;
mod spans;
mod targets;
mod verdict;
mod work;
mod writes;

pub use answer::{Asker, Question, When};
use ask::{Asking, PartitionAnswer};
use board::{Board, LastAnswer};
use bulk::Bulks;
use partitions::Partitions;
pub use seal::SealKey;
use show::Shown;
pub use targets::Targets;
use work::{Incoming, Kept};

/// The number of ended requests, or deliveries, that the loop handles before it checks everything
/// else. That check costs more than one of them.
const BATCH: usize = 64;

/// The time after which the loop wakes up without an event. It then shows that it is alive, and
/// checks for a lack of progress.
const TICK: Duration = Duration::from_secs(5);

/// How long the end of a pipeline may wait for the last checkpoints to be stored.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// The parts of a pipeline.
pub struct Parts {
    pub name: String,
    /// The queue, or the topics and the group, for people.
    pub source: String,
    /// The rules of the core. Its targets are replaced by those that [`Targets`] has.
    pub policy: Policy,
    pub encoder: Encoder,
    pub sink: Arc<dyn Sink>,
    /// The longest time of one request (`sink.timeout`).
    pub request_timeout: Duration,
    /// The longest silence of a worker, if there is a limit (`stalled_after`).
    pub stalled_after: Option<Duration>,
    /// The time without progress after which the pipeline counts as stalled (`alerts.stalled`).
    pub stalled: Duration,
    /// The reports of workers.
    pub reports: Arc<Registry>,
    pub targets: Targets,
    /// The key with which the bridge seals its copies.
    pub seal: SealKey,
    /// The topic of the workers' checkpoints (Kafka, if one is configured).
    pub checkpoints: Option<Arc<Store>>,
    /// The key with which the bridge counts dead letters and replies.
    pub hops: HopsKey,
    /// The other replicas and their questions; `None` without peers.
    pub replicas: Option<Replicas>,
    /// The recorder of traces.
    pub traces: Traces,
    /// The guard of busy pods, if it is configured.
    pub guard: Option<guard::Post>,
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

/// A request of a person to a running pipeline. Each is answered at once, but for an action on many
/// items.
#[derive(Debug)]
pub enum Control {
    /// Describe the pipeline, with or without the last hour.
    Overview { with_history: bool, answer: oneshot::Sender<view::Pipeline> },
    /// List the items that the filter selects: at most `most`, behind the cursor `after`.
    List { filter: Filter, most: usize, after: Option<String>, answer: oneshot::Sender<view::ItemList> },
    /// Return the log tail of the first item that the filter selects.
    Log { filter: Filter, answer: oneshot::Sender<Option<view::ItemLog>> },
    /// Act on the items that the filter selects, or only count them in a dry run.
    Act {
        filter: Filter,
        action: Action,
        then: Then,
        dry_run: bool,
        by: Person,
        answer: oneshot::Sender<view::Matched>,
    },
    /// Start nothing new until `Resume`.
    Pause { by: Person, answer: oneshot::Sender<view::Changed> },
    /// End a pause, and close the breaker. `from` decides where partitions without offsets begin.
    Resume { from: Option<StartFrom>, by: Person, answer: oneshot::Sender<view::Changed> },
    /// Finish the running items, take no new ones, and leave the broker.
    Drain { by: Person, answer: oneshot::Sender<view::Changed> },
    /// Pause or resume one Kafka partition, or skip one of its records.
    Partition {
        topic: String,
        partition: i32,
        change: view::PartitionChange,
        by: Person,
        answer: oneshot::Sender<view::Changed>,
    },
    /// Bound the open requests until the next restart.
    Limit { most: u32, by: Person, answer: oneshot::Sender<view::Changed> },
    /// Publish every change from now on.
    Watch { answer: oneshot::Sender<broadcast::Receiver<view::Change>> },
}

/// The person who asks for an action, for its line in the log.
#[derive(Clone, Debug)]
pub struct Person {
    /// The right that the person used.
    pub right: &'static str,
    pub from: SocketAddr,
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
    /// The time of the latest input.
    now: Time,
    port: Port,
    /// The messages of the items in the core's hands.
    works: HashMap<ItemId, Kept>,
    /// The message of the delivery that the core is handling, until the core decides where it
    /// belongs.
    incoming: Option<Incoming>,
    effects: Vec<Effect>,
    /// The open requests. Dropping a handle cuts its request.
    requests: HashMap<ItemId, (u64, AbortOnDropHandle<()>)>,
    /// Requests so far. Each has a number, so that the end of a cut request is recognised.
    request_count: u64,
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
    bulks: Bulks,
    claims: answer::Claims,
    partitions: Partitions,
    shared: Arc<Shared>,
    status: Arc<Status>,
    drain_timeout: Duration,
    intake_stopped: bool,
    /// The number of items whose work ended in the drain, too late to be settled.
    forgone: usize,
    /// The detail of the latest attempt that failed.
    last_failure: Option<String>,
    /// Items whose writes fail: the start of the failures, and the last error.
    failing_writes: HashMap<ItemId, (Instant, String)>,
    /// The time at which an item last made progress.
    progress: Instant,
    /// The record for people.
    board: Board,
    /// The number of items that the broker has not handed over yet, if it has told.
    backlog: Option<u64>,
    /// The queue, after its first delivery. RabbitMQ only.
    queue: Option<String>,
    /// When running requests are cut. A drain that a person asked for has no limit until the
    /// process has to end.
    deadline: Option<Instant>,
    /// Whether a person asked for the drain, and not the end of the process.
    is_drained_by_hand: bool,
    /// Whether such a drain is over.
    is_at_rest: bool,
    /// Whether a person wants the pipeline to start again after such a drain.
    is_wanted_again: bool,
    /// The core's settings.
    policy: Policy,
    /// The state that was shown last.
    shown: Option<Shown>,
}

/// The parts of a pipeline that its request and write tasks need.
struct Shared {
    /// The pipeline's name, for log lines.
    name: String,
    source: String,
    /// The configured number of attempts, for people.
    attempts: u32,
    encoder: Encoder,
    sink: Arc<dyn Sink>,
    request_timeout: Duration,
    stalled_after: Option<Duration>,
    stalled: Duration,
    reports: Arc<Registry>,
    targets: Targets,
    seal: SealKey,
    checkpoints: Option<Arc<Store>>,
    guard: Option<guard::Post>,
    traces: Traces,
    hops: HopsKey,
    metrics: PipelineMetrics,
}

/// The report of a task that ended.
struct Ended {
    input: Input,
    /// The detail of a fault, for people.
    detail: Option<String>,
    /// The answer to a request, for people.
    last: Option<LastAnswer>,
    /// The number of the request that ended.
    request: Option<u64>,
}

impl Ended {
    fn of(input: Input, detail: Option<String>) -> Self {
        Ended { input, detail, last: None, request: None }
    }
}

impl Pipeline {
    /// Starts `source` and moves its items until `drain` is cancelled and all items are settled, or
    /// until `drain_timeout` has passed since the cancellation. After a drain that a person asked
    /// for, the pipeline rests until the cancellation, or starts a clone of `source` on request.
    ///
    /// # Errors
    /// Returns an error if the source gave up for good.
    pub async fn run(
        parts: Parts,
        source: impl Source,
        drain: CancellationToken,
    ) -> Result<Report, SourceError> {
        let (port, mut next_link) = link(parts.policy.max_in_flight as usize);
        let probes = parts.targets.watch(&parts.status);
        let checkpoints = parts.checkpoints.clone();
        let storing = checkpoints.clone().map(|store| {
            AbortOnDropHandle::new(tokio::spawn(async move { store.run().await }.in_current_span()))
        });
        let mut pipeline = Pipeline::new(parts, port);
        let result = loop {
            let running = tokio::spawn(source.clone().run(next_link).in_current_span());
            let result = pipeline.until_drained(running, &drain).await;
            pipeline.end_bulks();
            if result.is_err() || !pipeline.is_drained_by_hand || !pipeline.rest(&drain).await {
                break result;
            }
            next_link = pipeline.start_again();
        };
        if let Some(store) = checkpoints {
            store.flush(FLUSH_TIMEOUT).await;
        }
        drop((probes, storing));
        pipeline.shared.metrics.partitions(Vec::new());
        pipeline.status.set_stopped();
        result
    }

    fn new(parts: Parts, port: Port) -> Self {
        let (ended, endings) = mpsc::unbounded_channel();
        let (partition_answers, partitions_answered) = mpsc::unbounded_channel();
        let (peers, questions) = match parts.replicas {
            Some(Replicas { peers, questions }) => (Some(peers), Some(questions)),
            None => (None, None),
        };
        let asking = Asking::new(peers, parts.checkpoints.clone());
        let policy = parts.policy.with_targets(parts.targets.present());
        let shared = Shared {
            name: parts.name,
            source: parts.source,
            attempts: policy.retry.attempts,
            encoder: parts.encoder,
            sink: parts.sink,
            request_timeout: parts.request_timeout,
            stalled_after: parts.stalled_after,
            stalled: parts.stalled,
            reports: parts.reports,
            targets: parts.targets,
            seal: parts.seal,
            checkpoints: parts.checkpoints,
            guard: parts.guard,
            traces: parts.traces,
            hops: parts.hops,
            metrics: parts.metrics,
        };
        Pipeline {
            core: Dispatcher::new(policy.clone()),
            policy,
            started: Instant::now(),
            now: Time::ZERO,
            port,
            works: HashMap::new(),
            incoming: None,
            effects: Vec::new(),
            requests: HashMap::new(),
            request_count: 0,
            tasks: JoinSet::new(),
            ended,
            endings,
            asking,
            partition_answers,
            partitions_answered,
            questions,
            control: parts.control,
            bulks: Bulks::default(),
            claims: answer::Claims::default(),
            partitions: Partitions::default(),
            shared: Arc::new(shared),
            status: parts.status,
            drain_timeout: parts.drain_timeout,
            intake_stopped: false,
            forgone: 0,
            last_failure: None,
            failing_writes: HashMap::new(),
            progress: Instant::now(),
            board: Board::new(),
            backlog: None,
            queue: None,
            deadline: None,
            is_drained_by_hand: false,
            is_at_rest: false,
            is_wanted_again: false,
            shown: None,
        }
    }

    async fn until_drained(
        &mut self,
        mut source: JoinHandle<Result<(), SourceError>>,
        drain: &CancellationToken,
    ) -> Result<Report, SourceError> {
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
                _ = drain.cancelled(), if self.deadline.is_none() => self.stop(),
                _ = at(self.deadline) => return Ok(self.cut_short(source).await),
                _ = at(wake) => self.handle(Input::Timer),
                _ = tick.tick() => self.tick(),
                delivery = self.port.deliveries.recv(), if self.takes() => match delivery {
                    Some(delivery) => self.deliveries(delivery),
                    // The source is ending. Its join handle gives the reason.
                    None => return self.source_ended((&mut source).await),
                },
                // Last, so that requests of people delay no item.
                Some(control) = next(&mut self.control) => self.control(control),
                () = yield_now(), if !self.bulks.is_empty() => self.continue_bulk(),
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
            self.now = self.started.elapsed();
            self.core.handle(self.now, input, &mut effects);
            for effect in effects.drain(..) {
                self.perform(effect);
            }
            self.effects = effects;
            next = self.claims.fetched.pop().map(|claim| Input::ClaimFetched { claim });
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
