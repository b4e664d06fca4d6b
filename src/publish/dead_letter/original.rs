//! The parts of an item that the target of its dead letter cannot hold, as one header in JSON: the
//! other broker's key, properties and types of headers.
//!
//! The header has only the parts that would be lost, because RabbitMQ's headers must fit into one
//! frame, which the item itself may have filled.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::ser::{Error as _, Serializer};
use serde::{Deserialize, Serialize};

use super::is_ours;
use crate::event::{Exact, Message, Origin, Properties, Value};
use crate::publish::Broker;

/// The members of the header that are needed. A source limits the depth of lists and tables in it
/// to [`crate::event::MAX_DEPTH`]. If a person wrote the header, the JSON parser limits the depth.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Original {
    /// A Kafka key, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whether the Kafka record had no value.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub null: bool,
    /// The Kafka record's time in milliseconds. The letter itself has the time of its write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
    /// AMQP properties: all of them, or those that a RabbitMQ letter cannot have itself.
    #[serde(skip_serializing_if = "is_default", serialize_with = "without_nulls")]
    pub properties: Properties,
    /// All headers, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<(String, Typed)>>,
}

/// A header's value with its type.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Typed {
    Null,
    Bool(bool),
    Int(i64),
    /// The bits of the number: JSON has no infinity and loses digits.
    Float(u64),
    Text(String),
    /// The bytes in base64.
    Bytes(String),
    Timestamp(u64),
    List(Vec<Typed>),
    Table(Vec<(String, Typed)>),
    I8(i8),
    U8(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    /// The bits of the number.
    F32(u32),
    /// The scale and the value.
    Decimal(u8, u32),
    /// In base64.
    LongString(String),
}

impl Original {
    /// Returns the parts of the message that `broker` cannot hold.
    pub fn of(message: &Message, broker: Broker) -> Self {
        let timestamp = message.record_time();
        match (&message.origin, broker) {
            (Origin::Rabbitmq(origin), Broker::Rabbitmq) => {
                let Properties { expiration, user_id, .. } = origin.properties.clone();
                let properties = Properties { expiration, user_id, ..Properties::default() };
                Original { timestamp, properties, ..Original::default() }
            }
            (Origin::Rabbitmq(origin), Broker::Kafka) => {
                let headers = typed_headers(message);
                let headers = Some(headers).filter(|headers| !headers.is_empty());
                Original { timestamp, properties: origin.properties.clone(), headers, ..Original::default() }
            }
            (Origin::Kafka(_), Broker::Kafka) => Original { timestamp, ..Original::default() },
            (Origin::Kafka(origin), Broker::Rabbitmq) => Original {
                key: origin.key.as_ref().map(|key| BASE64_STANDARD.encode(key)),
                null: origin.is_null,
                timestamp,
                properties: Properties::default(),
                headers: (!is_sorted_and_unique(message)).then(|| typed_headers(message)),
            },
        }
    }

    /// Returns the header's value; `None` if the target loses nothing.
    pub fn to_header(&self) -> Option<String> {
        if *self == Original::default() {
            return None;
        }
        // Texts, numbers and lists can always be written as JSON.
        serde_json::to_string(self).ok()
    }
}

/// Whether a table of AMQP can hold the headers: it has each name once and loses the order.
fn is_sorted_and_unique(message: &Message) -> bool {
    message.headers.is_sorted_by(|(before, _), (after, _)| before < after)
}

fn typed_headers(message: &Message) -> Vec<(String, Typed)> {
    let kept = message.headers.iter().filter(|(name, _)| !is_ours(name));
    kept.map(|(name, value)| (name.clone(), Typed::from(value))).collect()
}

/// Leaves out unset properties, since most messages set few.
fn without_nulls<S: Serializer>(properties: &Properties, serializer: S) -> Result<S::Ok, S::Error> {
    let mut json = serde_json::to_value(properties).map_err(S::Error::custom)?;
    if let Some(members) = json.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    json.serialize(serializer)
}

fn is_default(properties: &Properties) -> bool {
    *properties == Properties::default()
}

impl From<&Value> for Typed {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Typed::Null,
            Value::Bool(it) => Typed::Bool(*it),
            Value::Int(it) => Typed::Int(*it),
            Value::Float(it) => Typed::Float(it.to_bits()),
            Value::Text(it) => Typed::Text(it.clone()),
            Value::Bytes(it) => Typed::Bytes(BASE64_STANDARD.encode(it)),
            Value::Timestamp(it) => Typed::Timestamp(*it),
            Value::Exact(it) => it.into(),
            Value::List(it) => Typed::List(it.iter().map(Typed::from).collect()),
            Value::Table(it) => {
                Typed::Table(it.iter().map(|(name, value)| (name.clone(), value.into())).collect())
            }
        }
    }
}

impl From<&Exact> for Typed {
    fn from(value: &Exact) -> Self {
        match value {
            Exact::Int8(it) => Typed::I8(*it),
            Exact::UInt8(it) => Typed::U8(*it),
            Exact::Int16(it) => Typed::I16(*it),
            Exact::UInt16(it) => Typed::U16(*it),
            Exact::Int32(it) => Typed::I32(*it),
            Exact::UInt32(it) => Typed::U32(*it),
            Exact::Float32(it) => Typed::F32(it.to_bits()),
            Exact::Decimal { scale, value } => Typed::Decimal(*scale, *value),
            Exact::LongString(it) => Typed::LongString(BASE64_STANDARD.encode(it)),
        }
    }
}

impl TryFrom<Typed> for Value {
    type Error = base64::DecodeError;

    fn try_from(typed: Typed) -> Result<Self, Self::Error> {
        Ok(match typed {
            Typed::Null => Value::Null,
            Typed::Bool(it) => Value::Bool(it),
            Typed::Int(it) => Value::Int(it),
            Typed::Float(it) => Value::Float(f64::from_bits(it)),
            Typed::Text(it) => Value::Text(it),
            Typed::Bytes(it) => Value::Bytes(BASE64_STANDARD.decode(it)?.into()),
            Typed::Timestamp(it) => Value::Timestamp(it),
            Typed::List(it) => Value::List(it.into_iter().map(Value::try_from).collect::<Result<_, _>>()?),
            Typed::Table(it) => Value::Table(headers(it)?),
            Typed::I8(it) => Value::Exact(Exact::Int8(it)),
            Typed::U8(it) => Value::Exact(Exact::UInt8(it)),
            Typed::I16(it) => Value::Exact(Exact::Int16(it)),
            Typed::U16(it) => Value::Exact(Exact::UInt16(it)),
            Typed::I32(it) => Value::Exact(Exact::Int32(it)),
            Typed::U32(it) => Value::Exact(Exact::UInt32(it)),
            Typed::F32(it) => Value::Exact(Exact::Float32(f32::from_bits(it))),
            Typed::Decimal(scale, value) => Value::Exact(Exact::Decimal { scale, value }),
            Typed::LongString(it) => Value::Exact(Exact::LongString(BASE64_STANDARD.decode(it)?.into())),
        })
    }
}

/// Returns the original headers.
pub(super) fn headers(typed: Vec<(String, Typed)>) -> Result<Vec<(String, Value)>, base64::DecodeError> {
    typed.into_iter().map(|(name, value)| Ok((name, Value::try_from(value)?.bounded()))).collect()
}
