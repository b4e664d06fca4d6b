//! Gives messages that are not CloudEvents the attributes of Knative's own sources.
//!
//! RabbitmqSource: `pkg/rabbit/message.go`; KafkaSource: `InvalidCloudEventInterceptor.java`. A
//! workload that moves over from them sees the same events.

use std::time::SystemTime;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use cloudevents::AttributesWriter;
use cloudevents::event::{EventBuilder, EventBuilderV10};
use cloudevents::message::Result;

use super::decode::{Parts, shown};
use super::message::{KafkaOrigin, Message, Origin, RabbitmqOrigin, Value};
use super::{key, media_type, own, time};
use crate::config;

/// Wraps plain messages of one pipeline.
#[derive(Clone, Debug)]
pub(super) struct Wrapper {
    pub namespace: String,
    pub name: String,
    /// The configured attribute `type`, if there is one; the next two fields likewise.
    pub kind: Option<String>,
    pub source: Option<String>,
    pub subject: Option<String>,
    pub id: Option<config::EventId>,
}

/// The longest id that is taken from a part of a message, in bytes.
const ID_MAX: usize = 255;

impl Wrapper {
    /// Wraps a message. `fresh_id` names an item that came without an id.
    pub fn wrap(&self, message: &Message, fresh_id: &dyn Fn() -> String) -> Result<Parts> {
        let id = self.id(message, fresh_id);
        let (kind, subject, time, content_type) = match &message.origin {
            Origin::Rabbitmq(origin) => {
                let content_type = origin.properties.content_type.clone();
                ("dev.knative.rabbitmq.event", id.clone(), rabbitmq_time(message, origin, &id), content_type)
            }
            Origin::Kafka(origin) => {
                let subject = format!("partition:{}#{}", origin.partition, origin.offset);
                ("dev.knative.kafka.event", subject, record_time(message, &id), kafka_content_type(message))
            }
        };
        let mut builder = EventBuilderV10::new()
            .id(id)
            .source(self.source(message))
            .ty(self.kind.as_deref().unwrap_or(kind))
            .subject(self.subject.clone().unwrap_or(subject));
        if let Some(time) = time {
            builder = builder.time(time);
        }
        if let Origin::Kafka(origin) = &message.origin {
            builder = kafka_extensions(builder, origin, &message.headers);
        }
        let mut event = builder.build()?;
        if let Some(content_type) = content_type.filter(|text| !text.is_empty()) {
            event.set_datacontenttype(Some(plain_content_type(content_type, &message.body)));
        }
        Ok(Parts { event, data: message.body.clone() })
    }

    /// Returns attribute `id`: the part that `event.id` names, else `message_id`, else the id that
    /// longhaul gave the item before, else the record's place, else a fresh one. A parked or
    /// rewritten item carries its id in our header (guarantee G5).
    ///
    /// The place is unique under the default `source`, which names the topic. A configured `source`
    /// need not name it, so then the topic becomes a part of the id. So does the log of a topic
    /// that was created again.
    pub fn id(&self, message: &Message, fresh_id: &dyn Fn() -> String) -> String {
        if let Some(id) = self.id.as_ref().and_then(|id| configured_id(id, message)) {
            return id;
        }
        let named = match &message.origin {
            Origin::Rabbitmq(origin) => origin.properties.message_id.as_deref().filter(|id| !id.is_empty()),
            Origin::Kafka(_) => None,
        };
        let given = || message.header(own::ID).and_then(Value::as_text).filter(|id| !id.is_empty());
        if let Some(id) = named.or_else(given) {
            return id.to_owned();
        }
        let Origin::Kafka(origin) = &message.origin else { return fresh_id() };
        let topic = self.source.as_ref().map(|_| format!("topic:{}/", origin.topic)).unwrap_or_default();
        let log = origin.incarnation.as_ref().map(|log| format!("log:{log}/")).unwrap_or_default();
        format!("{topic}{log}partition:{}/offset:{}", origin.partition, origin.offset)
    }

