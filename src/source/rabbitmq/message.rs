//! Converts lapin's delivery: it makes the complete message and the identity of the item.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::limit::Limit;
use crate::connect::rabbitmq::{Connection, readable, table};
use crate::delivery::{self, DeliveryId, Epoch, Identity, Mark, Outline};
use crate::event::{Exact, Message, Origin, Properties, Value, own};
use crate::source::Delivery;

/// Reads the deliveries of one session.
pub(super) struct Reader {
    epoch: Epoch,
    queue: String,
    limit: Limit,
    /// The identity of the queue: cluster, virtual host and name. It is part of each item's
    /// identity.
    prefix: Sha256,
}

impl Reader {
    pub(super) fn new(epoch: Epoch, queue: &str, limit: Limit, connection: &Connection) -> Self {
        let cluster = connection.server().cluster_name.unwrap_or_default();
        Reader::of([&cluster, connection.virtual_host(), queue], epoch, limit)
    }

    fn of(place: [&str; 3], epoch: Epoch, limit: Limit) -> Self {
        let mut digest = Fields(Sha256::new());
        place.iter().for_each(|part| digest.bytes(part.as_bytes()));
        Reader { epoch, queue: place[2].to_owned(), limit, prefix: digest.0 }
    }

    /// Converts a delivery. The session sets `shared`, because it knows the other consumers.
    pub(super) fn delivery(&self, from: lapin::message::Delivery) -> Delivery {
        let (tag, redelivered) = (from.delivery_tag, from.redelivered);
        let message = table::message(&self.queue, from);
        let identity = self.identity(&message);
        if let Some(places) = message.header(readable::UNREADABLE) {
            let (id, places) = (identity.to_string(), places.as_text().unwrap_or_default());
            tracing::warn!(
                queue = self.queue,
                item = id,
                tag,
                places,
                "Message has parts that are not UTF-8 or are nested too deep; their bytes are encoded"
            );
        }
        let outline = Outline {
            id: DeliveryId { epoch: self.epoch, tag },
            redelivered,
            attempts_before: attempts_before(&message),
            body_bytes: message.body.len() as u64,
            kept_bytes: message.kept_bytes() as u64,
            order_key: None,
            near_limit: self.limit.is_near(returns(&message)),
            // Another replica may have had this item before, or may have the original of a copy.
            // The bridge knows whether there are replicas to ask.
            ask_peers: redelivered || identity.is_unique(),
            shared: false,
            undecodable: false,
            identity,
        };
        Delivery { outline, message: Arc::new(message) }
    }

    /// Returns the mark of a copy that the bridge wrote, and a digest of all parts that the broker
    /// hands over unchanged each time.
    ///
    /// A `message_id` or a `longhaul-id` is part of the digest. It is not an identity by itself,
    /// because producers need not keep it unique.
    fn identity(&self, message: &Message) -> Identity {
        let mark = message.own_header(own::COPY).and_then(Value::as_text).and_then(Mark::parse);
        let content = self.content(message, mark.is_some());
        match mark {
            Some(mark) => Identity::Copy { mark, content },
            None => Identity::Content(content),
        }
    }

    /// A copy has the digest of its original.
    fn content(&self, message: &Message, is_copy: bool) -> delivery::Digest {
        let mut digest = Fields(self.prefix.clone());
        digest.bytes(&message.body);
        if let Origin::Rabbitmq(origin) = &message.origin {
            digest.properties(&origin.properties);
        }
        // These headers are the copy's own name and the original's name. The copy keeps the latter
        // in a header of its own.
        let (id, ignored) = if is_copy { (own::COPIED_ID, own::ID) } else { (own::ID, "") };
        digest.value(message.header(id).unwrap_or(&Value::Null));
        // The same holds for a header that looks like a checkpoint of ours.
        let checkpoint = if is_copy { own::COPIED_CHECKPOINT } else { own::CHECKPOINT };
        message.header(checkpoint).into_iter().for_each(|value| digest.value(value));
        for (name, value) in &message.headers {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            // The broker writes the `x-` headers. They hold counts and histories, which change with
            // each delivery.
            let is_brokers = name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("x-"));
            // `CC` and `BCC` are orders to the broker. A copy does not repeat them.
            let is_order = matches!(name.as_str(), "CC" | "BCC");
            if !is_brokers
                && !is_order
                && ![id, ignored, own::ATTEMPTS, own::COPY, own::SEAL].into_iter().any(is)
                && ![checkpoint, own::CHECKPOINT].into_iter().any(is)
            {
                digest.bytes(name.as_bytes());
                digest.value(value);
            }
        }
        let mut id = [0; 16];
        id.copy_from_slice(&digest.0.finalize()[..16]);
        delivery::Digest(id)
    }
}

/// Returns the attempts made before. Our own count survives a trip through another queue. The
/// broker's count includes every return, so it is only an upper bound.
fn attempts_before(message: &Message) -> u32 {
    let is_copy = message.header(own::COPY).and_then(Value::as_text).and_then(Mark::parse).is_some();
    let ours = if is_copy { message.own_header(own::ATTEMPTS) } else { None };
    let count = ours.or_else(|| message.header("x-delivery-count")).and_then(Value::number);
    count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
}

/// Returns how often the item went back to the queue, if the queue counts returns. From RabbitMQ
/// 4.3 on, a lost connection counts and a returned delivery does not.
fn returns(message: &Message) -> u32 {
    let count = message.header("x-delivery-count").and_then(Value::as_int);
    count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
}

/// Returns a number for the type.
fn exact(value: &Exact) -> u8 {
    match value {
        Exact::Int8(_) => 0,
        Exact::UInt8(_) => 1,
        Exact::Int16(_) => 2,
        Exact::UInt16(_) => 3,
        Exact::Int32(_) => 4,
        Exact::UInt32(_) => 5,
        Exact::Float32(_) => 6,
        // Two numbers with different scales can have the same value.
        Exact::Decimal { scale, .. } => 64u8.wrapping_add(*scale),
        Exact::LongString(_) => 7,
    }
}

/// Hashes each field with its kind and its length, so that two different lists of fields have
/// different inputs.
struct Fields(Sha256);

impl Fields {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn properties(&mut self, properties: &Properties) {
        // The digest omits the expiration, which a broker may remove, and the properties that a
        // copy cannot keep.
        let texts = [
            &properties.message_id,
            &properties.content_type,
            &properties.content_encoding,
            &properties.correlation_id,
            &properties.kind,
            &properties.app_id,
            &properties.reply_to,
            &properties.cluster_id,
        ];
        for text in texts {
            self.0.update([u8::from(text.is_some())]);
            self.bytes(text.as_deref().unwrap_or_default().as_bytes());
        }
        self.0.update([u8::from(properties.timestamp.is_some())]);
        self.0.update(properties.timestamp.unwrap_or_default().to_be_bytes());
        self.0.update([u8::from(properties.priority.is_some()), properties.priority.unwrap_or_default()]);
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
            Value::Exact(it) => {
                self.0.update([9, exact(it)]);
                self.value(&it.widened());
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
