//! Checks the bytes on the wire for each kind of message. The SDK reads documents back, as a second
//! opinion.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::HeaderMap;

use super::*;
use crate::config::{self, Mode};

mod binary;
mod generated;
mod knative;
mod odd;
mod structured;

fn settings(mode: Mode) -> Settings {
    Settings {
        namespace: "jobs".to_owned(),
        name: "thumbnails".to_owned(),
        mode,
        event: config::Event::default(),
        overrides: Overrides::default(),
    }
}

/// Encodes with default settings and makes the first attempt.
fn send(mode: Mode, message: &Message) -> (HeaderMap, Bytes) {
    let encoder = Encoder::new(settings(mode)).unwrap();
    encoder.encode(message).unwrap().for_attempt(&AttemptExtensions::new(1, Redelivered(false)))
}

/// Returns every header as text. A test that compares all of them notices a header that should not
/// have left.
fn all(headers: &HeaderMap) -> BTreeMap<String, String> {
    let pairs = headers.iter();
    pairs.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
}

fn texts<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn headers<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, Value)> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), Value::Text(value.to_owned()))).collect()
}

fn rabbitmq(headers: Vec<(String, Value)>, properties: Properties, body: &str) -> Message {
    let origin = RabbitmqOrigin { queue: "thumbs".to_owned(), properties, ..RabbitmqOrigin::default() };
    Message { body: Bytes::copy_from_slice(body.as_bytes()), headers, origin: Origin::Rabbitmq(origin) }
}

fn kafka(headers: Vec<(String, Value)>, body: &str) -> Message {
    let origin = KafkaOrigin {
        topic: "thumbs".to_owned(),
        partition: 3,
        offset: 42,
        timestamp: Some(1_700_000_000_123),
        ..KafkaOrigin::default()
    };
    Message { body: Bytes::copy_from_slice(body.as_bytes()), headers, origin: Origin::Kafka(origin) }
}

fn of_type(content_type: &str) -> Properties {
    Properties { content_type: Some(content_type.to_owned()), ..Properties::default() }
}
