//! The facts that a dead letter tells in its headers: those of longhaul, else those of RabbitMQ.

use std::time::SystemTime;

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::event::{Message, Origin, Value, own};
use crate::publish::is_bookkeeping;

/// A letter in short.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Facts {
    pub id: String,
    pub reason: Option<String>,
    pub code: Option<u16>,
    pub attempts: Option<u32>,
    /// The queue or the record that the item was taken from.
    pub origin: Option<String>,
    pub time: Option<String>,
    pub detail: Option<String>,
    /// The parts of the item that the letter lacks.
    pub left_out: Option<String>,
    pub bytes: usize,
    /// The place of a Kafka letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
}

impl Facts {
    pub fn of(letter: &Message) -> Facts {
        let text = |name: &str| letter.header(name).and_then(Value::plain);
        let named = match &letter.origin {
            Origin::Rabbitmq(origin) => origin.properties.message_id.clone(),
            Origin::Kafka(_) => text("ce_id"),
        };
        let id = text(own::ID).or(named).filter(|id| !id.is_empty()).unwrap_or_else(|| digest(letter));
        let by_rabbitmq = || text("x-first-death-reason").map(|reason| format!("rabbitmq-{reason}"));
        let from_queue = || text("x-first-death-queue").map(|queue| format!("rabbitmq/{queue}"));
        Facts {
            id,
            reason: text("longhaul-reason").or_else(by_rabbitmq),
            code: text("longhaul-code").and_then(|code| code.parse().ok()),
            attempts: text(own::ATTEMPTS).and_then(|count| count.parse().ok()),
            origin: text(own::ORIGIN).or_else(from_queue),
            time: text("longhaul-time").or_else(|| death(letter)),
            detail: text("longhaul-detail"),
            left_out: text("longhaul-left-out"),
            bytes: letter.body.len(),
            record: match &letter.origin {
                Origin::Kafka(origin) => Some(format!("{}/{}", origin.partition, origin.offset)),
                Origin::Rabbitmq(_) => None,
            },
        }
    }

    /// The seconds since the letter was written.
    pub fn age(&self, now: SystemTime) -> Option<f64> {
        let written: Timestamp = self.time.as_ref()?.parse().ok()?;
        let now = Timestamp::try_from(now).ok()?;
        Some(now.duration_since(written).as_secs_f64())
    }
}

/// The time of the latest death in RabbitMQ's own header.
fn death(letter: &Message) -> Option<String> {
    let Some(Value::List(deaths)) = letter.header("x-death") else { return None };
    let Some(Value::Table(death)) = deaths.first() else { return None };
    let time = death.iter().find(|(name, _)| name == "time");
    let Some((_, Value::Timestamp(seconds))) = time else { return None };
    let time = Timestamp::from_second(i64::try_from(*seconds).ok()?).ok()?;
    Some(time.to_string())
}

/// A name for a letter without one: the same each time.
fn digest(letter: &Message) -> String {
    let mut digest = Sha256::new();
    digest.update(&letter.body);
    for (name, value) in letter.headers.iter().filter(|(name, _)| !is_bookkeeping(name)) {
        digest.update(format!("{name}={value:?}\n"));
    }
    let digest = digest.finalize();
    format!(
        "sha256:{:02x}{:02x}{:02x}{:02x}{:02x}{:02x}",
        digest[0], digest[1], digest[2], digest[3], digest[4], digest[5]
    )
}
