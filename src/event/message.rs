//! An item's bytes and headers as the broker handed them over, without any broker's types.

use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{own, time};

/// The deepest nesting of lists and tables in a header value. Sources replace everything deeper by
/// [`Value::too_deep`], so that a function that walks a value cannot exhaust its stack.
pub const MAX_DEPTH: usize = 32;

/// The allocator's overhead for one piece of memory.
const ALLOCATION: usize = 16;
/// The fixed memory of an event: its own fields, the required attributes and the list of headers.
const EVENT: usize = 1024;
/// The overhead of one attribute in an event.
const ATTRIBUTE: usize = 128;
/// The most bytes of an event's head. An event with a larger one is refused before it is kept.
const ENCODED_HEAD: usize = 64 * 1024;

/// One complete message. Sources make it, `event` encodes it, `publish` writes it again.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub body: Bytes,
    /// The headers in the broker's order. A Kafka record may repeat a name.
    pub headers: Vec<(String, Value)>,
    pub origin: Origin,
}

/// The kind of broker of a message, with the facts that only this kind has.
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

/// The AMQP 0-9-1 basic properties without the headers. The names are the specification's; `kind`
/// is `type`.
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KafkaOrigin {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Bytes>,
    /// Whether the record has no value (a tombstone). The body is then empty.
    pub is_null: bool,
    /// Milliseconds since the Unix epoch.
    pub timestamp: Option<i64>,
    /// The log of a topic that replaced an earlier one of the same name. Offsets repeat in such a
    /// log, so this name becomes a part of the event's id. `None` for the first log, whose ids are
    /// those of Knative's KafkaSource.
    pub incarnation: Option<String>,
}

/// A header's value. Kafka has only `Bytes` and `Null`.
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
    /// A value of another AMQP type, which a copy of the message must keep.
    Exact(Exact),
}

/// A value whose AMQP type is narrower than that of [`Value::Int`], [`Value::Float`] or
/// [`Value::Bytes`].
#[derive(Clone, Debug, PartialEq)]
pub enum Exact {
    Int8(i8),
    UInt8(u8),
    Int16(i16),
    UInt16(u16),
    Int32(i32),
    UInt32(u32),
    Float32(f32),
    /// The number `value` / 10^`scale`.
    Decimal {
        scale: u8,
        value: u32,
    },
    /// A long string that is not UTF-8.
    LongString(Bytes),
}

impl Exact {
    /// Returns the value in the type that every reader knows.
    pub fn widened(&self) -> Value {
        match self {
            Exact::Int8(it) => Value::Int((*it).into()),
            Exact::UInt8(it) => Value::Int((*it).into()),
            Exact::Int16(it) => Value::Int((*it).into()),
            Exact::UInt16(it) => Value::Int((*it).into()),
            Exact::Int32(it) => Value::Int((*it).into()),
            Exact::UInt32(it) => Value::Int((*it).into()),
            Exact::Float32(it) => Value::Float((*it).into()),
            Exact::Decimal { scale, value } => Value::Float(f64::from(*value) / 10f64.powi((*scale).into())),
            Exact::LongString(it) => Value::Bytes(it.clone()),
        }
    }
}

