//! The thread that owns the consumer.
//!
//! One loop handles commands, events of librdkafka, records and commits. It waits for brokers only
//! within [`patience`](super::patience), and never sleeps for longer than [`NAP`], so that
//! rebalances are answered in time. A close ends within ten seconds, whatever the brokers do: the
//! rest of a turn, the last commit and the leaving each have a limit. Between turns it is parked. A
//! record, a command, or room in the bridge's channel wakes it through the same [`Waker`], which
//! unparks the thread.
//!
//! A client that meets a fatal error is replaced. Its sessions are lost, as with any lost
//! connection: running requests continue, and wait for their redelivery.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::backlog::Backlog;
use super::by_hand::Paused;
use super::commit::Committer;
use super::context::{Consumer, Context};
use super::drain::Drain;
use super::head::Heads;
use super::health::Health;
use super::intake::Intake;
use super::partition::Taken;
use super::patience::Patience;
use super::rebalance::Waiting;
use super::release::Release;
use super::sessions::Sessions;
use super::topics::Topics;
use super::{Settings, replace};
use crate::connect;
use crate::connect::kafka::notice::{Entry, Notice, Polled, Record};
use crate::connect::kafka::raw::{self, Question, Queue};
use crate::source::{Command, Link, SourceError, SourceEvent};
use crate::telemetry::ProblemKind;

/// The longest time between two polls.
const NAP: Duration = Duration::from_millis(100);
/// The most records, or commands, that are taken in one turn.
const BATCH: usize = 64;
/// How long the last commit may take.
const LAST_COMMIT: Duration = Duration::from_secs(4);
/// How long the last commit may take if no broker can be reached.
const LAST_COMMIT_UNREACHABLE: Duration = Duration::from_millis(500);

pub struct Worker {
    pub(super) settings: Settings,
    pub(super) consumer: Arc<Consumer>,
    /// The queue that is polled. Commits are answered here too.
    pub(super) queue: Rc<Queue>,
    pub(super) sessions: Sessions,
    pub(super) waiting: Waiting,
    /// Whether `start: latest` was applied, or no longer applies.
    pub(super) start_is_decided: bool,
    /// A revocation that is not answered yet.
    pub(super) release: Option<Release>,
    /// The time at which `StopIntake` arrived.
    pub(super) stopped_at: Option<Instant>,
    /// The drain, set by `LeaveToOthers`.
    pub(super) drain: Option<Drain>,
    pub(super) intake: Intake,
    pub(super) committer: Committer,
    pub(super) health: Health,
    pub(super) heads: Heads,
    pub(super) topics: Topics,
    /// The texts of the problems that were reported.
    pub(super) problems: HashMap<(ProblemKind, String), String>,
    pub(super) backlog: Backlog,
    pub(super) paused_by_hand: Paused,
    pub(super) patience: Patience,
    /// Partitions that take in nothing new, as reported.
    full: u64,
    /// When the progress of the partitions is looked at next.
    pub(super) progress_at: Instant,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) events: mpsc::UnboundedSender<SourceEvent>,
    waker: Waker,
    /// The time at which to leave at the latest, set by `Close`.
    leave_by: Option<Instant>,
}

