//! Takes the bridge's decisions about deliveries, and brings them to the broker.

use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::commit::{Part, is_of_partition, is_passing};
use super::metadata;
use super::partition::Partition;
use super::thread::Worker;
use crate::connect::kafka::notice::Entry;
use crate::connect::kafka::raw;
use crate::delivery::{DeliveryId, Epoch, Settlement};
use crate::source::{Settled, SourceEvent};
use crate::telemetry::ProblemKind;

/// How long refusals may last before they are a problem. A shorter one may pass without help.
const REFUSED: Duration = Duration::from_secs(2);
/// How long finished work may wait for its commit before that is a problem.
const UNCONFIRMED: Duration = Duration::from_secs(8);

impl Worker {
    /// Settles a delivery. An ack marks the offset as done. A return changes nothing: the next
    /// session hands the record out again, here or elsewhere.
    pub fn settle(&mut self, id: DeliveryId, how: Settlement, now: Instant) {
        let Some(partition) = self.sessions.get(id.epoch) else {
            return self.send(SourceEvent::Settled { delivery: id, settled: Settled::Stale });
        };
        let offset = id.tag.cast_signed();
        let counts = match how {
            Settlement::Ack => partition.complete(id.tag, now),
            Settlement::Return => partition.tracker().is_some_and(|tracker| !tracker.is_done(offset)),
        };
        if counts && how == Settlement::Return {
            partition.returned();
        }
        if counts && how == Settlement::Ack {
            self.committer.touch(now);
            let skipped = partition.skipped(id.tag).map(|offset| partition.place.id(offset));
            let (topic, number) = (partition.place.topic.clone(), partition.place.partition);
            if partition.is_held_back() {
                partition.release().into_iter().for_each(|delivery| self.intake.push(delivery));
            }
            if let Some(id) = skipped {
                self.solved(ProblemKind::Undecodable, &id);
                self.read_behind(&topic, number);
            }
        }
        // A second settle of the same delivery changes nothing.
        let settled = if counts { Settled::Sent } else { Settled::Stale };
        self.send(SourceEvent::Settled { delivery: id, settled });
    }

    /// Records the number of attempts.
    pub fn note(&mut self, id: DeliveryId, attempts: u32, now: Instant) {
        let Some(partition) = self.sessions.get(id.epoch) else { return };
        let offset = id.tag.cast_signed();
        if let Some(tracker) = partition.tracker() {
            tracker.note_attempts(offset, attempts);
            self.committer.touch(now);
        }
    }

    /// Finds out whether the group still knows this member, because it takes commits only from
    /// members. A member that was expelled and has not noticed gets no answer before it loses the
    /// session.
    pub fn prove(&mut self, epoch: Epoch, now: Instant) {
        // If the session is gone, its loss was already reported.
        let Some(partition) = self.sessions.get(epoch) else { return };
        if partition.prove() {
            self.committer.touch(now);
        } else {
            self.send(SourceEvent::Alive { epoch });
        }
    }

    /// Returns the time of the next commit. `None` while no broker can be reached, because
    /// librdkafka would keep the commit and send it in a later generation.
    pub fn commit_due(&self) -> Option<Instant> {
        self.committer.due().filter(|_| self.health.is_reachable())
    }

    /// Commits once more before partitions are left, even those whose last commit was refused.
    pub fn hurry_commits(&mut self, now: Instant) {
        let mut is_dirty = false;
        for partition in self.sessions.iter_mut() {
            partition.retry_refused(now);
            is_dirty |= partition.is_dirty();
        }
        if is_dirty {
            self.committer.touch(now);
        }
        self.committer.hurry();
    }

    /// Commits all dirty partitions, if a commit is due.
    pub fn commit_when_due(&mut self, now: Instant) {
        if self.commit_due().is_none_or(|due| now < due) {
            return;
        }
        if !self.committer.is_idle() {
            tracing::warn!("Kafka did not answer a commit, trying again");
            return self.committer.failed(now);
        }
        let mut list = TopicPartitionList::new();
        let mut parts = Vec::new();
        let mut refused_again_at: Option<Instant> = None;
        for partition in self.sessions.iter_mut().filter(|partition| partition.is_dirty()) {
            match partition.commit_again_at().filter(|again_at| now < *again_at) {
                Some(again_at) => {
                    refused_again_at = Some(refused_again_at.map_or(again_at, |first| first.min(again_at)));
                }
                None => parts.extend(add(&mut list, partition)),
            }
        }
        self.committer.refused_until(refused_again_at);
        if parts.is_empty() {
            return self.committer.nothing_to_send();
        }
        match raw::commit(&self.consumer, &list, &self.queue) {
            Ok(()) => self.committer.sent(parts, now),
            Err(error) => self.commit_failed(error, now),
        }
    }

