//! An item's bytes and headers as the broker handed them over, free of any broker's types.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::own;

/// One message, whole. Sources make it, `event` encodes it, `publish` writes it anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub body: Bytes,
    /// In the order in which the broker gave them; a Kafka record may repeat a name.
    pub headers: Vec<(String, Value)>,
    pub origin: Origin,
}

/// Where a message came from, with the facts that only this kind of broker has.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a message lives behind an `Arc` and is never moved by value")]
pub enum Origin {
    Rabbitmq(RabbitmqOrigin),
    Kafka(KafkaOrigin),
}

/// A RabbitMQ delivery's envelope and its basic properties.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RabbitmqOrigin {
    pub queue: String,
    pub exchange: String,
    pub routing_key: String,
    pub properties: Properties,
}

/// The AMQP 0-9-1 basic properties, headers apart. Names as in the specification; `kind` is `type`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Properties {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub delivery_mode: Option<u8>,
    pub priority: Option<u8>,
    pub correlation_id: Option<String>,
    pub reply_to: Option<String>,
    pub expiration: Option<String>,
    pub message_id: Option<String>,
    /// Seconds since the Unix epoch.
    pub timestamp: Option<u64>,
    pub kind: Option<String>,
    pub user_id: Option<String>,
    pub app_id: Option<String>,
    pub cluster_id: Option<String>,
}

/// A Kafka record's position, key and time.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaOrigin {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Bytes>,
    /// Milliseconds since the Unix epoch.
    pub timestamp: Option<i64>,
}

/// A header's value. Kafka has only `Bytes` and `Null`; AMQP's number types meet in `Int` and `Float`.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Bytes),
    /// Seconds since the Unix epoch.
    Timestamp(u64),
    List(Vec<Value>),
    Table(Vec<(String, Value)>),
}

impl Value {
    /// The value as text where it is text, or bytes that are UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

impl Message {
    /// The first header of this name, compared without regard to case.
    pub fn header(&self, name: &str) -> Option<&Value> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }

    /// One of our own headers, where it says something of this very item: its name, its count of attempts. A dead letter
    /// (`longhaul-origin`) and a reply (`longhaul-reply`) tell of another item, and two of them may tell of the same one. A
    /// copy of either is an item with a name again.
    pub fn own_header(&self, name: &str) -> Option<&Value> {
        let has = |name: &str| self.header(name).is_some();
        let tells_of_another = (has(own::ORIGIN) || has(own::REPLY)) && !has(own::COPY);
        self.header(name).filter(|_| !tells_of_another)
    }
}
