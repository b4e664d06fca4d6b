//! Confirmed writes: dead letters and replies. Nothing counts as written before the broker says so.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::event::{Properties, Value};

pub mod copy;
pub mod dead_letter;
pub mod http;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod rabbitmq;
pub mod reply;

/// Writes a message somewhere and returns only when it is confirmed there.
pub trait Publisher: Send + Sync + 'static {
    /// # Errors
    /// When the write is not confirmed. The message may have been written all the same; the caller
    /// keeps the item and may write it again.
    fn publish(
        &self,
        outgoing: Outgoing,
    ) -> Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send + '_>>;

    /// Checks that the target exists and accepts writes, without a write of an item.
    ///
    /// # Errors
    /// When a write would fail now, with the reason.
    fn probe(&self) -> Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send + '_>> {
        Box::pin(async { Ok(()) })
    }
}

/// The kind of broker that is written to. Each has other places for attributes, types and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broker {
    Rabbitmq,
    Kafka,
}

/// A message to write, free of any broker's types.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outgoing {
    pub body: Bytes,
    /// A Kafka record without a value (a tombstone); `body` is then empty.
    pub is_null: bool,
    pub headers: Vec<(String, Value)>,
    /// The Kafka record key; RabbitMQ has none.
    pub key: Option<Bytes>,
    /// The AMQP properties; Kafka keeps only what it has a place for.
    pub properties: Properties,
}

/// The broker's own counts of deliveries, which would be taken for counts of the queue that a message is written to.
fn is_delivery_count(name: &str) -> bool {
    ["x-delivery-count", "x-acquired-count"].iter().any(|count| name.eq_ignore_ascii_case(count))
}

/// Why a write was not confirmed.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct PublishError {
    pub what: String,
    pub kind: PublishErrorKind,
}

/// Whether another write of the same message can succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishErrorKind {
    /// A later write may succeed: the target is away, full or missing.
    Transient,
    /// The target never accepts a message of this size. A smaller one may fit.
    TooLarge,
    /// The target never accepts this message, because of a part other than its size.
    Impossible,
}

impl PublishError {
    pub fn transient(what: impl Into<String>) -> Self {
        PublishError { what: what.into(), kind: PublishErrorKind::Transient }
    }

    pub fn too_large(what: impl Into<String>) -> Self {
        PublishError { what: what.into(), kind: PublishErrorKind::TooLarge }
    }

    pub fn impossible(what: impl Into<String>) -> Self {
        PublishError { what: what.into(), kind: PublishErrorKind::Impossible }
    }

    pub fn is_transient(&self) -> bool {
        self.kind == PublishErrorKind::Transient
    }
}
