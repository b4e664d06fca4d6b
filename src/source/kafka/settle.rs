//! What the bridge says of deliveries, and how it gets to the broker.

use std::time::Instant;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::commit::{Part, is_passing};
use super::metadata;
use super::partition::Partition;
use super::raw::{self, Entry};
use super::thread::Worker;
use crate::delivery::{DeliveryId, Epoch, Settlement};
use crate::source::{Settled, SourceEvent};

impl Worker {
    /// An ack makes the offset done. A return leaves it as it is: it is handed out again by the next
    /// session, here or elsewhere.
    pub fn settle(&mut self, id: DeliveryId, how: Settlement, now: Instant) {
        let Some(partition) = self.sessions.get(id.epoch) else {
            return self.send(SourceEvent::Settled { id, settled: Settled::Stale });
        };
        let offset = id.tag.cast_signed();
        let counts = match how {
            Settlement::Ack => partition.complete(id.tag),
            Settlement::Return => partition.tracker().is_some_and(|tracker| !tracker.is_done(offset)),
        };
        if counts && how == Settlement::Return {
            partition.returned();
        }
        if counts && how == Settlement::Ack {
            self.committer.touch(now);
            if partition.is_held_back() {
                partition.release().into_iter().for_each(|delivery| self.intake.push(delivery));
            }
        }
        // A second settle of the same delivery changes nothing.
        let settled = if counts { Settled::Sent } else { Settled::Stale };
        self.send(SourceEvent::Settled { id, settled });
    }

    pub fn note(&mut self, id: DeliveryId, attempts: u32, now: Instant) {
        if let Some(tracker) = self.sessions.get(id.epoch).and_then(Partition::tracker) {
            tracker.note_attempts(id.tag.cast_signed(), attempts);
            self.committer.touch(now);
        }
    }

    /// Finds out whether the group still knows us: it takes commits of its members only. One that was given up, and has not
    /// noticed yet, gets no answer before it loses the session.
    pub fn prove(&mut self, epoch: Epoch, now: Instant) {
        // The loss of an earlier session was told already.
        let Some(partition) = self.sessions.get(epoch) else { return };
        if partition.prove() {
            self.committer.touch(now);
        } else {
            self.send(SourceEvent::Alive { epoch });
        }
    }

    /// When the next commit is due. None while no broker can be reached, because librdkafka would keep
    /// the commit and send it in another generation.
    pub fn commit_due(&self) -> Option<Instant> {
        self.committer.due().filter(|_| self.health.is_reachable())
    }

    /// Commits all dirty partitions, when it is time.
    pub fn commit_when_due(&mut self, now: Instant) {
        if self.commit_due().is_none_or(|due| now < due) {
            return;
        }
        if !self.committer.is_idle() {
            tracing::warn!("kafka did not answer a commit, trying again");
            return self.committer.failed(now);
        }
        let mut list = TopicPartitionList::new();
        let dirty = self.sessions.iter_mut().filter(|partition| partition.is_dirty());
        let parts: Vec<Part> = dirty.filter_map(|partition| add(&mut list, partition)).collect();
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
            return tracing::debug!(?error, "answer to a commit that was given up");
        };
        let mut failure = error;
        for part in parts {
            let refused = entries
                .iter()
                .find(|entry| entry.topic == *part.topic && entry.partition == part.partition)
                .and_then(|entry| entry.error);
            let Some(partition) = self.sessions.get(part.epoch) else { continue };
            match refused.or(error) {
                None => {
                    let proven = partition.acknowledge(part.change);
                    let is_alive = partition.take_proof(part.change);
                    if !proven.is_empty() {
                        self.send(SourceEvent::Proven(proven));
                    }
                    if is_alive {
                        self.send(SourceEvent::Alive { epoch: part.epoch });
                    }
                }
                Some(RDKafkaErrorCode::OffsetMetadataTooLarge) => {
                    let Some(tracker) = partition.tracker() else { continue };
                    let cap = tracker.shrink_cap();
                    tracing::error!(topic = %part.topic, partition = part.partition, offset = part.offset, cap,
                        "the broker refused the map as too large: raise its offset.metadata.max.bytes to 4096; \
                         until then fewer records of this partition are worked on at once");
                    failure = Some(RDKafkaErrorCode::OffsetMetadataTooLarge);
                }
                Some(code) => failure = Some(code),
            }
        }
        match failure {
            Some(error) => self.commit_failed(error, now),
            None => self.committer.succeeded(),
        }
    }

    fn commit_failed(&mut self, error: RDKafkaErrorCode, now: Instant) {
        self.committer.failed(now);
        if self.committer.is_first_failure() && !is_passing(error) {
            tracing::warn!(%error, "commit failed, trying again; nothing is lost meanwhile");
        } else {
            tracing::debug!(%error, "commit failed, trying again");
        }
    }
}

/// Adds a partition's offset and map to a list; the same snapshot makes both.
fn add(list: &mut TopicPartitionList, partition: &mut Partition) -> Option<Part> {
    let snapshot = partition.tracker()?.snapshot();
    let place = &partition.place;
    let mut element = list.add_partition(&place.topic, place.partition);
    element.set_offset(Offset::Offset(snapshot.base)).ok()?;
    // Once for each element: a second call would leak the first text.
    element.set_metadata(metadata::encode(&snapshot));
    Some(Part {
        epoch: place.epoch,
        topic: place.topic.clone(),
        partition: place.partition,
        offset: snapshot.base,
        change: snapshot.change,
    })
}
