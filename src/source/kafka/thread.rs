//! The thread that owns the consumer.
//!
//! One loop does everything: commands, callbacks' notices, records, commits. It never blocks on the
//! broker but for the bounded reading of committed offsets (see [`rebalance`](super::rebalance)), and
//! never sleeps for longer than [`NAP`], so that rebalances are always answered in time. Between turns
//! it is parked; a record, a command or room in the bridge's channel wakes it: all three wake the same
//! [`Waker`], which unparks the thread.

use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::Settings;
use super::backlog::Backlog;
use super::commit::Committer;
use super::context::{Consumer, Context, Notice};
use super::drain::Drain;
use super::head::Heads;
use super::health::{self, Health};
use super::intake::Intake;
use super::partition::Taken;
use super::raw::{self, LogOffsets, Queue};
use super::rebalance::Waiting;
use super::release::Release;
use super::sessions::Sessions;
use crate::connect;
use crate::source::{Command, Link, SourceError, SourceEvent};

/// The longest time between two polls.
const NAP: Duration = Duration::from_millis(100);
/// Records, and commands, taken in one turn before the rest of the loop gets its turn.
const BATCH: usize = 64;
/// How long the last commit may take.
const LAST_COMMIT: Duration = Duration::from_secs(5);
/// The same where no broker can be reached.
const LAST_COMMIT_UNREACHABLE: Duration = Duration::from_millis(500);

pub struct Worker {
    pub(super) settings: Settings,
    pub(super) consumer: Arc<Consumer>,
    /// The queue that `poll` serves; also where commits are answered.
    pub(super) queue: Queue,
    pub(super) sessions: Sessions,
    pub(super) waiting: Waiting,
    /// A revocation that waits for our answer.
    pub(super) release: Option<Release>,
    /// When `StopIntake` came.
    pub(super) stopped_at: Option<Instant>,
    /// Set by `LeaveToOthers`.
    pub(super) drain: Option<Drain>,
    pub(super) intake: Intake,
    pub(super) committer: Committer,
    pub(super) health: Health,
    pub(super) heads: Heads,
    backlog: Backlog,
    commands: mpsc::UnboundedReceiver<Command>,
    events: mpsc::UnboundedSender<SourceEvent>,
    waker: Waker,
    /// Set by `Close`: when to leave at the latest.
    leave_by: Option<Instant>,
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

/// Consumes until closed. Runs on the thread that calls it, and blocks it.
///
/// # Errors
/// When no reconnect can help.
pub fn run(settings: Settings, link: Link) -> Result<(), SourceError> {
    let mut worker = Worker::new(settings, link)?;
    let ended = worker.serve();
    worker.leave();
    ended
}

impl Worker {
    fn new(settings: Settings, link: Link) -> Result<Self, SourceError> {
        let refuse = |error: KafkaError| SourceError {
            what: connect::kafka::creation_error(&error),
            hint: "correct source.kafka".to_owned(),
        };
        let mut consumer: Consumer =
            settings.client().create_with_context(Context::default()).map_err(refuse)?;
        let thread = thread::current();
        consumer.set_nonempty_callback(move || thread.unpark());
        let no_queue = || refuse(KafkaError::ClientCreation("no queue".into()));
        let queue = Queue::of_consumer(&consumer).ok_or_else(no_queue)?;
        let starts = LogOffsets::new(&consumer).ok_or_else(no_queue)?;
        let ends = LogOffsets::new(&consumer).ok_or_else(no_queue)?;
        let topics: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(refuse)?;
        Ok(Worker {
            settings,
            consumer: Arc::new(consumer),
            queue,
            sessions: Sessions::default(),
            waiting: Waiting::default(),
            release: None,
            stopped_at: None,
            drain: None,
            intake: Intake::new(link.deliveries),
            committer: Committer::default(),
            health: Health::default(),
            heads: Heads::new(starts, Instant::now()),
            backlog: Backlog::new(ends, Instant::now()),
            commands: link.commands,
            events: link.events,
            waker: Arc::new(Unpark(thread::current())).into(),
            leave_by: None,
        })
    }

    fn serve(&mut self) -> Result<(), SourceError> {
        loop {
            let now = Instant::now();
            let more_commands = self.take_commands(now);
            self.take_notices(now)?;
            if self.waiting.due().is_some_and(|due| now >= due) {
                self.start_waiting(now);
            }
            if !self.committer.is_late(now) {
                self.intake.hand_over(&mut TaskContext::from_waker(&self.waker));
            }
            self.intake.adjust(now);
            self.pause_and_resume();
            self.commit_when_due(now);
            self.release_when_ready(now);
            self.leave_to_others(now);
            self.tell_backlog(now);
            self.look_at_heads(now);
            if self.is_finished(now) {
                return Ok(());
            }
            let more_records = self.poll()?;
            if !more_commands && !more_records {
                self.park(now);
            }
        }
    }

