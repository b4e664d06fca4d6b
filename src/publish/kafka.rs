//! Confirmed writes to a Kafka topic: acks from all in-sync replicas, idempotent, bounded in
//! number, bytes and time.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use super::{Outgoing, PublishError};
use crate::connect;
use crate::connect::kafka::{Cluster, Logging};
use crate::event::{Exact, Value};

/// How long a write may take in all, librdkafka's own retries included.
const TIMEOUT: Duration = Duration::from_secs(30);
/// librdkafka answers within [`TIMEOUT`]. If it does not, this ends the wait.
const PATIENCE: Duration = Duration::from_secs(40);

/// How long each of the two questions of a probe may take.
const PROBE: Duration = Duration::from_secs(3);

/// Writes to one topic. It is cheap to clone, connects at the first write, and reconnects without
/// end.
pub struct Publisher {
    topic: String,
    /// The producer. It is replaced after a fatal error, which an idempotent producer does not
    /// survive, and after a change of the credentials.
    current: Mutex<Current>,
}

struct Current {
    cluster: Cluster,
    producer: Arc<Producer>,
}

type Producer = FutureProducer<Logging>;

impl Publisher {
    /// Makes a publisher without a connection.
    ///
    /// # Errors
    /// An option is wrong.
    pub fn new(cluster: &Cluster, topic: &str) -> Result<Self, PublishError> {
        let producer = Arc::new(create(cluster)?);
        let current = Mutex::new(Current { cluster: cluster.clone(), producer });
        Ok(Publisher { topic: topic.to_owned(), current })
    }

    fn producer(&self) -> Arc<Producer> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).producer.clone()
    }

    async fn write(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        let producer = self.producer();
        let headers = headers(&outgoing.headers);
        let mut record = FutureRecord::<[u8], [u8]>::to(&self.topic).headers(headers);
        if !outgoing.is_null {
            record = record.payload(&outgoing.body);
        }
        if let Some(key) = &outgoing.key {
            record = record.key(key);
        }
        let result = match producer.send_result(record) {
            Err((error, _)) => Err(error),
            Ok(confirmed) => match tokio::time::timeout(PATIENCE, confirmed).await {
                Ok(Ok(delivered)) => delivered.map(drop).map_err(|(error, _)| error),
                // The producer was dropped meanwhile, or did not keep its own limit.
                Ok(Err(_)) | Err(_) => Err(KafkaError::MessageProduction(Code::MessageTimedOut)),
            },
        };
        let Err(error) = result else { return Ok(()) };
        let described = describe(&self.topic, size(&outgoing), &error);
        if described.is_transient() {
            self.replace_if_needed(&producer);
        }
        Err(described)
    }

    /// Asks whether the topic exists, has a leader for each partition, and may be written by this
    /// user.
    async fn ask(&self) -> Result<(), PublishError> {
        let (producer, topic) = (self.producer(), self.topic.clone());
        let asked = Arc::clone(&producer);
        let asking = tokio::task::spawn_blocking(move || look(&asked, &topic));
        let problem = match asking.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => return Err(PublishError::transient("the question for the topic was given up")),
        };
        self.replace_if_needed(&producer);
        Err(match problem.rdkafka_error_code() {
            Some(Code::OperationTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown) => {
                PublishError::transient(format!("kafka does not answer for topic {}: {problem}", self.topic))
            }
            _ => describe(&self.topic, 0, &problem),
        })
    }

    fn replace_if_needed(&self, used: &Arc<Producer>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current.producer, used) {
            return;
        }
        let cluster = current.cluster.current();
        let reason = match used.client().fatal_error() {
            Some((_, reason)) => reason,
            None if cluster.options != current.cluster.options => "the options have changed".to_owned(),
            None => return,
        };
        tracing::warn!(reason, topic = %self.topic, "Kafka producer is replaced");
        match create(&cluster) {
            Ok(producer) => *current = Current { cluster, producer: Arc::new(producer) },
            Err(error) => tracing::error!(%error, topic = %self.topic, "Kafka producer can't be replaced"),
        }
    }
}

impl super::Publisher for Publisher {
    fn publish(
        &self,
        outgoing: Outgoing,
    ) -> Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send + '_>> {
        Box::pin(self.write(outgoing))
    }

    fn probe(&self) -> Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send + '_>> {
        Box::pin(self.ask())
    }
}

/// What a write to this topic would fail with. Blocks.
fn look(producer: &Producer, topic: &str) -> Result<(), KafkaError> {
    let metadata = producer.client().fetch_metadata(Some(topic), PROBE)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let Some(found) = found.filter(|found| found.error().is_some() || !found.partitions().is_empty()) else {
        return Err(KafkaError::MetadataFetch(Code::UnknownTopicOrPartition));
    };
    let errors = found.partitions().iter().map(|partition| partition.error());
    if let Some(code) = std::iter::once(found.error()).chain(errors).flatten().next() {
        return Err(KafkaError::MetadataFetch(code.into()));
    }
    // Metadata needs the permission to Describe only.
    let Some(mut question) = connect::kafka::raw::Question::new(producer.client()) else { return Ok(()) };
    let broker = metadata.brokers().first().map(|broker| broker.id());
    question.ask_topics(producer.client(), broker, std::iter::once(topic), PROBE);
    let told = question.topics(PROBE).unwrap_or_default();
    match told.iter().find(|told| told.name == topic).and_then(|told| told.writable) {
        Some(false) => Err(KafkaError::MetadataFetch(Code::TopicAuthorizationFailed)),
        Some(true) | None => Ok(()),
    }
}

