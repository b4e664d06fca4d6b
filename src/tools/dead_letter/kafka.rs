//! The letters of a topic. A record cannot be removed from a log, so that a consumer group
//! remembers which letters were handled.
//!
//! The committed offset is the first letter that was not handled. Its metadata has the end of the
//! letters that were looked at, and the letters before it that were not handled:
//! `longhaul 1 120 5,17-19`. All others before the end were.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Headers, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::letters::{Found, Handle};
use crate::event::{KafkaOrigin, Message, Origin, Value};
use crate::tools::Failure;
use crate::tools::kafka::{ANSWER_TIMEOUT, Client, client, failure, metadata, positions};
use crate::tools::place::Kafka;

/// The first word of our metadata.
const MARK: &str = "longhaul 1 ";
/// The longest metadata, in bytes. The broker's default limit is 4096.
const METADATA_MAX: usize = 4000;

mod fence;

use fence::Fence;

pub struct Log {
    client: Client,
    /// Keeps other commands away, unless this one only looks.
    fence: Option<Fence>,
    group: String,
    place: Kafka,
    topic: String,
    partitions: BTreeMap<i32, Partition>,
    total: u64,
}

struct Partition {
    /// The end of the log when the command started.
    end: i64,
    /// The next offset to read.
    position: i64,
    progress: Progress,
}

/// The handled letters of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// All letters before it are handled, but those in `open`.
    end: i64,
    open: BTreeSet<i64>,
}

impl Progress {
    fn is_handled(&self, offset: i64) -> bool {
        offset < self.end && !self.open.contains(&offset)
    }

    /// The offset to commit, and its metadata.
    fn encode(&self) -> (i64, String) {
        let Some(first) = self.open.first() else { return (self.end, String::new()) };
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        for offset in &self.open {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *offset => *last = *offset,
                _ => ranges.push((*offset, *offset)),
            }
        }
        let ranges: Vec<String> = ranges
            .into_iter()
            .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
            .collect();
        (*first, format!("{MARK}{} {}", self.end, ranges.join(",")))
    }

    fn decode(offset: i64, metadata: &str) -> Option<Self> {
        if metadata.is_empty() {
            return Some(Progress { end: offset, open: BTreeSet::new() });
        }
        let (end, ranges) = metadata.strip_prefix(MARK)?.split_once(' ')?;
        let end = end.parse().ok()?;
        let mut open = BTreeSet::new();
        for range in ranges.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (first.parse::<i64>().ok()?, last.parse::<i64>().ok()?);
            if first > last || last >= end || last - first > 100_000_000 {
                return None;
            }
            open.extend(first..=last);
        }
        Some(Progress { end, open })
    }
}

impl Log {
    pub fn open(place: &Kafka, group: Option<&str>, from_start: bool) -> Result<Self, Failure> {
        let topic = place.topic()?.to_owned();
        let group = group_name(&topic, group);
        let client = client(place, &group)?;
        let all = metadata(&client, place)?;
        let found = all.topics().iter().find(|found| found.name() == topic);
        let numbers: Vec<i32> =
            found.map(|found| found.partitions().iter().map(|it| it.id()).collect()).unwrap_or_default();
        if numbers.is_empty() {
            return Err(Failure::unavailable(
                format!("topic {topic} does not exist"),
                "correct the name, or create the topic",
            ));
        }
        let (partitions, total) =
            tokio::task::block_in_place(|| partitions(&client, place, &topic, &numbers, &group, from_start))?;
        Ok(Log { client, fence: None, group, place: place.clone(), topic, partitions, total })
    }

    /// Opens the log to handle its letters. No other command may handle them meanwhile.
    pub fn open_alone(place: &Kafka, group: Option<&str>, from_start: bool) -> Result<Self, Failure> {
        let topic = place.topic()?;
        let group = group_name(topic, group);
        // The progress is read behind the fence, so that it is the latest.
        let fence = tokio::task::block_in_place(|| Fence::join(place, topic, &group))?;
        let log = Log::open(place, Some(&group), from_start)?;
        Ok(Log { fence: Some(fence), ..log })
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn next(&mut self) -> Result<Option<Found>, Failure> {
        loop {
            if self.partitions.values().all(|partition| partition.position >= partition.end) {
                return Ok(None);
            }
            let Some(polled) = tokio::task::block_in_place(|| self.client.poll(ANSWER_TIMEOUT)) else {
                return Err(Failure::unavailable(
                    format!("Kafka sends no record of topic {} within {ANSWER_TIMEOUT:?}", self.topic),
                    "check that the leaders of its partitions are there",
                ));
            };
            let record = match polled {
                Ok(record) => record,
                Err(KafkaError::PartitionEOF(number)) => {
                    // The records before the end may be gone, or be marks of transactions.
                    if let Some(partition) = self.partitions.get_mut(&number) {
                        partition.position = partition.end;
                    }
                    continue;
                }
                Err(error) => match error.rdkafka_error_code() {
                    Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::OperationTimedOut) => {
                        continue;
                    }
                    _ => return Err(failure(&self.place, &error)),
                },
            };
            let (number, offset) = (record.partition(), record.offset());
            let Some(partition) = self.partitions.get_mut(&number) else { continue };
            if offset >= partition.end {
                partition.position = partition.end;
                continue;
            }
            partition.position = offset + 1;
            let is_handled = partition.progress.is_handled(offset);
            let message = message(&record);
            return Ok(Some(Found {
                message,
                is_handled,
                handle: Handle::Record { partition: number, offset },
            }));
        }
    }