impl Value {
    /// Returns the value, if it is an integer of any width.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(it) => Some(*it),
            Value::Exact(exact) => exact.widened().as_int(),
            _ => None,
        }
    }

    /// Returns the value as text, if it is text or bytes in UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Returns the value as text, if it is text, bytes in UTF-8, or an integer of any width.
    pub fn plain(&self) -> Option<String> {
        let number = || self.as_int().map(|number| number.to_string());
        self.as_text().map(str::to_owned).or_else(number)
    }

    /// Returns the value, if it is an integer of any width, or text with the digits of one.
    pub fn number(&self) -> Option<i64> {
        self.as_int().or_else(|| self.as_text()?.parse().ok())
    }

    /// Returns the replacement of a list or table that is nested deeper than [`MAX_DEPTH`].
    pub fn too_deep() -> Value {
        Value::Text(format!("(left out: nested deeper than {MAX_DEPTH} levels)"))
    }

    /// Returns the value, with [`too_deep`](Self::too_deep) instead of every list and table below
    /// [`MAX_DEPTH`] levels. Neither the work nor the drop of the removed parts recurses deeper
    /// than that.
    #[must_use]
    pub fn bounded(self) -> Value {
        let mut removed = Vec::new();
        let bounded = self.bounded_to(MAX_DEPTH, &mut removed);
        while let Some(value) = removed.pop() {
            match value {
                Value::List(values) => removed.extend(values),
                Value::Table(members) => removed.extend(members.into_iter().map(|(_, value)| value)),
                _ => {}
            }
        }
        bounded
    }

    fn bounded_to(self, depth: usize, removed: &mut Vec<Value>) -> Value {
        match self {
            Value::List(_) | Value::Table(_) if depth == 0 => {
                removed.push(self);
                Value::too_deep()
            }
            Value::List(values) => {
                Value::List(values.into_iter().map(|value| value.bounded_to(depth - 1, removed)).collect())
            }
            Value::Table(members) => {
                let bound = |(name, value): (String, Value)| (name, value.bounded_to(depth - 1, removed));
                Value::Table(members.into_iter().map(bound).collect())
            }
            other => other,
        }
    }

    /// Returns the memory that the value occupies on the heap. Does not recurse.
    fn heap_bytes(&self) -> usize {
        let mut bytes = 0;
        let mut rest = vec![self];
        while let Some(value) = rest.pop() {
            bytes += match value {
                Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Timestamp(_) => 0,
                Value::Text(text) => ALLOCATION + text.capacity(),
                Value::Bytes(bytes) | Value::Exact(Exact::LongString(bytes)) => ALLOCATION + bytes.len(),
                Value::Exact(_) => 0,
                Value::List(values) => {
                    rest.extend(values);
                    ALLOCATION + values.capacity() * size_of::<Value>()
                }
                Value::Table(members) => {
                    rest.extend(members.iter().map(|(_, value)| value));
                    let names: usize = members.iter().map(|(name, _)| ALLOCATION + name.capacity()).sum();
                    ALLOCATION + members.capacity() * size_of::<(String, Value)>() + names
                }
            };
        }
        bytes
    }
}

impl Properties {
    fn heap_bytes(&self) -> usize {
        let texts = [
            &self.content_type,
            &self.content_encoding,
            &self.correlation_id,
            &self.reply_to,
            &self.expiration,
            &self.message_id,
            &self.kind,
            &self.user_id,
            &self.app_id,
            &self.cluster_id,
        ];
        texts.into_iter().flatten().map(|text| ALLOCATION + text.capacity()).sum()
    }
}

impl Message {
    /// Returns the broker's or the producer's timestamp of the message.
    pub fn timestamp(&self) -> Option<SystemTime> {
        let time = match (self.record_time(), &self.origin) {
            (Some(millis), _) => time::from_unix_millis(millis),
            (None, Origin::Rabbitmq(origin)) => time::from_unix(origin.properties.timestamp?),
            (None, Origin::Kafka(_)) => None,
        };
        time.map(SystemTime::from)
    }

    /// Returns the time of the Kafka record in milliseconds since the Unix epoch. An item that was
    /// brought back has the time of its first record.
    pub fn record_time(&self) -> Option<i64> {
        let kept = self.header(own::RECORD_TIME).and_then(Value::number);
        kept.or(match &self.origin {
            Origin::Kafka(origin) => origin.timestamp,
            Origin::Rabbitmq(_) => None,
        })
    }