fn create(cluster: &Cluster) -> Result<Producer, PublishError> {
    let defaults = [
        ("compression.type", "none".to_owned()),
        ("linger.ms", "1".to_owned()),
        ("queue.buffering.max.messages", "10000".to_owned()),
        ("queue.buffering.max.kbytes", "131072".to_owned()),
        // Only the broker's limit should count.
        ("message.max.bytes", "100000000".to_owned()),
        // A missing topic is reported within 5 s and not 30 s, and is found soon after its creation
        // and not after 5 min.
        ("topic.metadata.propagation.max.ms", "5000".to_owned()),
        ("topic.metadata.refresh.interval.ms", "5000".to_owned()),
    ];
    let owned = [
        ("acks", "all".to_owned()),
        ("enable.idempotence", "true".to_owned()),
        ("message.timeout.ms", TIMEOUT.as_millis().to_string()),
        // A topic's max.message.bytes limits a batch, not a message: a message that fits alone must
        // not be refused because of its neighbours.
        ("batch.num.messages", "1".to_owned()),
    ];
    cluster
        .client(&defaults, &owned)
        .create_with_context(Logging)
        .map_err(|error| PublishError::impossible(connect::kafka::creation_error(&error)))
}

/// Returns the bytes that count against the topic's limit, without the overhead of a record.
fn size(outgoing: &Outgoing) -> usize {
    let header = |(name, value): &(String, Value)| name.len() + value.as_text().map_or(0, str::len);
    let headers: usize = outgoing.headers.iter().map(header).sum();
    outgoing.body.len() + outgoing.key.as_ref().map_or(0, |key| key.len()) + headers
}

/// Converts headers to Kafka's bytes: text and bytes unchanged, numbers as decimal text. Lists and
/// tables become their debug text, which loses nothing that a person would look for.
fn headers(headers: &[(String, Value)]) -> OwnedHeaders {
    let start = OwnedHeaders::new_with_capacity(headers.len());
    headers.iter().fold(start, |all, (name, value)| {
        let text;
        let value = match value {
            Value::Null => None,
            Value::Text(text) => Some(text.as_bytes()),
            Value::Bytes(bytes) | Value::Exact(Exact::LongString(bytes)) => Some(bytes.as_ref()),
            other => {
                text = plain(other);
                Some(text.as_bytes())
            }
        };
        all.insert(Header { key: name, value })
    })
}

fn plain(value: &Value) -> String {
    match value {
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Timestamp(seconds) => seconds.to_string(),
        Value::Exact(exact) => plain(&exact.widened()),
        other => format!("{other:?}"),
    }
}

fn describe(topic: &str, bytes: usize, error: &KafkaError) -> PublishError {
    let not_taken = |what: String| PublishError::not_taken(what);
    match error.rdkafka_error_code() {
        Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize) => {
            PublishError::too_large(format!(
                "{bytes} bytes are more than kafka topic {topic} takes (max.message.bytes)"
            ))
        }
        Some(Code::InvalidTopic) => {
            PublishError::impossible(format!("kafka topic {topic} can't exist: the name is invalid"))
        }
        Some(Code::InvalidRecord) => PublishError::impossible(format!(
            "kafka topic {topic} refuses the record: {error} (a compacted topic takes records with a key only)"
        )),
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
            PublishError::missing(format!("kafka topic {topic} does not exist; create it"))
        }
        Some(Code::TopicAuthorizationFailed) => {
            not_taken(format!("this user may not write to kafka topic {topic}"))
        }
        Some(Code::QueueFull) => not_taken(format!("too many unconfirmed writes to kafka topic {topic}")),
        Some(Code::MessageTimedOut) => PublishError::transient(format!(
            "kafka did not confirm a write to topic {topic} within {} s",
            TIMEOUT.as_secs()
        )),
        _ => PublishError::transient(format!("write to kafka topic {topic} failed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_text() {
        assert_eq!(plain(&Value::Int(-5)), "-5");
        assert_eq!(plain(&Value::Float(0.5)), "0.5");
        assert_eq!(plain(&Value::Bool(true)), "true");
        assert_eq!(plain(&Value::Timestamp(1_700_000_000)), "1700000000");
    }

    #[test]
    fn kinds_of_refusals() {
        use super::super::PublishErrorKind::{Impossible, TooLarge, Transient};
        for (code, kind) in [
            (Code::MessageSizeTooLarge, TooLarge),
            (Code::MessageBatchTooLarge, TooLarge),
            (Code::InvalidTopic, Impossible),
            (Code::InvalidRecord, Impossible),
            (Code::UnknownTopic, Transient),
            (Code::MessageTimedOut, Transient),
            (Code::TopicAuthorizationFailed, Transient),
        ] {
            assert_eq!(describe("t", 5, &KafkaError::MessageProduction(code)).kind, kind, "{code}");
        }
    }
}
