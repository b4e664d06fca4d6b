//! What an item becomes when it failed for good: itself, with headers that say why.
//!
//! To a broker the body is the original one and not the event made of it, so that a redrive needs to undo nothing. A
//! service gets the event, as Knative's deadLetterSink does. The `knativeerror*` names are those of Knative's dead
//! letter events, for consumers that know them already.

use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::Value as Json;

use super::{Broker, Outgoing, PublishError, Publisher, http, is_delivery_count};
use crate::delivery::Reason;
use crate::event::{EncodedEvent, KafkaOrigin, Message, Origin, Properties, Value, own};

mod original;
mod restore;

use original::Original;
pub use restore::{Place, RestoreError, Restored, restore};

/// What of the item the target has no other place for.
const ORIGINAL_HEADER: &str = "longhaul-original";

/// Bytes of the worker's answer that go along, counted before they are encoded; Knative's own bound.
const DATA_BYTES: usize = 1024;

/// Characters of the line for people; headers must fit into one frame of the broker.
const DETAIL_CHARS: usize = 1024;

/// Where a pipeline's dead letters go.
#[derive(Clone)]
pub enum Target {
    Broker(Broker, Arc<dyn Publisher>),
    Http(Arc<http::Client>),
}

/// An item that failed for good, and what is known of its failure.
#[derive(Clone, Debug)]
pub struct Letter {
    pub message: Arc<Message>,
    /// The CloudEvent's id in every attempt.
    pub event_id: String,
    pub reason: Reason,
    /// Status of the last answer, where there was one.
    pub code: Option<u16>,
    /// One line for people about the last attempt.
    pub detail: String,
    /// The beginning of the last answer's body.
    pub data: Bytes,
    /// Attempts made, in all processes.
    pub attempts: u32,
    /// The address that the requests went to; no secret in it.
    pub destination: String,
    pub time: SystemTime,
}

impl Target {
    /// Writes the letter and returns only when it is confirmed. `event` makes the CloudEvent that the worker got, for
    /// targets that want one.
    ///
    /// # Errors
    /// When the write is not confirmed, as [`Publisher::publish`] has it.
    pub async fn write(
        &self,
        letter: &Letter,
        event: impl FnOnce() -> Result<EncodedEvent, String>,
    ) -> Result<(), PublishError> {
        let client = match self {
            Target::Broker(broker, publisher) => return publisher.publish(letter.outgoing(*broker)).await,
            Target::Http(client) => client,
        };
        let extended = event()
            .and_then(|event| event.with_extensions(&letter.extensions()).map_err(|error| error.to_string()));
        let (headers, body) = extended.map_err(|error| {
            PublishError::impossible(format!("no CloudEvent can be made of the dead letter: {error}"))
        })?;
        client.post(headers, body).await
    }
}

impl Letter {
    /// The message to write to a broker. [`restore()`] undoes it.
    pub fn outgoing(&self, broker: Broker) -> Outgoing {
        let mut headers: Vec<(String, Value)> =
            self.message.headers.iter().filter(|(name, _)| !is_ours(name)).cloned().collect();
        headers.extend(self.about());
        let original = Original::of(&self.message, broker).to_header();
        headers.extend(original.map(|json| (ORIGINAL_HEADER.to_owned(), Value::Text(json))));
        let (key, properties) = match &self.message.origin {
            // A dead letter waits until a person looks at it, so it must not expire.
            Origin::Rabbitmq(origin) => (None, Properties { expiration: None, ..origin.properties.clone() }),
            Origin::Kafka(origin) => (origin.key.clone(), kafka_properties(origin)),
        };
        let is_null = matches!(&self.message.origin, Origin::Kafka(origin) if origin.is_null);
        Outgoing { body: self.message.body.clone(), is_null, headers, key, properties }
    }

    fn about(&self) -> Vec<(String, Value)> {
        let text = |name: &str, value: String| (name.to_owned(), Value::Text(value));
        let mut about = vec![
            text(own::ID, self.event_id.clone()),
            (own::ATTEMPTS.to_owned(), Value::Int(self.attempts.into())),
            text(own::ORIGIN, origin(&self.message.origin)),
            text("longhaul-reason", self.reason.to_string()),
            text("longhaul-time", time(self.time)),
            text("longhaul-detail", self.detail.chars().take(DETAIL_CHARS).collect()),
            text("knativeerrordest", self.destination.clone()),
        ];
        if let Some(code) = self.code {
            about.push(("longhaul-code".to_owned(), Value::Int(code.into())));
            about.push(("knativeerrorcode".to_owned(), Value::Int(code.into())));
        }
        about.extend(self.error_data().map(|data| text("knativeerrordata", data)));
        about
    }

    /// What the event gets besides its own attributes.
    fn extensions(&self) -> Vec<(&'static str, Json)> {
        let mut extensions = vec![
            ("longhaulattempts", self.attempts.into()),
            ("longhaulorigin", origin(&self.message.origin).into()),
            ("longhaulreason", self.reason.to_string().into()),
            ("knativeerrordest", self.destination.as_str().into()),
        ];
        extensions.extend(self.code.map(|code| ("knativeerrorcode", code.into())));
        extensions.extend(self.error_data().map(|data| ("knativeerrordata", data.into())));
        extensions
    }

