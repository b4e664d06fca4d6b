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
    /// The Kafka record's time in milliseconds since the Unix epoch; None for the time of the write.
    pub timestamp_millis: Option<i64>,
    /// The AMQP properties; Kafka has no place for them.
    pub properties: Properties,
}

/// Headers that RabbitMQ writes on a message that it hands over or dead-letters. Written back, a count would be taken for
/// one of the queue that the message is written to, and a death for a cycle: RabbitMQ then drops the message in silence.
fn is_bookkeeping(name: &str) -> bool {
    const NAMES: [&str; 6] = [
        "x-death",
        "x-delivery-count",
        "x-acquired-count",
        "x-stream-offset",
        "x-opt-deaths",
        "x-opt-acquired-count",
    ];
    const STARTS: [&str; 3] = ["x-first-death-", "x-last-death-", "x-opt-rabbitmq-"];
    let starts = |start: &&str| name.get(..start.len()).is_some_and(|it| it.eq_ignore_ascii_case(start));
    NAMES.iter().any(|its| name.eq_ignore_ascii_case(its)) || STARTS.iter().any(starts)
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
