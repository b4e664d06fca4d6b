//! From a Kafka record to a delivery. Everything is copied: a borrowed record pins its whole fetch
//! response in librdkafka, and ours are held for hours.

use std::sync::Arc;

use bytes::Bytes;
use rdkafka::Message as _;
use rdkafka::message::BorrowedMessage;
use sha2::{Digest, Sha256};

use super::raw;
use crate::config::types::Order;
use crate::delivery::{self, DeliveryId, Epoch, Identity, LogId, OrderKey, Outline};
use crate::event::{KafkaOrigin, Message, Origin, Value};
use crate::source::{Assignment, Delivery};

/// What a record's delivery needs to know of the session it came in.
#[derive(Clone, Debug)]
pub struct Place {
    pub topic: Arc<str>,
    pub partition: i32,
    pub epoch: Epoch,
    pub order: Order,
}

impl Place {
    pub fn assignment(&self) -> Assignment {
        Assignment {
            epoch: self.epoch,
            log: LogId::default(),
            topic: self.topic.clone(),
            partition: self.partition,
        }
    }

    pub fn delivery(&self, record: &BorrowedMessage<'_>, attempts_before: u32) -> Delivery {
        let body = record.payload().map(Bytes::copy_from_slice).unwrap_or_default();
        let offset = record.offset();
        let outline = Outline {
            near_limit: false,
            ask_peers: false,
            shared: false,
            id: DeliveryId { epoch: self.epoch, tag: offset.unsigned_abs() },
            identity: Identity::Record {
                log: LogId::default(),
                topic: self.topic.clone(),
                partition: self.partition,
                offset,
                content: delivery::Digest::default(),
            },
            redelivered: false,
            attempts_before,
            body_bytes: body.len() as u64,
            kept_bytes: body.len() as u64,
            order_key: self.order_key(record.key()),
        };
        let origin = KafkaOrigin {
            topic: self.topic.to_string(),
            partition: self.partition,
            offset,
            key: record.key().map(Bytes::copy_from_slice),
            is_null: record.payload().is_none(),
            timestamp: record.timestamp().to_millis(),
            incarnation: None,
        };
        let message = Message { body, headers: headers(record), origin: Origin::Kafka(origin) };
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
        // A topic's name has no NUL, so no two (topic, partition, key) look alike.
        hasher.update([0]);
        hasher.update(self.partition.to_be_bytes());
        hasher.update(key);
        let digest = hasher.finalize();
        let (half, _) = digest.split_first_chunk::<16>()?;
        Some(OrderKey(u128::from_be_bytes(*half)))
    }
}

fn headers(record: &BorrowedMessage<'_>) -> Vec<(String, Value)> {
    let mut headers = Vec::new();
    raw::for_each_header(record, |name, value| {
        let value = value.map_or(Value::Null, |bytes| Value::Bytes(Bytes::copy_from_slice(bytes)));
        headers.push((name, value));
    });
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(topic: &str, partition: i32, order: Order, key: Option<&[u8]>) -> Option<OrderKey> {
        Place { topic: topic.into(), partition, epoch: Epoch(1), order }.order_key(key)
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
}
