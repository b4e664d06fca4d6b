//! What a dead letter says: the item as it was, and why it was given up.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::Outgoing;
use crate::delivery::Reason;
use crate::event::{Message, Origin, Value};

/// How much of the worker's answer goes along, in bytes before the encoding (as Knative's sources do).
const DATA_BYTES: usize = 1024;

/// An item that failed for good.
#[derive(Clone, Debug)]
pub struct Letter {
    pub message: Arc<Message>,
    /// The CloudEvent's id, the same at every attempt.
    pub event_id: String,
    pub reason: Reason,
    /// The last attempt's status, where there was an answer.
    pub code: Option<u16>,
    /// The last attempt's ending in words.
    pub detail: String,
    /// The last answer's body.
    pub data: Bytes,
    /// Runs of the worker that were made.
    pub attempts: u32,
    /// The sink's address.
    pub destination: String,
    pub time: SystemTime,
}

impl Letter {
    /// The original body, headers and properties, with our own headers (product section 4) and Knative's
    /// `knativeerror*` extensions added. Those of an earlier death are replaced.
    pub fn into_outgoing(self) -> Outgoing {
        let added = self.added();
        let is_added = |name: &str| added.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        let mut headers: Vec<(String, Value)> =
            self.message.headers.iter().filter(|(name, _)| !is_added(name)).cloned().collect();
        headers.extend(added);
        let (key, properties) = match &self.message.origin {
            Origin::Rabbitmq(origin) => (None, origin.properties.clone()),
            Origin::Kafka(origin) => (origin.key.clone(), Default::default()),
        };
        Outgoing { body: self.message.body.clone(), headers, key, properties }
    }

    fn added(&self) -> Vec<(String, Value)> {
        let text = |name: &str, value: String| (name.to_owned(), Value::Text(value));
        let seconds = self.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut added = vec![
            text("longhaul-id", self.event_id.clone()),
            ("longhaul-attempts".to_owned(), Value::Int(i64::from(self.attempts))),
            text("longhaul-origin", origin(&self.message.origin)),
            text("longhaul-reason", self.reason.to_string()),
            ("longhaul-time".to_owned(), Value::Int(i64::try_from(seconds).unwrap_or(i64::MAX))),
            text("knativeerrordest", self.destination.clone()),
        ];
        if let Some(code) = self.code {
            added.push(("longhaul-code".to_owned(), Value::Int(i64::from(code))));
            added.push(("knativeerrorcode".to_owned(), Value::Int(i64::from(code))));
        }
        let data = if self.data.is_empty() { self.detail.as_bytes() } else { &self.data };
        added.push(text("knativeerrordata", STANDARD.encode(&data[..data.len().min(DATA_BYTES)])));
        added
    }
}

/// Where the item was taken from: what a redrive needs to put it back.
fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Rabbitmq(origin) => format!("rabbitmq:{}", origin.queue),
        Origin::Kafka(origin) => format!("kafka:{}/{}/{}", origin.topic, origin.partition, origin.offset),
    }
}
