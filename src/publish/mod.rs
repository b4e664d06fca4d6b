//! Confirmed writes: dead letters, replies and copies. A message only counts as written after the
//! broker's confirm.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::event::{Properties, Value};

pub mod copy;
pub mod dead_letter;
pub mod hops;
pub mod http;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod rabbitmq;
pub mod reply;

/// A target. It writes a message and returns after the confirm.
pub trait Publisher: Send + Sync + 'static {
    /// Writes a message.
    ///
    /// # Errors
    /// Returns an error if the write is not confirmed. The message may have been written all the
    /// same. The caller keeps the item and may write it again.
    fn publish(
        &self,
        outgoing: Outgoing,
    ) -> Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send + '_>>;

    /// Checks that the target exists and accepts writes, without a write of an item.
    ///
    /// # Errors
    /// Returns the reason why a write would fail now.
    fn probe(&self) -> Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send + '_>> {
        Box::pin(async { Ok(()) })
    }
}

/// The kind of a target's broker. Each kind has other places for attributes, types and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broker {
    Rabbitmq,
    Kafka,
}

/// A message to write, without any types of a broker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outgoing {
    pub body: Bytes,
    /// Whether this is a Kafka record without a value (a tombstone). `body` is then empty.
    pub is_null: bool,
    pub headers: Vec<(String, Value)>,
    /// The key of the Kafka record. RabbitMQ has none.
    pub key: Option<Bytes>,
    /// The AMQP properties. Kafka has no place for them.
    pub properties: Properties,
}

/// Returns whether RabbitMQ writes this header on a message that it hands over or dead-letters. If
/// such a header were written back, RabbitMQ would take its count for the count of the target
/// queue. It would take a death for a cycle, and drop the message silently.
pub fn is_bookkeeping(name: &str) -> bool {
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

/// The reason why a write was not confirmed.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct PublishError {
    pub what: String,
    pub kind: PublishErrorKind,
    /// Whether the target certainly has not written the message. Otherwise it may have written it.
    pub is_unwritten: bool,
    /// Whether the target does not exist.
    pub is_missing: bool,
}

/// Tells whether another write of the same message can succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishErrorKind {
    /// A later write may succeed: the target is unreachable, full or missing.
    Transient,
    /// The target never accepts a message of this size. A smaller one may fit.
    TooLarge,
    /// The target never accepts this message, because of a part other than its size.
    Impossible,
}

impl PublishError {
    fn new(what: impl Into<String>, kind: PublishErrorKind, is_unwritten: bool) -> Self {
        PublishError { what: what.into(), kind, is_unwritten, is_missing: false }
    }

    pub fn transient(what: impl Into<String>) -> Self {
        PublishError::new(what, PublishErrorKind::Transient, false)
    }

    /// The error of a target that does not exist. A later write may succeed.
    pub fn missing(what: impl Into<String>) -> Self {
        PublishError { is_missing: true, ..PublishError::not_taken(what) }
    }

    /// A transient error of a message that the target certainly has not written.
    pub fn not_taken(what: impl Into<String>) -> Self {
        PublishError::new(what, PublishErrorKind::Transient, true)
    }

    pub fn too_large(what: impl Into<String>) -> Self {
        PublishError::new(what, PublishErrorKind::TooLarge, true)
    }

    pub fn impossible(what: impl Into<String>) -> Self {
        PublishError::new(what, PublishErrorKind::Impossible, true)
    }

    pub fn is_transient(&self) -> bool {
        self.kind == PublishErrorKind::Transient
    }
}
