//! Makes a delivery of a Kafka record. Everything is copied: a borrowed record keeps its whole
//! fetch response in librdkafka's memory, and ours are held for hours.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::metadata::Log;
use crate::config::types::Order;
use crate::connect::kafka::notice::Record;
use crate::delivery::{DeliveryId, Digest, Epoch, Identity, LogId, OrderKey, Outline};
use crate::event::{KafkaOrigin, Message, Origin, Value};
use crate::source::{Assignment, Delivery};

/// The session in which a record arrived.
#[derive(Clone, Debug)]
pub struct Place {
    pub topic: Arc<str>,
    pub partition: i32,
    pub log: Log,
    pub epoch: Epoch,
    pub order: Order,
}

impl Place {
    /// `committed` is the offset that the group has committed.
    pub fn assignment(&self, committed: i64) -> Assignment {
        Assignment {
            epoch: self.epoch,
            log: LogId(self.log.id),
            topic: self.topic.clone(),
            partition: self.partition,
            committed,
        }
    }

    /// Returns the name of a record in logs and problems.
    pub fn id(&self, offset: i64) -> String {
        format!("{}/{}/{offset}", self.topic, self.partition)
    }

    pub fn delivery(&self, record: &Record<'_>, attempts_before: u32) -> Delivery {
        let offset = record.offset;
        let origin = KafkaOrigin {
            topic: self.topic.to_string(),
            partition: self.partition,
            offset,
            key: record.key.map(Bytes::copy_from_slice),
            timestamp: record.timestamp,
            is_null: record.payload.is_none(),
            incarnation: self.incarnation(),
        };
        let body = record.payload.map(Bytes::copy_from_slice).unwrap_or_default();
        let message = Message { body, headers: headers(record), origin: Origin::Kafka(origin) };
        let order_key = self.order_key(record.key);
        self.deliver(offset, message, content(record), order_key, attempts_before)
    }

    /// The item that stands for the records from `first` to `last`, which cannot be decoded. Its
    /// body describes them, because librdkafka does not give their bytes.
    pub fn undecodable(&self, first: i64, last: i64, reason: &str, attempts_before: u32) -> Delivery {
        let about = serde_json::json!({
            "topic": &*self.topic,
            "partition": self.partition,
            "first_offset": first,
            "last_offset": last,
            "error": reason,
            "note": "these records can't be decoded; their bytes are in the topic only, for as long as it keeps them",
        });
        let origin = KafkaOrigin {
            topic: self.topic.to_string(),
            partition: self.partition,
            offset: first,
            incarnation: self.incarnation(),
            ..KafkaOrigin::default()
        };
        let json = Value::Bytes(Bytes::from_static(b"application/json"));
        let message = Message {
            body: about.to_string().into(),
            headers: vec![("content-type".to_owned(), json)],
            origin: Origin::Kafka(origin),
        };
        // The text of the error may differ from one try to the next.
        let content = digest(&Sha256::new().chain_update(b"undecodable").chain_update(last.to_be_bytes()));
        let mut delivery = self.deliver(first, message, content, None, attempts_before);
        delivery.outline.undecodable = true;
        delivery
    }

    /// The event ids of a topic's only log are those of Knative's source; a later log needs others.
    fn incarnation(&self) -> Option<String> {
        self.log.is_replacement.then(|| format!("{:08x}", self.log.id >> 96))
    }

    fn deliver(
        &self,
        offset: i64,
        message: Message,
        content: Digest,
        order_key: Option<OrderKey>,
        attempts_before: u32,
    ) -> Delivery {
        let outline = Outline {
            near_limit: false,
            ask_peers: false,
            shared: false,
            undecodable: false,
            id: DeliveryId { epoch: self.epoch, tag: offset.unsigned_abs() },
            identity: Identity::Record {
                log: LogId(self.log.id),
                topic: self.topic.clone(),
                partition: self.partition,
                offset,
                content,
            },
            redelivered: false,
            attempts_before,
            body_bytes: message.body.len() as u64,
            kept_bytes: message.kept_bytes() as u64,
            order_key,
        };
        Delivery { outline, message: Arc::new(message) }
    }

