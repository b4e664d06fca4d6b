//! The async shell of a pipeline: feeds the pure core, carries out its effects, drains.
//!
//! One task runs [`Pipeline::run`] and owns the core; requests and writes run in tasks of their own and
//! report back over one channel. No rule is here: `delivery` decides, and this
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

use crate::delivery::{Dispatcher, Effect, Input, ItemId, NoRoom, Policy};
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
mod show;
mod targets;
mod verdict;
mod work;
mod writes;

pub use answer::{Asker, Question, When};
use ask::{Asking, PartitionAnswer};
use work::Kept;

/// Ended requests, or deliveries, that are handled before the loop looks at everything else. That costs more than one of
/// them.
const BATCH: usize = 64;

/// How often the loop wakes up without an event: to show that it is alive, and to look for a lack of progress.
const TICK: Duration = Duration::from_secs(5);

/// Everything that a pipeline is made of.
pub struct Parts {
    pub name: String,
    pub policy: Policy,
    pub encoder: Encoder,
    pub sink: Arc<dyn Sink>,
    pub dead_letter: Option<dead_letter::Target>,
    pub reply: Option<reply::Target>,
    /// Where items are written anew; none where the broker has no use for it (Kafka).
    pub copies: Option<Copies>,
    /// The other replicas, and what they ask.
    pub replicas: Option<Replicas>,
    /// What people ask of it while it runs.
    pub control: Option<mpsc::Receiver<Control>>,
    pub metrics: PipelineMetrics,
    pub status: Arc<Status>,
    /// How long running requests may go on after a drain began.
    pub drain_timeout: Duration,
}

/// The other replicas of this bridge, for one pipeline.
pub struct Replicas {
    pub peers: Arc<Peers>,
    /// Their questions about this pipeline.
    pub questions: mpsc::Receiver<Question>,
}

/// What a person can ask of a running pipeline.
#[derive(Debug)]
pub enum Control {
    /// Close the breaker, and say whether it was open.
    Resume { was_open: oneshot::Sender<bool> },
}

/// How a pipeline ended.
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
    /// The delivery that the core is looking at, until it says what becomes of it.
    incoming: Option<Arc<Message>>,
    effects: Vec<Effect>,
    /// Open requests. One that is dropped is cut.
    requests: HashMap<ItemId, AbortOnDropHandle<()>>,
    /// Writes, and questions to other replicas.
    tasks: JoinSet<()>,
    ended: mpsc::UnboundedSender<Ended>,
    endings: mpsc::UnboundedReceiver<Ended>,
    /// The asking side of several replicas, and the answering one.
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
    /// Work that ended in the drain, too late to be settled.
    forgone: usize,
    /// The detail of the latest attempt that failed.
    last_failure: Option<String>,
    /// When an item made progress last.
    progress: Instant,
    no_room: Option<NoRoom>,
    /// The working limit that was shown last.
    limit: u32,
}

/// What request and write tasks need of their pipeline.
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
    metrics: PipelineMetrics,
}

/// A task's last word.
struct Ended {
    input: Input,
    /// For people, where something went wrong.
    detail: Option<String>,
}

impl Pipeline {
    /// Starts `source` and moves its items until `drain` is cancelled and everything is settled, or
    /// `drain_timeout` has passed since.
    ///
    /// # Errors
    /// When the source gave up for good.
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
                    // The source is ending; its join handle says how.
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

    /// Gives the core an input and carries out what it answers.
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

/// The next message, or never where nobody sends any.
async fn next<T>(messages: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match messages {
        Some(messages) => messages.recv().await,
        None => None,
    }
}

/// Waits for a time, or for ever where there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