    /// Estimates the memory of the item while it is in hand: body, key, headers, properties, the
    /// event that is made of them, and the overhead of each.
    pub fn kept_bytes(&self) -> usize {
        let header = |(name, value): &(String, Value)| {
            let own = size_of::<(String, Value)>() + ALLOCATION + name.capacity() + value.heap_bytes();
            own + self.encoded_bytes(name, value)
        };
        let headers: usize = self.headers.iter().map(header).sum();
        let origin = match &self.origin {
            Origin::Rabbitmq(origin) => {
                let names = [&origin.queue, &origin.exchange, &origin.routing_key];
                let names: usize = names.into_iter().map(|name| ALLOCATION + name.capacity()).sum();
                // The properties also become attributes.
                names + 2 * origin.properties.heap_bytes()
            }
            Origin::Kafka(origin) => {
                let key = origin.key.as_ref().map_or(0, Bytes::len);
                // The key becomes two attributes, in which each byte takes at most three
                // characters.
                ALLOCATION + origin.topic.capacity() + key + 2 * key.saturating_mul(3).min(ENCODED_HEAD)
            }
        };
        size_of::<Message>() + ALLOCATION + self.body.len() + headers + origin + EVENT
    }

    /// Returns the size of the part of a header that the event keeps.
    fn encoded_bytes(&self, name: &str, value: &Value) -> usize {
        let is_attribute = match self.origin {
            // Every header of a record becomes an attribute. Of an AMQP message only headers that
            // already are attributes do.
            Origin::Kafka(_) => true,
            Origin::Rabbitmq(_) => {
                matches!(value, Value::Text(_) | Value::Bytes(_) | Value::Exact(Exact::LongString(_)))
            }
        };
        let text = match value {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) | Value::Exact(Exact::LongString(bytes)) => bytes.len(),
            _ => 24,
        };
        if is_attribute { ATTRIBUTE + name.len() + text } else { 0 }
    }

    /// Returns the first header of this name, in either case.
    pub fn header(&self, name: &str) -> Option<&Value> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }

    /// Returns one of longhaul's own headers (the id, or the count of attempts) if it describes
    /// this item. On a dead letter (`longhaul-origin`) and a reply (`longhaul-reply`) these headers
    /// describe another item, and two such messages may describe the same one. A copy of either
    /// describes itself again.
    pub fn own_header(&self, name: &str) -> Option<&Value> {
        let has = |name: &str| self.header(name).is_some();
        let tells_of_another = (has(own::ORIGIN) || has(own::REPLY)) && !has(own::COPY);
        self.header(name).filter(|_| !tells_of_another)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kafka(key: Option<Bytes>, headers: Vec<(String, Value)>) -> Message {
        let origin = KafkaOrigin { topic: "t".into(), key, ..KafkaOrigin::default() };
        Message { body: "body".into(), headers, origin: Origin::Kafka(origin) }
    }

    #[test]
    fn every_part_of_a_message_counts() {
        let empty = kafka(None, Vec::new()).kept_bytes();
        assert!((1024..4096).contains(&empty), "{empty}");
        let key = kafka(Some(vec![0; 900_000].into()), Vec::new()).kept_bytes();
        assert!((900_000..1_200_000).contains(&key), "{key}");
        let headers = (0..1000).map(|number| (number.to_string(), Value::Null)).collect();
        let many = kafka(None, headers).kept_bytes();
        assert!(many > empty + 1000 * 100, "{many}");
        let nested = Value::List(vec![Value::Table(vec![("x".repeat(500), Value::Text("y".repeat(700)))])]);
        assert!(kafka(None, vec![("n".into(), nested)]).kept_bytes() > empty + 1200);
    }

    #[test]
    fn a_value_of_any_depth_is_bounded_and_dropped_on_a_small_stack() {
        let work = || {
            let mut value = Value::Int(7);
            for level in 0..200_000 {
                value = if level % 2 == 0 {
                    Value::List(vec![value])
                } else {
                    Value::Table(vec![("deeper".to_owned(), value)])
                };
            }
            assert!(value.heap_bytes() > 200_000);
            let bounded = value.bounded();
            let (mut depth, mut at) = (0, &bounded);
            loop {
                at = match at {
                    Value::List(values) => &values[0],
                    Value::Table(members) => &members[0].1,
                    other => break assert_eq!((depth, other), (MAX_DEPTH, &Value::too_deep())),
                };
                depth += 1;
            }
            assert_eq!(bounded.clone().bounded(), bounded);
        };
        std::thread::Builder::new().stack_size(128 * 1024).spawn(work).unwrap().join().unwrap();
    }
}
