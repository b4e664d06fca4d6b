//! From lapin's delivery to ours: the message whole, and what the item is known by.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::limit::Limit;
use crate::connect::rabbitmq::table;
use crate::delivery::{self, DeliveryId, Epoch, Identity, Mark, Outline};
use crate::event::{Message, Origin, Properties, RabbitmqOrigin, Value, own};
use crate::source::Delivery;

pub(super) fn delivery(epoch: Epoch, queue: &str, limit: Limit, from: lapin::message::Delivery) -> Delivery {
    let headers = from.properties.headers().as_ref().map(table::headers).unwrap_or_default();
    let message = Message {
        body: Bytes::from(from.data),
        headers,
        origin: Origin::Rabbitmq(RabbitmqOrigin {
            queue: queue.to_owned(),
            exchange: from.exchange.into(),
            routing_key: from.routing_key.into(),
            properties: table::properties(&from.properties),
        }),
    };
    let identity = identity(&message);
    let outline = Outline {
        id: DeliveryId { epoch, tag: from.delivery_tag },
        redelivered: from.redelivered,
        attempts_before: attempts_before(&message),
        body_bytes: message.body.len() as u64,
        kept_bytes: message.body.len() as u64,
        order_key: None,
        near_limit: limit.is_near(returns(&message)),
        // By whoever had it before, or has what it is a copy of; the bridge knows whether there are others to ask.
        ask_peers: from.redelivered || identity.is_unique(),
        shared: false,
        identity,
    };
    Delivery { outline, message: Arc::new(message) }
}

/// Our own count, which survives a trip through another queue; else the broker's, which counts every return and so is
/// an upper bound only.
fn attempts_before(message: &Message) -> u32 {
    let header = message.own_header(own::ATTEMPTS).or_else(|| message.header("x-delivery-count"));
    match header {
        Some(Value::Int(count)) => u32::try_from(*count).unwrap_or(0),
        Some(value) => value.as_text().and_then(|text| text.parse().ok()).unwrap_or(0),
        None => 0,
    }
}

/// How often the queue took the item back, where it counts that.
fn returns(message: &Message) -> u32 {
    match message.header("x-delivery-count") {
        Some(Value::Int(count)) => u32::try_from(*count).unwrap_or(0),
        _ => 0,
    }
}

/// The mark of a copy that the bridge wrote, and a digest of everything that the broker hands over unchanged
/// each time.
///
/// A `message_id` or a `longhaul-id` is part of the digest and not an identity by itself: producers need not
/// keep them unique.
fn identity(message: &Message) -> Identity {
    let content = content(message);
    let mark = message.own_header(own::COPY).and_then(Value::as_text).and_then(Mark::parse);
    match mark {
        Some(mark) => Identity::Copy { mark, content },
        None => Identity::Content(content),
    }
}

fn content(message: &Message) -> delivery::Digest {
    let mut digest = Fields(Sha256::new());
    digest.bytes(&message.body);
    if let Origin::Rabbitmq(origin) = &message.origin {
        digest.properties(&origin.properties);
    }
    for (name, value) in &message.headers {
        // `x-` headers are the broker's: counts and histories that change with each delivery.
        // The bridge's own headers change when it writes a copy.
        let is_stable =
            |start: &str| !name.get(..start.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(start));
        if is_stable("x-") && is_stable(own::PREFIX) {
            digest.bytes(name.as_bytes());
            digest.value(value);
        }
    }
    let mut id = [0; 16];
    id.copy_from_slice(&digest.0.finalize()[..16]);
    delivery::Digest(id)
}

/// Hashes fields so that no two lists of fields look the same: each with its kind and its length.
struct Fields(Sha256);

impl Fields {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn properties(&mut self, properties: &Properties) {
        // Not the expiration, which a broker may take away, nor what says how a message travelled.
        let texts = [
            &properties.message_id,
            &properties.content_type,
            &properties.content_encoding,
            &properties.correlation_id,
            &properties.kind,
            &properties.app_id,
            &properties.reply_to,
        ];
        for text in texts {
            self.0.update([u8::from(text.is_some())]);
            self.bytes(text.as_deref().unwrap_or_default().as_bytes());
        }
        self.0.update([u8::from(properties.timestamp.is_some())]);
        self.0.update(properties.timestamp.unwrap_or_default().to_be_bytes());
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.0.update([0]),
            Value::Bool(it) => self.0.update([1, u8::from(*it)]),
            Value::Int(it) => self.number(2, it.to_be_bytes()),
            Value::Float(it) => self.number(3, it.to_bits().to_be_bytes()),
            Value::Timestamp(it) => self.number(4, it.to_be_bytes()),
            Value::Text(it) => {
                self.0.update([5]);
                self.bytes(it.as_bytes());
            }
            Value::Bytes(it) => {
                self.0.update([6]);
                self.bytes(it);
            }
            Value::List(it) => {
                self.number(7, (it.len() as u64).to_be_bytes());
                it.iter().for_each(|value| self.value(value));
            }
            Value::Table(it) => {
                self.number(8, (it.len() as u64).to_be_bytes());
                for (name, value) in it {
                    self.bytes(name.as_bytes());
                    self.value(value);
                }
            }
        }
    }

    fn number(&mut self, kind: u8, number: [u8; 8]) {
        self.0.update([kind]);
        self.0.update(number);
    }
}

#[cfg(test)]
mod tests;