    /// Returns attribute `source`: the configured one, or the one of Knative's source for this
    /// broker.
    pub fn source(&self, message: &Message) -> String {
        if let Some(source) = &self.source {
            return source.clone();
        }
        let (plural, place) = match &message.origin {
            Origin::Rabbitmq(origin) => ("rabbitmqsources", &origin.queue),
            Origin::Kafka(origin) => ("kafkasources", &origin.topic),
        };
        format!("/apis/v1/namespaces/{}/{plural}/{}#{place}", self.namespace, self.name)
    }
}

/// The id in the part of the message that `event.id` names. A text that cannot be an id counts as
/// absent, so that one odd message costs no other one.
fn configured_id(id: &config::EventId, message: &Message) -> Option<String> {
    let is_id =
        |text: &String| !text.is_empty() && text.len() <= ID_MAX && !text.chars().any(char::is_control);
    let header = id.header.as_ref().and_then(|name| message.header(name)?.plain());
    header.filter(is_id).or_else(|| {
        let pointer = id.json.as_ref()?;
        let json: serde_json::Value = serde_json::from_slice(&message.body).ok()?;
        match json.pointer(pointer)? {
            serde_json::Value::String(text) => Some(text.clone()).filter(is_id),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    })
}

/// Returns the message's time, or the present one, as in RabbitmqSource; `None` for a number that
/// is not a time.
fn rabbitmq_time(message: &Message, origin: &RabbitmqOrigin, id: &str) -> Option<DateTime<Utc>> {
    match origin.properties.timestamp {
        _ if message.record_time().is_some() => record_time(message, id),
        None => Some(DateTime::from(SystemTime::now())),
        Some(number) => time::from_unix(number).or_else(|| without_time(id, number)),
    }
}

fn record_time(message: &Message, id: &str) -> Option<DateTime<Utc>> {
    let number = message.record_time()?;
    time::from_unix_millis(number).or_else(|| without_time(id, number))
}

fn without_time(id: &str, value: impl std::fmt::Display) -> Option<DateTime<Utc>> {
    tracing::warn!(
        id = shown(id),
        attribute = "time",
        %value,
        "The event is sent without one of its attributes: the message's timestamp is not a time"
    );
    None
}

/// Returns the last `content-type` header, in lower case as in KafkaSource.
fn kafka_content_type(message: &Message) -> Option<String> {
    let mut named =
        message.headers.iter().rev().filter(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    named.next().and_then(|(_, value)| lossy(value)).map(|text| text.to_ascii_lowercase())
}

/// Returns the key as `partitionkey` and `key`, and each other header as `kafkaheader…`. Attributes
/// are text: bytes of a header that are not UTF-8 become U+FFFD, as in KafkaSource. A header
/// without a value sets nothing (it breaks KafkaSource).
fn kafka_extensions(
    mut builder: EventBuilderV10,
    origin: &KafkaOrigin,
    headers: &[(String, Value)],
) -> EventBuilderV10 {
    if let Some(key) = &origin.key {
        let key = key::to_text(key);
        builder = builder.extension("partitionkey", &*key).extension("key", &*key);
    }
    for (name, value) in headers {
        if name.eq_ignore_ascii_case("content-type") || name.starts_with(own::PREFIX) {
            continue;
        }
        if let Some(text) = lossy(value) {
            let kept = name.chars().flat_map(char::to_lowercase).filter(char::is_ascii_alphanumeric);
            let extension: String = "kafkaheader".chars().chain(kept).collect();
            builder = builder.extension(&extension, text);
        }
    }
    builder
}

fn lossy(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}

/// Replaces a content type that labels a plain body as a CloudEvent by mistake. A worker would take
/// the body for an event (HTTP binding 1.0.2, section 3), fail to read it, and never see the
/// attributes in the headers.
fn plain_content_type(content_type: String, body: &Bytes) -> String {
    if !media_type::claims_cloudevents(&content_type) {
        return content_type;
    }
    let json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    if json { "application/json" } else { "application/octet-stream" }.to_owned()
}
