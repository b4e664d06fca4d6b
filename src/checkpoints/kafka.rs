//! Reads a compacted topic from its beginning to its present end.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::record::Collection;
use crate::connect;
use crate::connect::kafka::{Cluster, Logging};

/// The longest wait for the description of the topic.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Reading is given up after so long without a record.
const SILENCE: Duration = Duration::from_secs(15);
/// The time between two looks whether the answer is still wanted.
const NAP: Duration = Duration::from_millis(100);

/// A topic of checkpoints.
pub struct Reader {
    cluster: Cluster,
    topic: String,
    /// The group of the source. Its members may use this name. The reader does not join it.
    group: String,
}

/// Ends the reading thread when nobody waits for it any more.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Reader {
    pub fn new(cluster: Cluster, topic: &str, group: &str) -> Self {
        Reader { cluster, topic: topic.to_owned(), group: group.to_owned() }
    }
}

impl super::Reader for Reader {
    fn read(
        &self,
        collection: Collection,
    ) -> Pin<Box<dyn Future<Output = Result<Collection, String>> + Send + '_>> {
        let (cluster, topic, group) = (self.cluster.clone(), self.topic.clone(), self.group.clone());
        Box::pin(async move {
            let stop = Stop(Arc::default());
            let is_stopped = Arc::clone(&stop.0);
            let reading =
                tokio::task::spawn_blocking(move || read(&cluster, &topic, &group, collection, &is_stopped));
            let read = reading.await;
            drop(stop);
            read.unwrap_or_else(|_| Err("the reading was given up".to_owned()))
        })
    }
}

fn read(
    cluster: &Cluster,
    topic: &str,
    group: &str,
    mut collection: Collection,
    is_stopped: &AtomicBool,
) -> Result<Collection, String> {
    let consumer = consumer(cluster, group)?;
    let mut open = assign(&consumer, topic)?;
    let mut heard = Instant::now();
    while !open.is_empty() {
        if is_stopped.load(Ordering::Relaxed) {
            return Err("the reading was given up".to_owned());
        }
        match consumer.poll(NAP) {
            Some(Ok(record)) => {
                heard = Instant::now();
                collection.take(record.key().unwrap_or_default(), record.payload());
            }
            Some(Err(KafkaError::PartitionEOF(number))) => {
                heard = Instant::now();
                open.remove(&number);
            }
            Some(Err(error)) if is_final(&error) => return Err(format!("topic {topic}: {error}")),
            Some(Err(_)) | None if heard.elapsed() < SILENCE => {}
            Some(Err(error)) => return Err(format!("topic {topic}: {error}")),
            None => return Err(format!("topic {topic}: no record came for {SILENCE:?}")),
        }
    }
    Ok(collection)
}

fn consumer(cluster: &Cluster, group: &str) -> Result<BaseConsumer<Logging>, String> {
    let owned = [
        ("group.id", group.to_owned()),
        ("enable.auto.commit", "false".to_owned()),
        ("enable.auto.offset.store", "false".to_owned()),
        ("enable.partition.eof", "true".to_owned()),
        ("allow.auto.create.topics", "false".to_owned()),
        // The topic may be large, and only a few of its records are kept.
        ("queued.max.messages.kbytes", "4096".to_owned()),
    ];
    let client = cluster.current().client(&[], &owned).create_with_context(Logging);
    client.map_err(|error| connect::kafka::creation_error(&error))
}

/// Starts to read all partitions of the topic. Returns their numbers.
fn assign(consumer: &BaseConsumer<Logging>, topic: &str) -> Result<HashSet<i32>, String> {
    let metadata = consumer
        .fetch_metadata(Some(topic), ANSWER_TIMEOUT)
        .map_err(|error| format!("kafka does not describe topic {topic}: {error}"))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let found = found.ok_or_else(|| format!("topic {topic} does not exist"))?;
    match found.error().map(Code::from) {
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
            return Err(format!("topic {topic} does not exist"));
        }
        Some(code) => return Err(format!("topic {topic}: {code}")),
        None => {}
    }
    let numbers: HashSet<i32> = found.partitions().iter().map(|partition| partition.id()).collect();
    let mut list = TopicPartitionList::with_capacity(numbers.len());
    for number in &numbers {
        list.add_partition_offset(topic, *number, Offset::Beginning).map_err(|error| error.to_string())?;
    }
    consumer.assign(&list).map_err(|error| error.to_string())?;
    if numbers.is_empty() { Err(format!("topic {topic} does not exist")) } else { Ok(numbers) }
}

/// Whether reading on is of no use.
fn is_final(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::TopicAuthorizationFailed
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::Fatal
        )
    )
}
