//! Confirmed writes to a Kafka topic: acks from all in-sync replicas, idempotent, bounded in number,
//! bytes and time.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use super::{Outgoing, PublishError};
use crate::connect;
use crate::connect::kafka::Cluster;
use crate::event::Value;

/// How long a write may take in all, librdkafka's own retries included.
const TIMEOUT: Duration = Duration::from_secs(30);
/// librdkafka answers within [`TIMEOUT`]; should it not, this ends the wait.
const PATIENCE: Duration = Duration::from_secs(40);

/// Writes to one topic. Cheap to share; connects at the first write and again for ever.
pub struct Publisher {
    config: ClientConfig,
    topic: String,
    /// Replaced after a fatal error, which an idempotent producer does not survive.
    producer: Mutex<Arc<Producer>>,
}

type Producer = FutureProducer<Logging>;

struct Logging;

impl Publisher {
    /// # Errors
    /// When an option is wrong. Nothing is connected yet.
    pub fn new(cluster: &Cluster, topic: &str) -> Result<Self, PublishError> {
        let defaults = [
            ("compression.type", "none".to_owned()),
            ("linger.ms", "1".to_owned()),
            ("queue.buffering.max.messages", "10000".to_owned()),
            ("queue.buffering.max.kbytes", "131072".to_owned()),
            // The broker's limit is the one that counts.
            ("message.max.bytes", "100000000".to_owned()),
            // A missing topic is told soon, not after 30 s, and found soon once it is there, not after 5 min.
            ("topic.metadata.propagation.max.ms", "5000".to_owned()),
            ("topic.metadata.refresh.interval.ms", "5000".to_owned()),
        ];
        let owned = [
            ("acks", "all".to_owned()),
            ("enable.idempotence", "true".to_owned()),
            ("message.timeout.ms", TIMEOUT.as_millis().to_string()),
        ];
        let config = cluster.client(&defaults, &owned);
        let producer = Mutex::new(Arc::new(create(&config)?));
        Ok(Publisher { config, topic: topic.to_owned(), producer })
    }

    async fn write(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        let producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let headers = headers(&outgoing.headers);
        let mut record = FutureRecord::<[u8], [u8]>::to(&self.topic).payload(&outgoing.body).headers(headers);
        if let Some(key) = &outgoing.key {
            record = record.key(key);
        }
        let result = match producer.send_result(record) {
            Err((error, _)) => Err(error),
            Ok(confirmed) => match tokio::time::timeout(PATIENCE, confirmed).await {
                Ok(Ok(delivered)) => delivered.map(drop).map_err(|(error, _)| error),
                // The producer was dropped under way, or did not keep its own limit.
                Ok(Err(_)) | Err(_) => Err(KafkaError::MessageProduction(Code::MessageTimedOut)),
            },
        };
        result.map_err(|error| {
            self.replace_if_fatal(&producer);
            describe(&self.topic, outgoing.body.len(), &error)
        })
    }

    fn replace_if_fatal(&self, used: &Arc<Producer>) {
        let Some((_, reason)) = used.client().fatal_error() else { return };
        let mut current = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, used) {
            return;
        }
        tracing::warn!(error = %reason, topic = %self.topic, "kafka producer can't go on and is replaced");
        match create(&self.config) {
            Ok(producer) => *current = Arc::new(producer),
            Err(error) => tracing::error!(%error, topic = %self.topic, "kafka producer can't be replaced"),
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
}

fn create(config: &ClientConfig) -> Result<Producer, PublishError> {
    config
        .create_with_context(Logging)
        .map_err(|error| PublishError::impossible(connect::kafka::creation_error(&error)))
}

/// Kafka's header values are bytes: text and bytes go as they are, numbers as decimal text, and what has
/// no plain text (lists, tables) as its debug text, which loses nothing that a person would look for.
fn headers(headers: &[(String, Value)]) -> OwnedHeaders {
    let start = OwnedHeaders::new_with_capacity(headers.len());
    headers.iter().fold(start, |all, (name, value)| {
        let text;
        let value = match value {
            Value::Null => None,
            Value::Text(text) => Some(text.as_bytes()),
            Value::Bytes(bytes) => Some(bytes.as_ref()),
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
        other => format!("{other:?}"),
    }
}

fn describe(topic: &str, bytes: usize, error: &KafkaError) -> PublishError {
    let code = error.rdkafka_error_code();
    let (what, transient) = match code {
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => {
            (format!("{bytes} bytes are more than kafka topic {topic} takes (max.message.bytes)"), false)
        }
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
            (format!("kafka topic {topic} does not exist; create it"), true)
        }
        Some(Code::InvalidTopic) => (format!("kafka topic {topic} can't exist: the name is invalid"), false),
        Some(Code::TopicAuthorizationFailed) => {
            (format!("this user may not write to kafka topic {topic}"), true)
        }
        Some(Code::QueueFull) => (format!("too many unconfirmed writes to kafka topic {topic}"), true),
        Some(Code::MessageTimedOut) => {
            (format!("kafka did not confirm a write to topic {topic} within {} s", TIMEOUT.as_secs()), true)
        }
        _ => (format!("write to kafka topic {topic} failed: {error}"), true),
    };
    if transient { PublishError::transient(what) } else { PublishError::impossible(what) }
}

impl ClientContext for Logging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        connect::kafka::log(level as i32, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Whoever writes is told by the write.
        tracing::debug!(%error, reason, "kafka producer reports an error");
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
    fn only_what_can_never_be_written_is_permanent() {
        let permanent = |code| !describe("t", 5, &KafkaError::MessageProduction(code)).is_transient();
        assert!(permanent(Code::MessageSizeTooLarge) && permanent(Code::InvalidTopic));
        assert!(!permanent(Code::UnknownTopic) && !permanent(Code::MessageTimedOut));
    }
}