    /// The beginning of the worker's answer in base64, which is how Knative sends it.
    fn error_data(&self) -> Option<String> {
        let data = &self.data[..self.data.len().min(DATA_BYTES)];
        (!data.is_empty()).then(|| BASE64_STANDARD.encode(data))
    }
}

/// Headers of an earlier failure, which this one replaces, and the broker's counts of deliveries.
fn is_ours(name: &str) -> bool {
    if is_delivery_count(name) {
        return true;
    }
    let name = name.to_ascii_lowercase();
    name.starts_with(own::PREFIX)
        || matches!(name.as_str(), "knativeerrordest" | "knativeerrorcode" | "knativeerrordata")
}

fn kafka_properties(origin: &KafkaOrigin) -> Properties {
    let timestamp = origin.timestamp.and_then(|millis| u64::try_from(millis / 1000).ok());
    Properties { timestamp, ..Properties::default() }
}

/// Where the item came from, as a path from the broker's kind downwards.
fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Rabbitmq(origin) => format!("rabbitmq/{}", origin.queue),
        Origin::Kafka(KafkaOrigin { topic, partition, offset, .. }) => {
            format!("kafka/{topic}/{partition}/{offset}")
        }
    }
}

/// RFC 3339, to the millisecond; a clock beyond the calendar is no reason to lose a letter.
fn time(time: SystemTime) -> String {
    let timestamp = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{timestamp:.3}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::RabbitmqOrigin;

    fn letter(origin: Origin, headers: Vec<(String, Value)>) -> Letter {
        Letter {
            message: Arc::new(Message { body: "body".into(), headers, origin }),
            event_id: "event-7".to_owned(),
            reason: Reason::Attempts,
            code: Some(502),
            detail: "bad gateway".to_owned(),
            data: vec![b'x'; 2000].into(),
            attempts: 5,
            destination: "http://thumbs".to_owned(),
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
        }
    }

    fn header<'a>(outgoing: &'a Outgoing, name: &str) -> Vec<&'a Value> {
        outgoing.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect()
    }

    #[test]
    fn keeps_the_item_and_says_why() {
        let properties = Properties {
            message_id: Some("m".into()),
            expiration: Some("1000".into()),
            ..Properties::default()
        };
        let origin = RabbitmqOrigin { queue: "thumbs".into(), properties, ..Default::default() };
        let headers = vec![
            ("shop".to_owned(), Value::Bytes(vec![0xff].into())),
            ("Longhaul-Reason".to_owned(), Value::Text("rejected".into())),
            ("x-delivery-count".to_owned(), Value::Int(7)),
        ];
        let outgoing = letter(Origin::Rabbitmq(origin), headers).outgoing(Broker::Rabbitmq);
        assert_eq!(outgoing.body, "body");
        assert_eq!(outgoing.properties.message_id.as_deref(), Some("m"));
        assert_eq!(outgoing.properties.expiration, None);
        let wanted = [
            ("shop", Value::Bytes(vec![0xff].into())),
            ("longhaul-id", Value::Text("event-7".into())),
            ("longhaul-attempts", Value::Int(5)),
            ("longhaul-origin", Value::Text("rabbitmq/thumbs".into())),
            ("longhaul-reason", Value::Text("attempts".into())),
            ("longhaul-code", Value::Int(502)),
            ("longhaul-time", Value::Text("1970-01-01T00:00:01.500Z".into())),
            ("longhaul-detail", Value::Text("bad gateway".into())),
            ("longhaul-original", Value::Text(r#"{"properties":{"expiration":"1000"}}"#.into())),
            ("knativeerrordest", Value::Text("http://thumbs".into())),
            ("knativeerrorcode", Value::Int(502)),
            ("knativeerrordata", Value::Text(BASE64_STANDARD.encode([b'x'; 1024]))),
        ];
        assert_eq!(outgoing.headers.len(), wanted.len(), "{:?}", outgoing.headers);
        for (name, value) in &wanted {
            assert_eq!(header(&outgoing, name), [value], "{name}");
        }
    }

    #[test]
    fn a_kafka_record_keeps_its_key_and_time() {
        let key = Some(Bytes::from("key"));
        let origin = KafkaOrigin {
            topic: "t".into(),
            partition: 2,
            offset: 9,
            key: key.clone(),
            timestamp: Some(7_999),
            ..KafkaOrigin::default()
        };
        let outgoing = letter(Origin::Kafka(origin), Vec::new()).outgoing(Broker::Kafka);
        assert_eq!((outgoing.key.clone(), outgoing.properties.timestamp), (key, Some(7)));
        assert_eq!(header(&outgoing, "longhaul-origin"), [&Value::Text("kafka/t/2/9".into())]);
    }
}
