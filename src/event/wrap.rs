//! Attributes for messages that are no CloudEvents: those of Knative's own sources.
//!
//! RabbitmqSource: `pkg/rabbit/message.go`; KafkaSource: `InvalidCloudEventInterceptor.java`. A workload that moves
//! over from them sees the same events.

use std::time::SystemTime;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use cloudevents::AttributesWriter;
use cloudevents::event::{EventBuilder, EventBuilderV10};
use cloudevents::message::Result;

use super::decode::Parts;
use super::message::{KafkaOrigin, Message, Origin, RabbitmqOrigin, Value};
use super::{media_type, own};

/// Wraps plain messages of one pipeline.
#[derive(Clone, Debug)]
pub(super) struct Wrapper {
    pub namespace: String,
    pub name: String,
    /// Attribute `type`, where the configuration names one; likewise the next two.
    pub kind: Option<String>,
    pub source: Option<String>,
    pub subject: Option<String>,
}

impl Wrapper {
    /// `fresh_id` names an item that came with no id.
    pub fn wrap(&self, message: &Message, fresh_id: &dyn Fn() -> String) -> Result<Parts> {
        let id = id(message, fresh_id);
        let (kind, subject, time, content_type) = match &message.origin {
            Origin::Rabbitmq(origin) => {
                let content_type = origin.properties.content_type.clone();
                ("dev.knative.rabbitmq.event", id.clone(), rabbitmq_time(origin), content_type)
            }
            Origin::Kafka(origin) => {
                let subject = format!("partition:{}#{}", origin.partition, origin.offset);
                ("dev.knative.kafka.event", subject, kafka_time(origin), kafka_content_type(message))
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

    /// Attribute `source`: the configured one, or the one of Knative's source of this kind.
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

/// Attribute `id`: `message_id`, else the id that we gave the item before, else the record's place, else a fresh one.
/// What is parked or rewritten carries that one in our header (G5).
fn id(message: &Message, fresh_id: &dyn Fn() -> String) -> String {
    let named = match &message.origin {
        Origin::Rabbitmq(origin) => origin.properties.message_id.as_deref().filter(|id| !id.is_empty()),
        Origin::Kafka(_) => None,
    };
    let given = || message.header(own::ID).and_then(Value::as_text).filter(|id| !id.is_empty());
    if let Some(id) = named.or_else(given) {
        return id.to_owned();
    }
    match &message.origin {
        Origin::Rabbitmq(_) => fresh_id(),
        Origin::Kafka(origin) => format!("partition:{}/offset:{}", origin.partition, origin.offset),
    }
}

/// The message's time, or now, as RabbitmqSource does.
fn rabbitmq_time(origin: &RabbitmqOrigin) -> Option<DateTime<Utc>> {
    let seconds = origin.properties.timestamp.and_then(|seconds| i64::try_from(seconds).ok());
    let given = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    given.or_else(|| Some(DateTime::from(SystemTime::now())))
}

fn kafka_time(origin: &KafkaOrigin) -> Option<DateTime<Utc>> {
    origin.timestamp.and_then(DateTime::from_timestamp_millis)
}

/// The last `content-type` header, in lower case as KafkaSource has it.
fn kafka_content_type(message: &Message) -> Option<String> {
    let mut named =
        message.headers.iter().rev().filter(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    named.next().and_then(|(_, value)| lossy(value)).map(|text| text.to_ascii_lowercase())
}

/// The key as `partitionkey` and `key`, each other header as `kafkaheader…`. Attributes are text, so bytes that are
/// not UTF-8 become U+FFFD, as they do in KafkaSource. A header without a value sets nothing (it breaks KafkaSource).
fn kafka_extensions(
    mut builder: EventBuilderV10,
    origin: &KafkaOrigin,
    headers: &[(String, Value)],
) -> EventBuilderV10 {
    if let Some(key) = &origin.key {
        let key = String::from_utf8_lossy(key);
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

/// What was labelled as a CloudEvent and is none gets a plain label: a worker would take the body for an event
/// (HTTP binding 1.0.2, section 3), fail to read it and never see the attributes in the headers.
fn plain_content_type(content_type: String, body: &Bytes) -> String {
    if !media_type::claims_cloudevents(&content_type) {
        return content_type;
    }
    let json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    if json { "application/json" } else { "application/octet-stream" }.to_owned()
}
