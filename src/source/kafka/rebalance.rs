//! Partitions come and go.
//!
//! An assigned partition starts only after its committed offset *and* map were read, in one request, so
//! that both are of the same commit. Until then it waits: started without its map, it would run again
//! whatever finished behind the base. The reading is bounded, and tried again for as long as it takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::context::{Consumer, unassign};
use super::metadata;
use super::partition::Partition;
use super::raw::{self, Entry};
use super::record::Place;
use super::thread::Worker;
use super::tracker::Tracker;
use crate::config::Start;
use crate::source::SourceEvent;

/// How long the poll thread may stand still for committed offsets. The coordinator has just let us
/// join, so it answers in milliseconds or not at all.
const PATIENCE: Duration = Duration::from_secs(2);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// Partitions that are ours and have not started.
#[derive(Default)]
pub struct Waiting {
    partitions: Vec<(String, i32)>,
    retry_at: Option<Instant>,
    failures: u32,
}

impl Waiting {
    pub fn due(&self) -> Option<Instant> {
        self.retry_at.filter(|_| !self.partitions.is_empty())
    }

    fn put_off(&mut self, now: Instant) {
        let backoff = FIRST_RETRY.saturating_mul(1 << self.failures.min(8)).min(LONGEST_RETRY);
        self.failures += 1;
        self.retry_at = Some(now + backoff);
    }
}

impl Worker {
    pub fn assigned(&mut self, partitions: &[Entry], now: Instant) {
        self.health.established();
        self.set_reachable(true);
        self.waiting.partitions.extend(partitions.iter().map(|entry| (entry.topic.clone(), entry.partition)));
        // Called for an empty assignment too: librdkafka waits for the answer.
        self.start_waiting(now);
    }

    /// Starts the partitions whose committed offsets can be read.
    pub fn start_waiting(&mut self, now: Instant) {
        let (readable, error) = match read_committed(&self.consumer, &self.waiting.partitions) {
            Ok(entries) => {
                let error = entries.iter().find_map(|entry| entry.error).map(|code| code.to_string());
                (entries.into_iter().filter(|entry| entry.error.is_none()).collect(), error)
            }
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        match self.start(&readable) {
            Ok(()) => self.waiting.partitions.retain(|(topic, partition)| {
                !readable.iter().any(|entry| entry.topic == *topic && entry.partition == *partition)
            }),
            Err(error) => tracing::warn!(%error, "could not start partitions, trying again"),
        }
        if self.waiting.partitions.is_empty() {
            self.waiting = Waiting::default();
            return;
        }
        if self.waiting.failures == 0 {
            let partitions = self.waiting.partitions.len();
            tracing::warn!(
                error = error.as_deref(),
                partitions,
                "committed offsets can't be read; the partitions wait for them"
            );
        }
        self.waiting.put_off(now);
    }

    fn start(&mut self, readable: &[Entry]) -> KafkaResult<()> {
        let mut list = TopicPartitionList::with_capacity(readable.len());
        for entry in readable {
            let offset = match self.settings.start {
                _ if entry.offset >= 0 => Offset::Offset(entry.offset),
                Start::Earliest => Offset::Beginning,
                Start::Latest => Offset::End,
            };
            list.add_partition_offset(&entry.topic, entry.partition, offset)?;
        }
        self.consumer.incremental_assign(&list)?;
        let mut assigned = Vec::with_capacity(readable.len());
        for entry in readable {
            let place = Place {
                topic: Arc::from(entry.topic.as_str()),
                partition: entry.partition,
                epoch: super::next_epoch(),
                order: self.settings.order,
            };
            assigned.push(place.assignment());
            let tracker = (entry.offset >= 0).then(|| restore(entry));
            self.begin(Partition::new(place, tracker, self.settings.start));
        }
        if !assigned.is_empty() {
            self.send(SourceEvent::Assigned(assigned));
        }
        Ok(())
    }

    /// The group takes partitions back. A planned release is put off a little, see
    /// [`release`](super::release); what is `lost` others may have already, so it ends at once.
    pub fn revoked(&mut self, partitions: &[Entry], lost: bool, now: Instant) {
        self.waiting.partitions.retain(|(topic, number)| {
            !partitions.iter().any(|entry| (&entry.topic, entry.partition) == (topic, *number))
        });
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
        // librdkafka keeps a partition paused across assignments: when it came back, nothing would be fetched.
        if paused.count() > 0
            && let Err(error) = self.consumer.resume(&paused)
        {
            tracing::warn!(%error, "could not resume partitions that are given back");
        }
        if !self.sessions.iter().any(Partition::is_dirty) {
            self.committer.nothing_waits();
        }
        if let Err(error) = unassign(&self.consumer, &list) {
            tracing::warn!(%error, "could not give partitions back");
        }
    }

    /// The log of a partition is another one than before: its session ends, and a new one knows nothing.
    pub fn renew(&mut self, topic: &str, partition: i32, offset: i64) {
        let Some(old) = self.sessions.remove(topic, partition) else { return };
        tracing::warn!(
            topic,
            partition,
            offset,
            "the log went back to an earlier offset: the topic was created anew or cut short"
        );
        self.end(&old, "the log went back to an earlier offset");
        // Not told as assigned: other replicas know these offsets as other records.
        let place = Place { epoch: super::next_epoch(), ..old.place.clone() };
        let mut renewed = Partition::new(place, None, self.settings.start);
        renewed.paused = old.paused;
        self.begin(renewed);
    }

    fn begin(&mut self, partition: Partition) {
        let Place { topic, partition: number, epoch, .. } = &partition.place;
        tracing::info!(%topic, partition = number, %epoch, "partition is up");
        self.send(SourceEvent::Up { epoch: *epoch });
        self.sessions.insert(partition);
    }

    pub fn end(&mut self, partition: &Partition, reason: &str) {
        let Place { topic, partition: number, epoch, .. } = &partition.place;
        tracing::info!(%topic, partition = number, %epoch, reason, "partition is gone");
        self.intake.forget(*epoch);
        self.send(SourceEvent::Lost { epoch: *epoch, reason: reason.to_owned() });
    }
}

fn read_committed(consumer: &Consumer, partitions: &[(String, i32)]) -> KafkaResult<Vec<Entry>> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition(topic, *partition);
    }
    let committed = consumer.committed_offsets(list, PATIENCE)?;
    Ok(raw::entries(&committed))
}

/// Base and map of a committed offset; a map that can't be trusted is left out, and what finished
/// behind the base runs again.
fn restore(committed: &Entry) -> Tracker {
    let Entry { topic, partition, offset, metadata, .. } = committed;
    match metadata::decode(metadata, *offset) {
        Ok(Some(map)) => {
            let unfinished = map.incomplete.len();
            tracing::debug!(topic, partition, offset, end = map.end, unfinished, "map read back");
            Tracker::restore(map.base, map.end, &map.incomplete)
        }
        Ok(None) => Tracker::new(*offset),
        Err(error) => {
            tracing::warn!(topic, partition, offset, %error,
                "the committed metadata is no map and is ignored; records after this offset may run again");
            Tracker::new(*offset)
        }
    }
}