    /// True when there may be more.
    fn take_commands(&mut self, now: Instant) -> bool {
        for _ in 0..BATCH {
            match self.commands.poll_recv(&mut TaskContext::from_waker(&self.waker)) {
                Poll::Ready(Some(Command::Settle { id, how })) => self.settle(id, how, now),
                Poll::Ready(Some(Command::Note { id, attempts })) => self.note(id, attempts, now),
                Poll::Ready(Some(Command::Prove { epoch })) => self.prove(epoch, now),
                Poll::Ready(Some(Command::StopIntake)) => {
                    self.stop_intake();
                    self.stopped_at.get_or_insert(now);
                    self.send(SourceEvent::IntakeStopped);
                }
                Poll::Ready(Some(Command::LeaveToOthers)) => self.look_for_others(now),
                Poll::Ready(Some(Command::Close)) => self.close(now),
                // The bridge is gone, which means the same.
                Poll::Ready(None) => {
                    self.close(now);
                    return false;
                }
                Poll::Pending => return false,
            }
        }
        true
    }

    fn take_notices(&mut self, now: Instant) -> Result<(), SourceError> {
        while let Some(notice) = self.consumer.context().take() {
            match notice {
                Notice::Assigned(partitions) => self.assigned(&partitions, now),
                Notice::Revoked { partitions, lost } => self.revoked(&partitions, lost, now),
                Notice::Committed { partitions, error } => self.committed(&partitions, error, now),
                Notice::Reachable(reachable) => self.set_reachable(reachable),
                Notice::Failed { code, reason } => self.health.failed(code, reason)?,
            }
        }
        Ok(())
    }

    /// Polls a batch of records; true when there may be more.
    fn poll(&mut self) -> Result<bool, SourceError> {
        let consumer = Arc::clone(&self.consumer);
        for _ in 0..BATCH {
            if !self.intake.may_poll() {
                return Ok(false);
            }
            match consumer.poll(Duration::ZERO) {
                Some(Ok(record)) => self.take(&record),
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    let (code, reason) =
                        consumer.client().fatal_error().unwrap_or_else(|| (code, code.to_string()));
                    return Err(health::fatal(code, reason));
                }
                // Told through `Context::error` as well, with more words.
                Some(Err(_)) => {}
                // Nothing, or an event was served; its notice comes first.
                None => return Ok(!self.queue.is_empty()),
            }
        }
        Ok(true)
    }

    fn take(&mut self, record: &BorrowedMessage<'_>) {
        let (topic, number, offset) = (record.topic(), record.partition(), record.offset());
        if self.sessions.find(topic, number).is_some_and(|partition| partition.steps_back(offset)) {
            self.renew(topic, number, offset);
        }
        let Some(partition) = self.sessions.find(topic, number) else { return };
        match partition.take(record, || raw::cached_bounds(&self.consumer, topic, number)) {
            Taken::Deliver(delivery) => self.intake.push(delivery),
            Taken::Skipped | Taken::HeldBack => {}
        }
        if partition.is_dirty() {
            // A record that is gone, or the first of a partition without a committed offset.
            self.committer.touch(Instant::now());
        }
        if let Some(needed) = partition.jump() {
            tracing::debug!(topic, partition = number, offset, needed, "skipping what is done");
            // Returns at once without a timeout; what was prefetched is dropped.
            if let Err(error) = self.consumer.seek(topic, number, Offset::Offset(needed), Duration::ZERO) {
                tracing::debug!(%error, "could not skip, reading on");
            }
        }
    }

    /// Tells librdkafka which partitions changed between paused and not.
    fn pause_and_resume(&mut self) {
        let (mut pause, mut resume) = (TopicPartitionList::new(), TopicPartitionList::new());
        let hold_all = self.intake.holds_all();
        for partition in self.sessions.iter_mut() {
            let wanted = hold_all || partition.holds();
            if wanted != partition.paused {
                partition.paused = wanted;
                let list = if wanted { &mut pause } else { &mut resume };
                list.add_partition(&partition.place.topic, partition.place.partition);
            }
        }
        let paused = if pause.count() > 0 { self.consumer.pause(&pause) } else { Ok(()) };
        let resumed = if resume.count() > 0 { self.consumer.resume(&resume) } else { Ok(()) };
        if let Err(error) = paused.and(resumed) {
            tracing::warn!(%error, "could not pause or resume partitions");
        }
    }

    fn tell_backlog(&mut self, now: Instant) {
        let in_log = self.backlog.update(&self.consumer, &mut self.sessions, now);
        if let Some(in_log) = in_log.filter(|_| self.health.is_established()) {
            self.send(SourceEvent::Backlog(in_log + self.intake.len() as u64));
        }
    }

    pub(super) fn set_reachable(&mut self, reachable: bool) {
        if self.health.set_reachable(reachable) {
            self.send(SourceEvent::Connected(reachable));
        }
    }

    pub(super) fn send(&self, event: SourceEvent) {
        // Fails only where the bridge is gone, which the commands tell.
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
        self.committer.hurry();
        let patience = if self.health.is_reachable() { LAST_COMMIT } else { LAST_COMMIT_UNREACHABLE };
        self.leave_by = Some(now + patience);
    }

    fn is_finished(&self, now: Instant) -> bool {
        let Some(leave_by) = self.leave_by else { return false };
        if now >= leave_by && !self.committer.is_settled() {
            tracing::warn!("the last commit was not answered; what finished last may run again");
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
            self.leave_by,
        ];
        let next = dues.into_iter().flatten().min().unwrap_or(now + NAP);
        thread::park_timeout(next.saturating_duration_since(now).min(NAP));
    }
}