    pub fn keep(&mut self, number: i32, offset: i64) {
        if let Some(partition) = self.partitions.get_mut(&number)
            && !partition.progress.is_handled(offset)
        {
            partition.progress.open.insert(offset);
            partition.progress.end = partition.progress.end.max(offset + 1);
        }
    }

    /// Commits that the letter is handled.
    pub fn handled(&mut self, number: i32, offset: i64) -> Result<(), Failure> {
        let Some(partition) = self.partitions.get_mut(&number) else { return Ok(()) };
        partition.progress.open.remove(&offset);
        partition.progress.end = partition.progress.end.max(offset + 1);
        let (offset, text) = partition.progress.encode();
        if text.len() > METADATA_MAX {
            return Err(Failure::unavailable(
                "the letters that stay are too scattered to be recorded beside a committed offset",
                "use a filter that selects more letters, or another --group for this filter",
            ));
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, number);
        if let Some(mut element) = list.find_partition(&self.topic, number) {
            element.set_metadata(&text);
            element.set_offset(Offset::Offset(offset)).map_err(|error| failure(&self.place, &error))?;
        }
        let Some(fence) = &self.fence else { return Err(not_alone(&self.group)) };
        tokio::task::block_in_place(|| fence.commit(&list)).map_err(|error| {
            Failure::unavailable(
                format!("Kafka does not record a handled letter: {error}"),
                "stop other members of the group, or name another one with --group; one item may be there twice",
            )
        })
    }
}

fn group_name(topic: &str, group: Option<&str>) -> String {
    group.map_or_else(|| format!("longhaul-dead-letter-{topic}"), str::to_owned)
}

fn not_alone(group: &str) -> Failure {
    Failure::usage(format!("this command only looks at the letters of {group}"), "use redrive or purge")
}

fn partitions(
    client: &Client,
    place: &Kafka,
    topic: &str,
    numbers: &[i32],
    group: &str,
    from_start: bool,
) -> Result<(BTreeMap<i32, Partition>, u64), Failure> {
    let mut list = TopicPartitionList::new();
    for number in numbers {
        list.add_partition(topic, *number);
    }
    let (mut partitions, mut total) = (BTreeMap::new(), 0);
    let mut assignment = TopicPartitionList::new();
    for found in positions(client, list).map_err(|error| failure(place, &error))? {
        let number = found.partition;
        let (low, end) = found.bounds.map_err(|error| failure(place, &error))?;
        let progress = match found.committed {
            Some(offset) => Progress::decode(offset, &found.metadata).ok_or_else(|| {
                Failure::usage(
                    format!("the group {group} has offsets that another program committed"),
                    "name another group with --group",
                )
            })?,
            None => Progress::default(),
        };
        // Offsets of a deleted and re-created topic mean nothing in the new log.
        let progress = if progress.end > end { Progress::default() } else { progress };
        let first = progress.open.first().copied().unwrap_or(progress.end);
        let start = if from_start { low } else { first.clamp(low, end.max(low)) };
        total += u64::try_from(end - start).unwrap_or(0);
        if start < end {
            let offset = Offset::Offset(start);
            assignment.add_partition_offset(topic, number, offset).map_err(|error| failure(place, &error))?;
        }
        let end = end.max(start);
        partitions.insert(number, Partition { end, position: start, progress });
    }
    client.assign(&assignment).map_err(|error| failure(place, &error))?;
    Ok((partitions, total))
}

fn message(record: &rdkafka::message::BorrowedMessage<'_>) -> Message {
    let value =
        |bytes: Option<&[u8]>| bytes.map_or(Value::Null, |bytes| Value::Bytes(Bytes::copy_from_slice(bytes)));
    let headers = record
        .headers()
        .map(|headers| headers.iter().map(|header| (header.key.to_owned(), value(header.value))).collect());
    Message {
        body: record.payload().map(Bytes::copy_from_slice).unwrap_or_default(),
        headers: headers.unwrap_or_default(),
        origin: Origin::Kafka(KafkaOrigin {
            topic: record.topic().to_owned(),
            partition: record.partition(),
            offset: record.offset(),
            key: record.key().map(Bytes::copy_from_slice),
            is_null: record.payload().is_none(),
            timestamp: record.timestamp().to_millis(),
            incarnation: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_survives_its_text() {
        for (end, open) in [(0, vec![]), (7, vec![]), (20, vec![5, 6, 7, 12, 19]), (3, vec![0])] {
            let progress = Progress { end, open: open.into_iter().collect() };
            let (offset, text) = progress.encode();
            assert_eq!(Progress::decode(offset, &text), Some(progress.clone()), "{text}");
        }
        assert_eq!(
            Progress { end: 20, open: [5, 6, 12].into() }.encode(),
            (5, "longhaul 1 20 5-6,12".to_owned())
        );
        for foreign in ["x", "longhaul 1 20", "longhaul 1 20 30", "longhaul 1 20 7-5", "longhaul 1 a 5"] {
            assert_eq!(Progress::decode(5, foreign), None, "{foreign}");
        }
    }
}