/// The reason why the loop ended.
#[derive(Debug)]
pub(super) enum End {
    Closed,
    /// librdkafka's client cannot continue.
    Fatal {
        code: Code,
        reason: String,
    },
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Consumes until closed. It blocks the thread that calls it.
///
/// # Errors
/// An option is wrong.
pub fn run(settings: Settings, link: Link) -> Result<(), SourceError> {
    let mut carried = replace::Carried::default();
    let mut link = link;
    loop {
        let mut worker = Worker::new(settings.clone(), link, &carried)?;
        let end = worker.serve();
        if let End::Fatal { code, reason } = &end {
            worker.lose_everything(*code, reason);
        }
        carried.take_from(&worker);
        let is_closing = worker.is_closing();
        let rest = worker.leave();
        let (End::Fatal { .. }, Some(rest), false) = (end, rest, is_closing) else { return Ok(()) };
        match replace::wait(rest, &mut carried, settings.pulse.as_deref()) {
            Some(next) => link = next,
            None => return Ok(()),
        }
    }
}

impl Worker {
    fn new(settings: Settings, link: Link, carried: &replace::Carried) -> Result<Self, SourceError> {
        let refuse = |error: KafkaError| SourceError {
            what: connect::kafka::creation_error(&error),
            hint: "correct source.kafka".to_owned(),
        };
        let mut consumer: Consumer = settings.client().create_with_context(Context).map_err(refuse)?;
        let thread = thread::current();
        consumer.set_nonempty_callback(move || thread.unpark());
        let no_queue = || refuse(KafkaError::ClientCreation("no queue".into()));
        let queue = Queue::of_consumer(&consumer).ok_or_else(no_queue)?;
        let question = || Question::new(consumer.client()).ok_or_else(no_queue);
        let (starts, ends, written, topics_question) = (question()?, question()?, question()?, question()?);
        let topics: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(refuse)?;
        let now = Instant::now();
        let mut worker = Worker {
            settings,
            consumer: Arc::new(consumer),
            queue: Rc::new(queue),
            sessions: Sessions::default(),
            waiting: Waiting::default(),
            start_is_decided: carried.start_is_decided,
            release: None,
            stopped_at: None,
            drain: None,
            intake: Intake::new(link.deliveries, now),
            committer: Committer::default(),
            health: Health::new(now),
            heads: Heads::new(starts, now),
            topics: Topics::new(topics_question, now),
            problems: carried.problems.clone(),
            backlog: Backlog::new(ends, written, now),
            progress_at: now,
            paused_by_hand: carried.paused_by_hand.clone(),
            patience: Patience::new(now),
            full: 0,
            commands: link.commands,
            events: link.events,
            waker: Arc::new(Unpark(thread::current())).into(),
            leave_by: None,
        };
        if let Some(stopped) = carried.stopped_at {
            worker.stop_intake();
            worker.stopped_at = Some(stopped);
        }
        Ok(worker)
    }

    fn serve(&mut self) -> End {
        loop {
            let now = Instant::now();
            if let Some(pulse) = &self.settings.pulse {
                pulse.beat();
            }
            self.patience.renew(now);
            let more_commands = self.take_commands(now);
            if self.waiting.due().is_some_and(|due| now >= due) {
                self.start_waiting(now);
            }
            let sessions = &mut self.sessions;
            self.intake.hand_over(&mut TaskContext::from_waker(&self.waker), |epoch| {
                let session = sessions.get(epoch);
                session.is_some_and(|partition| partition.is_late(now) || partition.is_paused_by_hand)
            });
            self.intake.adjust(self.sessions.len(), now);
            self.pause_and_resume(now);
            self.commit_when_due(now);
            self.release_when_ready(now);
            self.leave_to_others(now);
            self.report_backlog(now);
            self.look_at_progress(now);
            self.look_at_heads(now);
            self.look_at_topics(now);
            if self.is_finished(now) {
                return End::Closed;
            }
            match self.poll() {
                Ok(more_records) if !more_commands && !more_records => self.park(now),
                Ok(_) => {}
                Err(end) => return end,
            }
        }
    }

    /// Takes commands. Returns whether there may be more.
    fn take_commands(&mut self, now: Instant) -> bool {
        for _ in 0..BATCH {
            match self.commands.poll_recv(&mut TaskContext::from_waker(&self.waker)) {
                Poll::Ready(Some(Command::Settle { delivery, how })) => self.settle(delivery, how, now),
                Poll::Ready(Some(Command::Note { delivery, attempts })) => self.note(delivery, attempts, now),
                Poll::Ready(Some(Command::Prove { epoch })) => self.prove(epoch, now),
                Poll::Ready(Some(Command::PausePartition { topic, partition, is_paused })) => {
                    self.pause_by_hand(topic, partition, is_paused);
                }
                Poll::Ready(Some(Command::SkipUndecodable { topic, partition, offset })) => {
                    self.skip_by_hand(&topic, partition, offset, now);
                }
                Poll::Ready(Some(Command::StopIntake)) => {
                    self.stop_intake();
                    self.stopped_at.get_or_insert(now);
                    self.send(SourceEvent::IntakeStopped);
                }
                Poll::Ready(Some(Command::StartFrom(from))) => self.start_from(from, now),
                Poll::Ready(Some(Command::LeaveToOthers)) => self.look_for_others(now),
                Poll::Ready(Some(Command::Close)) => self.close(now),
                // A bridge that is gone means the same as `Close`.
                Poll::Ready(None) => {
                    self.close(now);
                    return false;
                }
                Poll::Pending => return false,
            }
        }
        true
    }

