//! Starts and ends partitions as the group assigns and revokes them.
//!
//! An assigned partition starts only after its log was identified and its committed offset *and*
//! map were read, in one request, so that both come from the same commit. Without its map it would
//! run again everything that finished behind the base. Reading has a time limit, and is repeated
//! until it succeeds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::context::unassign;
use super::lost::Lost;
use super::metadata::Log;
use super::partition::Partition;
use super::record::Place;
use super::start::{self, Found, Ready};
use super::thread::Worker;
use super::tracker::Tracker;
use crate::connect::kafka::notice::Entry;
use crate::source::{Assignment, SourceEvent};
use crate::telemetry::ProblemKind;

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
const SEEK: Duration = Duration::from_secs(1);

/// Assigned partitions that have not started.
#[derive(Default)]
pub struct Waiting {
    partitions: Vec<(String, i32)>,
    /// Those of them that wait for a person's decision.
    lost: Vec<Lost>,
    retry_at: Option<Instant>,
    failures: u32,
}

impl Waiting {
    pub fn due(&self) -> Option<Instant> {
        self.retry_at.filter(|_| !self.partitions.is_empty())
    }

    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.partitions.iter().map(|(topic, _)| topic.as_str())
    }

    pub fn lost(&self) -> &[Lost] {
        &self.lost
    }

    fn put_off(&mut self, now: Instant) {
        let backoff = FIRST_RETRY.saturating_mul(1 << self.failures.min(8)).min(LONGEST_RETRY);
        self.failures += 1;
        self.retry_at = Some(now + backoff);
    }
}

impl Worker {
    pub fn assigned(&mut self, partitions: &[Entry], now: Instant) {
        self.set_reachable(true);
        // If a group has joined while no topic matches any pattern, `start` is decided: every topic
        // appears later.
        if partitions.is_empty() && self.sessions.is_empty() && self.settings.plain_topics().next().is_none()
        {
            self.start_is_decided = true;
        }
        self.waiting.partitions.extend(partitions.iter().map(|entry| (entry.topic.clone(), entry.partition)));
        // This is called even for an empty assignment, because librdkafka waits for the answer.
        self.start_waiting(now);
    }

    /// Starts the partitions whose logs and committed offsets can be read.
    pub fn start_waiting(&mut self, now: Instant) {
        if self.is_closing() {
            // librdkafka waits for this answer.
            if let Err(error) = self.start(Vec::new()) {
                tracing::debug!(%error, "Could not answer the group while closing");
            }
            return self.waiting.put_off(now);
        }
        let partitions = self.waiting.partitions.clone();
        let (found, error) = match self.ready(&partitions) {
            Ok(found) => (found, None),
            Err(error) => (Found::default(), Some(error.to_string())),
        };
        let Found { ready, missing, lost } = found;
        if error.is_none() {
            self.waiting.lost = lost;
            self.report_lost();
        }
        match self.start(ready) {
            Ok(started) => self.waiting.partitions.retain(|(topic, partition)| {
                !started.iter().any(|one| *one.topic == *topic && one.partition == *partition)
            }),
            Err(error) => tracing::warn!(%error, "Could not start partitions, trying again"),
        }
        let group = self.settings.group.clone();
        if self.waiting.partitions.is_empty() {
            self.waiting = Waiting::default();
            return self.solved(ProblemKind::Stalled, &group);
        }
        let is_explained = |one: &(String, i32)| {
            missing.contains(one) || self.waiting.lost.iter().any(|lost| lost.is(&one.0, one.1))
        };
        if self.waiting.partitions.iter().all(is_explained) {
            // Other problems tell about partitions that do not exist, or that have lost their
            // offsets.
            self.solved(ProblemKind::Stalled, &group);
        } else if self.waiting.failures >= 2 {
            // The first failures pass while a group is being rebalanced.
            let error = error.unwrap_or_else(|| "their topics can't be described".to_owned());
            let text = format!("{} assigned partitions can't start: {error}", self.waiting.partitions.len());
            let help = "see whether the coordinator of the group is up, and whether this user may Describe the topics and Read the group";
            self.problem(ProblemKind::Stalled, &group, text, help);
        }
        self.waiting.put_off(now);
    }

    fn start(&mut self, ready: Vec<Ready>) -> KafkaResult<Vec<Assignment>> {
        let mut list = TopicPartitionList::with_capacity(ready.len());
        for one in &ready {
            list.add_partition_offset(&one.topic, one.partition, one.offset)?;
        }
        self.consumer.incremental_assign(&list)?;
        let mut started = Vec::with_capacity(ready.len());
        for one in ready {
            let place = Place {
                topic: Arc::from(one.topic.as_str()),
                partition: one.partition,
                log: one.log,
                epoch: super::next_epoch(),
                order: self.settings.order,
            };
            started.push(place.assignment(one.offset.to_raw().unwrap_or_default().max(0)));
            self.begin(Partition::new(place, one.tracker));
        }
        if !started.is_empty() {
            self.send(SourceEvent::Assigned(started.clone()));
        }
        Ok(started)
    }