    fn order_key(&self, key: Option<&[u8]>) -> Option<OrderKey> {
        let key = match self.order {
            Order::None => return None,
            Order::Partition => &[],
            Order::Key => key?,
        };
        let mut hasher = Sha256::new();
        hasher.update(self.topic.as_bytes());
        // A topic's name has no NUL, so different (topic, partition, key) give different bytes.
        hasher.update([0]);
        hasher.update(self.partition.to_be_bytes());
        hasher.update(key);
        let digest = hasher.finalize();
        let (half, _) = digest.split_first_chunk::<16>()?;
        Some(OrderKey(u128::from_be_bytes(*half)))
    }
}

fn headers(record: &Record<'_>) -> Vec<(String, Value)> {
    let value = |value: &Option<&[u8]>| {
        value.map_or(Value::Null, |bytes| Value::Bytes(Bytes::copy_from_slice(bytes)))
    };
    record.headers.iter().map(|(name, bytes)| (name.clone(), value(bytes))).collect()
}

/// Distinguishes records at the same place in two logs that cannot be told apart. The length
/// precedes each part, so that different records never give the same bytes.
fn content(record: &Record<'_>) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(record.timestamp.unwrap_or(i64::MIN).to_be_bytes());
    for part in [record.key, record.payload] {
        hasher.update(part.map_or(u64::MAX, |bytes| bytes.len() as u64).to_be_bytes());
        hasher.update(part.unwrap_or_default());
    }
    digest(&hasher)
}

/// Half of the hash.
fn digest(hasher: &Sha256) -> Digest {
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.clone().finalize()[..16]);
    Digest(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(topic: &str, partition: i32, order: Order, key: Option<&[u8]>) -> Option<OrderKey> {
        Place { topic: topic.into(), partition, log: Log::default(), epoch: Epoch(1), order }.order_key(key)
    }

    #[test]
    fn orders_as_configured() {
        assert_eq!(key("t", 0, Order::None, Some(b"a")), None);
        assert_eq!(key("t", 0, Order::Key, None), None);
        assert_eq!(key("t", 0, Order::Key, Some(b"a")), key("t", 0, Order::Key, Some(b"a")));
        assert_eq!(key("t", 0, Order::Partition, Some(b"a")), key("t", 0, Order::Partition, None));
        let different = [
            key("t", 0, Order::Key, Some(b"a")),
            key("t", 0, Order::Key, Some(b"b")),
            key("t", 1, Order::Key, Some(b"a")),
            key("u", 0, Order::Key, Some(b"a")),
        ];
        for (index, one) in different.iter().enumerate() {
            assert!(different[..index].iter().all(|other| other != one));
        }
    }

    fn record<'a>(key: Option<&'a [u8]>, payload: Option<&'a [u8]>, timestamp: Option<i64>) -> Record<'a> {
        Record { topic: "t", partition: 0, offset: 5, key, payload, timestamp, headers: Vec::new() }
    }

    #[test]
    fn records_that_differ_have_different_contents() {
        let all = [
            record(None, None, None),
            record(None, Some(b""), None),
            record(Some(b""), None, None),
            record(Some(b"a"), Some(b"b"), None),
            record(Some(b"ab"), Some(b""), None),
            record(Some(b"a"), Some(b"b"), Some(0)),
        ];
        for (index, one) in all.iter().enumerate() {
            assert_eq!(content(one), content(one));
            assert!(all[..index].iter().all(|other| content(other) != content(one)), "{index}");
        }
    }

    /// Keys and headers of any size count as well as the body.
    #[test]
    fn everything_that_is_kept_counts() {
        let place = Place {
            topic: "t".into(),
            partition: 0,
            log: Log { id: 7 << 96 | 1, is_replacement: true },
            epoch: Epoch(1),
            order: Order::None,
        };
        let (key, value) = (vec![0; 900_000], vec![0; 1000]);
        let mut large = record(Some(&key), Some(b"body"), None);
        large.headers.push(("name".into(), Some(&value)));
        let delivery = place.delivery(&large, 2);
        assert_eq!(delivery.outline.body_bytes, 4);
        let Origin::Kafka(origin) = &delivery.message.origin else { panic!("not from Kafka") };
        assert_eq!((origin.incarnation.as_deref(), origin.is_null), (Some("00000007"), false));
        assert!(delivery.outline.kept_bytes > 901_000, "{}", delivery.outline.kept_bytes);
        assert!(
            matches!(delivery.outline.identity, Identity::Record { log: LogId(log), offset: 5, .. } if log == 7 << 96 | 1),
            "{:?}",
            delivery.outline.identity
        );
    }
}