    /// Polls a batch of records. Returns whether there may be more.
    fn poll(&mut self) -> Result<bool, End> {
        let queue = Rc::clone(&self.queue);
        for _ in 0..BATCH {
            if !self.intake.may_poll() {
                return Ok(false);
            }
            if !raw::poll(&queue, |polled| self.polled(polled))? {
                self.intake.saw_end(Instant::now());
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Handles one result of a poll. Returns false if the queue is empty.
    fn polled(&mut self, polled: Polled<'_>) -> Result<bool, End> {
        let now = Instant::now();
        match polled {
            Polled::Record(record) => self.take(&record),
            Polled::Notice(Notice::Assigned(partitions)) => self.assigned(&partitions, now),
            Polled::Notice(Notice::Revoked(partitions)) => {
                let lost = self.consumer.assignment_lost();
                self.revoked(&partitions, lost, now);
            }
            Polled::Notice(Notice::Committed { partitions, error }) => {
                self.committed(&partitions, error, now);
            }
            Polled::Notice(Notice::Statistics(json)) => {
                self.statistics(&json, now);
                self.look_at_commits(now);
            }
            Polled::Notice(Notice::Failed { code, reason, fatal: true, .. }) => {
                let (code, reason) = self.consumer.client().fatal_error().unwrap_or((code, reason));
                return Err(End::Fatal { code, reason });
            }
            Polled::Notice(Notice::Failed { at, code, reason, .. }) => match at {
                Some(at) => self.partition_failed(&at, code, &reason, now),
                None => self.failed(code, &reason, now),
            },
            Polled::Served => {}
            Polled::Nothing => return Ok(false),
        }
        Ok(true)
    }

    fn take(&mut self, record: &Record<'_>) {
        let (topic, number, offset) = (record.topic, record.partition, record.offset);
        if self.is_skipping(topic, number, offset) {
            return;
        }
        if self.sessions.find(topic, number).is_some_and(|partition| partition.steps_back(offset)) {
            self.renew(topic, number, offset);
        }
        let Some(partition) = self.sessions.find(topic, number) else { return };
        let decoded = partition.decoded(offset).map(|offset| partition.place.id(offset));
        match partition.take(record, || raw::cached_bounds(&self.consumer, topic, number)) {
            Taken::Deliver(delivery) => self.intake.push(delivery),
            Taken::Skipped | Taken::HeldBack => {}
        }
        if partition.is_dirty() {
            // A record may be gone, or may be the first of a partition without a committed offset;
            // both change the map.
            self.committer.touch(Instant::now());
        }
        if let Some(needed) = partition.jump() {
            tracing::debug!(topic, partition = number, offset, needed, "Skipping done records");
            self.seek(topic, number, needed);
        }
        if let Some(id) = decoded {
            self.solved(ProblemKind::Undecodable, &id);
        }
    }

    /// Handles an error of one partition.
    fn partition_failed(&mut self, at: &Entry, code: Code, reason: &str, now: Instant) {
        let (topic, number) = (at.topic.as_str(), at.partition);
        match code {
            Code::PartitionEOF => self.reached(at, now),
            Code::BadCompression
            | Code::NotImplemented
            | Code::BadMessage
            | Code::InvalidMessage
            | Code::MessageSizeTooLarge => self.undecodable(at, code, reason, now),
            Code::TopicAuthorizationFailed => {
                self.failed(code, reason, now);
                self.topics.refused(topic, now);
            }
            _ => {
                tracing::debug!(
                    topic,
                    partition = number,
                    error = reason,
                    "Kafka reports an error of a partition"
                );
                self.failed(code, reason, now);
            }
        }
    }

    /// Records that everything below this offset was polled.
    fn reached(&mut self, at: &Entry, now: Instant) {
        if self.is_skipping(&at.topic, at.partition, at.offset) {
            return;
        }
        let Some(partition) = self.sessions.find(&at.topic, at.partition) else { return };
        if !partition.reached(at.offset) {
            // The log is shorter than before.
            return self.topics.hurry(now);
        }
        if partition.is_dirty() {
            self.committer.touch(now);
        }
    }

    pub(super) fn seek(&self, topic: &str, partition: i32, offset: i64) {
        // Returns at once without a timeout; prefetched records are dropped.
        if let Err(error) = self.consumer.seek(topic, partition, Offset::Offset(offset), Duration::ZERO) {
            tracing::debug!(topic, partition, offset, %error, "Could not seek, reading on");
        }
    }

    /// Tells librdkafka which partitions changed between paused and not paused.
    fn pause_and_resume(&mut self, now: Instant) {
        let (mut pause, mut resume) = (TopicPartitionList::new(), TopicPartitionList::new());
        let mut full = 0;
        for partition in self.sessions.iter_mut() {
            full += u64::from(partition.is_held_back());
            let wanted = self.intake.holds(partition.place.epoch)
                || partition.holds()
                || partition.is_paused_by_hand
                || partition.waits_to_decode(now);
            if wanted != partition.paused {
                partition.paused = wanted;
                let list = if wanted { &mut pause } else { &mut resume };
                list.add_partition(&partition.place.topic, partition.place.partition);
            }
        }
        let paused = if pause.count() > 0 { self.consumer.pause(&pause) } else { Ok(()) };
        let resumed = if resume.count() > 0 { self.consumer.resume(&resume) } else { Ok(()) };
        if let Err(error) = paused.and(resumed) {
            tracing::warn!(%error, "Could not pause or resume partitions");
        }
        if full != self.full {
            self.full = full;
            self.send(SourceEvent::PartitionsFull(full));
        }
    }

    fn report_backlog(&mut self, now: Instant) {
        if now >= self.backlog.due() && !self.sessions.is_empty() {
            self.health.asked(now);
        }
        let in_log = self.backlog.update(&self.consumer, &mut self.sessions, now);
        if let Some(in_log) = in_log.filter(|_| self.health.is_established()) {
            self.send(SourceEvent::Backlog(in_log + self.intake.len() as u64));
        }
    }

    /// Gives the client the new password from a replaced file.
    pub(super) fn read_credentials_again(&mut self) {
        let current = self.settings.cluster.current();
        if current.options == self.settings.cluster.options {
            return;
        }
        self.settings.cluster = current;
        if let Some((user, password)) = self.settings.cluster.credentials() {
            tracing::info!("The credentials for kafka have changed and are used from now on");
            raw::set_credentials(&self.consumer, user, password);
        }
    }

    pub(super) fn send(&self, event: SourceEvent) {
        // This fails only if the bridge is gone; the closed commands show that.
        let _ = self.events.send(event);
    }

    fn stop_intake(&mut self) {
        for delivery in self.intake.stop() {
            if let Some(partition) = self.sessions.get(delivery.outline.id.epoch) {
                partition.returned();
            }
        }
    }

    fn close(&mut self, now: Instant) {
        if self.leave_by.is_some() {
            return;
        }
        self.stop_intake();
        self.hurry_commits(now);
        let patience = if self.health.is_reachable() { LAST_COMMIT } else { LAST_COMMIT_UNREACHABLE };
        self.leave_by = Some(now + patience);
    }

    /// Whether `Close` has arrived.
    pub(super) fn is_closing(&self) -> bool {
        self.leave_by.is_some()
    }

    fn is_finished(&self, now: Instant) -> bool {
        let Some(leave_by) = self.leave_by else { return false };
        if now >= leave_by && !self.committer.is_settled() {
            tracing::warn!("The last commit was not answered; the records that finished last may run again");
        }
        now >= leave_by || self.committer.is_settled()
    }

    fn park(&self, now: Instant) {
        let dues = [
            self.commit_due(),
            self.waiting.due(),
            self.drain_due(),
            self.intake.next_change(),
            Some(self.backlog.due()),
            Some(self.heads.due()),
            Some(self.topics.due()),
            self.leave_by,
        ];
        let next = dues.into_iter().flatten().min().unwrap_or(now + NAP);
        thread::park_timeout(next.saturating_duration_since(now).min(NAP));
    }
}