    /// Takes partitions back for the group. A planned release is delayed a little, see
    /// [`release`](super::release). Lost partitions may have another owner already, so they end at
    /// once.
    pub fn revoked(&mut self, partitions: &[Entry], lost: bool, now: Instant) {
        let is_revoked = |topic: &str, number: i32| {
            partitions.iter().any(|entry| entry.topic == topic && entry.partition == number)
        };
        self.waiting.partitions.retain(|(topic, number)| !is_revoked(topic, *number));
        let count = self.waiting.lost.len();
        self.waiting.lost.retain(|one| !is_revoked(&one.topic, one.partition));
        if self.waiting.lost.len() < count {
            self.report_lost();
        }
        let partitions = partitions.iter().map(|entry| (entry.topic.clone(), entry.partition)).collect();
        if lost {
            self.give_back(partitions, "the group went on without us");
        } else {
            self.begin_release(partitions, now);
        }
    }

    /// Ends the sessions of these partitions and answers the group.
    pub fn give_back(&mut self, partitions: Vec<(String, i32)>, reason: &str) {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        let mut paused = TopicPartitionList::new();
        for (topic, number) in partitions {
            if let Some(partition) = self.sessions.remove(&topic, number) {
                list.add_partition(&topic, number);
                if partition.paused {
                    paused.add_partition(&topic, number);
                }
                self.end(&partition, reason);
            }
        }
        // librdkafka keeps a partition paused across assignments. If it came back, nothing would be
        // fetched.
        if paused.count() > 0
            && let Err(error) = self.consumer.resume(&paused)
        {
            tracing::warn!(%error, "Could not resume partitions that are given back");
        }
        if let Err(error) = unassign(&self.consumer, &list) {
            tracing::warn!(%error, "Could not give partitions back");
        }
    }

    /// Ends the session of a partition whose log went back to an earlier offset, and starts a new
    /// one without a map.
    pub fn renew(&mut self, topic: &str, partition: i32, offset: i64) {
        tracing::warn!(
            topic,
            partition,
            offset,
            "The log went back to an earlier offset: the topic was created again or cut short"
        );
        self.replace(topic, partition, None, None, "the log went back to an earlier offset");
    }

    /// Starts to read another log, which has replaced the log of this session, from its beginning.
    pub fn change_log(&mut self, topic: &str, partition: i32, id: u128, now: Instant) {
        tracing::warn!(
            topic,
            partition,
            "The topic was created again; its new log is read from the beginning"
        );
        let log = Log { id, is_replacement: true };
        self.replace(topic, partition, Some(log), Some(start::new_log()), "the topic was created again");
        self.committer.touch(now);
        // The seek waits until it is done. Otherwise events of the old position would count for the
        // new session.
        let is_done = self
            .patience
            .for_answer(SEEK)
            .is_some_and(|time| self.consumer.seek(topic, partition, Offset::Beginning, time).is_ok());
        if !is_done {
            let again = || -> KafkaResult<()> {
                let mut list = TopicPartitionList::new();
                list.add_partition_offset(topic, partition, Offset::Beginning)?;
                self.consumer.incremental_unassign(&list)?;
                self.consumer.incremental_assign(&list)
            };
            if let Err(error) = again() {
                tracing::warn!(topic, partition, %error, "Could not go back to the beginning of the log");
            }
        }
    }

    /// The topic was created again and has no such partition any more. The partition waits until
    /// the group takes it back, or until it exists again.
    pub fn vanish(&mut self, topic: &str, partition: i32, now: Instant) {
        tracing::warn!(topic, partition, "The topic was created again without this partition");
        let Some(gone) = self.sessions.remove(topic, partition) else { return };
        self.end(&gone, "the topic was created again without this partition");
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        // A partition that stays paused would not be read when it comes back.
        let resumed = if gone.paused { self.consumer.resume(&list) } else { Ok(()) };
        if let Err(error) = resumed.and_then(|()| self.consumer.incremental_unassign(&list)) {
            tracing::warn!(topic, partition, %error, "Could not give up a partition that is gone");
        }
        self.waiting.partitions.push((topic.to_owned(), partition));
        self.waiting.put_off(now);
    }

    fn replace(
        &mut self,
        topic: &str,
        partition: i32,
        log: Option<Log>,
        tracker: Option<Tracker>,
        reason: &str,
    ) {
        let Some(old) = self.sessions.remove(topic, partition) else { return };
        self.end(&old, reason);
        // Not reported as assigned, because other replicas know these offsets as other records.
        let log = log.unwrap_or(old.place.log);
        let place = Place { epoch: super::next_epoch(), log, ..old.place.clone() };
        let mut renewed = Partition::new(place, tracker);
        renewed.paused = old.paused;
        self.begin(renewed);
    }

    fn begin(&mut self, mut partition: Partition) {
        let place = &partition.place;
        partition.is_paused_by_hand = self.paused_by_hand.contains(&place.topic, place.partition);
        let Place { topic, partition: number, epoch, .. } = &partition.place;
        tracing::info!(%topic, partition = number, %epoch, "Partition is up");
        self.send(SourceEvent::Up { epoch: *epoch });
        self.sessions.insert(partition);
    }

    pub fn end(&mut self, partition: &Partition, reason: &str) {
        let Place { topic, partition: number, epoch, .. } = &partition.place;
        tracing::info!(%topic, partition = number, %epoch, reason, "Partition is gone");
        self.intake.forget(*epoch);
        self.solved(ProblemKind::CommitRefused, &format!("{topic}/{number}"));
        self.solved(ProblemKind::Stalled, &format!("{topic}/{number}"));
        if let Some(found) = &partition.undecodable {
            self.solved(ProblemKind::Undecodable, &partition.place.id(found.offset()));
        }
        self.send(SourceEvent::Lost { epoch: *epoch, reason: reason.to_owned() });
    }
}