    pub fn committed(&mut self, entries: &[Entry], error: Option<RDKafkaErrorCode>, now: Instant) {
        let Some(parts) = self.committer.answered(entries) else {
            return tracing::debug!(?error, "Answer to a commit that was given up");
        };
        // A request with errors in its partitions repeats one of them as its own error.
        let whole = error.filter(|_| entries.iter().all(|entry| entry.error.is_none()));
        let mut failure = None;
        for part in parts {
            let own = entries
                .iter()
                .find(|entry| entry.topic == *part.topic && entry.partition == part.partition)
                .and_then(|entry| entry.error);
            match own.or(whole) {
                None => self.part_taken(&part, now),
                Some(code) if is_of_partition(code) => self.part_refused(&part, code, now),
                Some(code) => failure = Some(code),
            }
        }
        match failure {
            Some(error) => self.commit_failed(error, now),
            None => self.committer.succeeded(),
        }
    }

    fn part_taken(&mut self, part: &Part, now: Instant) {
        let Some(partition) = self.sessions.get(part.epoch) else { return };
        let proven = partition.acknowledge(part.change, now);
        let is_alive = partition.take_proof(part.change);
        let was_refused = partition.commit_taken();
        if !proven.is_empty() {
            self.send(SourceEvent::Proven(proven));
        }
        if is_alive {
            self.send(SourceEvent::Alive { epoch: part.epoch });
        }
        if was_refused {
            self.solved(ProblemKind::CommitRefused, &format!("{}/{}", part.topic, part.partition));
        }
    }

    /// Records that the broker refuses this partition. The others are not affected.
    fn part_refused(&mut self, part: &Part, code: RDKafkaErrorCode, now: Instant) {
        let Some(partition) = self.sessions.get(part.epoch) else { return };
        let lasts = partition.commit_refused(now);
        let again_at = partition.commit_again_at();
        if code == RDKafkaErrorCode::OffsetMetadataTooLarge
            && let Some(tracker) = partition.tracker()
        {
            let characters = tracker.shrink();
            tracing::error!(topic = %part.topic, partition = part.partition, offset = part.offset, characters,
                "The broker refused the map as too large: raise its offset.metadata.max.bytes to 4096; until then fewer records of this partition run at once");
        }
        self.committer.refused_until(again_at);
        if code == RDKafkaErrorCode::UnknownTopicOrPartition {
            self.topics.hurry(now);
        }
        if lasts >= REFUSED {
            let help = match code {
                RDKafkaErrorCode::TopicAuthorizationFailed => "allow this user to Read the topic",
                RDKafkaErrorCode::OffsetMetadataTooLarge => {
                    "raise the broker's offset.metadata.max.bytes to 4096"
                }
                _ => {
                    "see the broker's log; the partition starts nothing new until its commits are taken again"
                }
            };
            let subject = format!("{}/{}", part.topic, part.partition);
            let text = format!("kafka refuses to commit offset {} of this partition: {code}", part.offset);
            self.problem(ProblemKind::CommitRefused, &subject, text, help);
        }
    }

    fn commit_failed(&mut self, error: RDKafkaErrorCode, now: Instant) {
        self.committer.failed(now);
        if is_passing(error) {
            tracing::debug!(%error, "Commit failed, trying again");
        } else {
            tracing::debug!(%error, "Commit refused, trying again");
            self.health.commit_error(error);
        }
    }

    /// Reports finished work that has waited too long for its commit, although no partition is
    /// refused by itself.
    pub fn look_at_commits(&mut self, now: Instant) {
        let waiting = self.sessions.iter().filter(|partition| partition.commit_again_at().is_none());
        let longest = waiting.filter_map(|partition| partition.unconfirmed_for(now)).max();
        let group = self.settings.group.clone();
        match longest.filter(|time| *time >= UNCONFIRMED) {
            Some(_) => {
                let text = format!(
                    "kafka has not taken a commit for more than {} s ({}); nothing new is started",
                    UNCONFIRMED.as_secs(),
                    self.health.last_commit_error()
                );
                let help = "see whether the coordinator of the group is up, and whether this user may Read the group";
                self.problem(ProblemKind::CommitRefused, &group, text, help);
            }
            None => self.solved(ProblemKind::CommitRefused, &group),
        }
    }
}

/// Adds a partition's offset and map to a list; both come from the same snapshot.
fn add(list: &mut TopicPartitionList, partition: &mut Partition) -> Option<Part> {
    let tracker = partition.tracker()?;
    let (snapshot, characters) = (tracker.snapshot(), tracker.characters());
    let place = &partition.place;
    let mut element = list.add_partition(&place.topic, place.partition);
    element.set_offset(Offset::Offset(snapshot.base)).ok()?;
    // Once for each element: a second call would leak the first text.
    element.set_metadata(metadata::encode(place.log, &snapshot, characters));
    Some(Part {
        epoch: place.epoch,
        topic: place.topic.clone(),
        partition: place.partition,
        offset: snapshot.base,
        change: snapshot.change,
    })
}
