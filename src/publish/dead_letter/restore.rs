//! Makes the original message of a dead letter in a broker, for a redrive.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::original::{self, Original};
use super::{LEFT_OUT_HEADER, ORIGINAL_HEADER, is_ours};
use crate::event::own::{ORIGIN, RECORD_TIME};
use crate::event::{Message, Origin, Properties, Value};
use crate::publish::Outgoing;

/// A message as it was before it became a dead letter.
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    /// The place from which it was taken.
    pub from: Place,
    /// Body, key, headers and properties as they were, without longhaul's headers. Three things
    /// differ from the original: a header has the time of a Kafka record, which gets the time of
    /// the write ([`RECORD_TIME`]); RabbitMQ keeps the message on disk in any case; and `CC` and
    /// `BCC`, which ask it to send copies elsewhere, are gone, because those copies were sent.
    pub outgoing: Outgoing,
    /// The parts of the item that a last-resort letter left out, in words. Without them the message
    /// is not whole.
    pub left_out: Option<String>,
}

/// The place from which an item was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Rabbitmq { queue: String },
    Kafka { topic: String, partition: i32, offset: i64 },
}

/// The reason why a message is not a dead letter that can be restored.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error("it has no header {ORIGIN}, so longhaul did not write it")]
    NoOrigin,
    #[error("the header {ORIGIN} names no queue and no record: {0:?}")]
    Origin(String),
    #[error("the header {ORIGINAL_HEADER} can't be read: {0}")]
    Original(String),
}

/// Restores the message of a dead letter that a source handed over.
///
/// # Errors
/// The message is not a dead letter of longhaul, or its headers about the original were changed.
pub fn restore(letter: &Message) -> Result<Restored, RestoreError> {
    let text = |name| letter.header(name).and_then(Value::as_text);
    let from = text(ORIGIN).ok_or(RestoreError::NoOrigin)?;
    let from = Place::parse(from).ok_or_else(|| RestoreError::Origin(from.to_owned()))?;
    let unreadable = |error: String| RestoreError::Original(error);
    let original: Original = match text(ORIGINAL_HEADER) {
        Some(json) => serde_json::from_str(json).map_err(|error| unreadable(error.to_string()))?,
        None => Original::default(),
    };
    let mut headers: Vec<(String, Value)> = match original.headers {
        Some(typed) => original::headers(typed).map_err(|error| unreadable(error.to_string()))?,
        None => letter.headers.iter().filter(|(name, _)| !is_ours(name)).cloned().collect(),
    };
    let (key, properties) = match (&from, &letter.origin) {
        (Place::Kafka { .. }, Origin::Kafka(origin)) => (origin.key.clone(), Properties::default()),
        (Place::Kafka { .. }, Origin::Rabbitmq(_)) => {
            let key = original.key.map(|key| BASE64_STANDARD.decode(key)).transpose();
            let key = key.map_err(|error| unreadable(error.to_string()))?;
            (key.map(Into::into), Properties::default())
        }
        (Place::Rabbitmq { .. }, Origin::Kafka(_)) => (None, original.properties),
        (Place::Rabbitmq { .. }, Origin::Rabbitmq(origin)) => {
            let Properties { expiration, user_id, .. } = original.properties;
            (None, Properties { expiration, user_id, ..origin.properties.clone() })
        }
    };
    let is_null = match &letter.origin {
        Origin::Kafka(origin) => origin.is_null,
        Origin::Rabbitmq(_) => original.null,
    };
    let time = original.timestamp.map(|millis| (RECORD_TIME.to_owned(), Value::Text(millis.to_string())));
    headers.extend(time);
    let outgoing = Outgoing { body: letter.body.clone(), is_null, headers, key, properties };
    Ok(Restored { from, outgoing, left_out: text(LEFT_OUT_HEADER).map(str::to_owned) })
}

impl Place {
    /// Reads the text of [`super::origin`]. A queue may have `/` in its name, a topic may not.
    fn parse(text: &str) -> Option<Self> {
        let (kind, place) = text.split_once('/')?;
        if kind == "rabbitmq" {
            return Some(Place::Rabbitmq { queue: place.to_owned() });
        }
        let mut parts = Some(place).filter(|_| kind == "kafka")?.split('/');
        let (topic, partition, offset) = (parts.next()?, parts.next()?, parts.next()?);
        let (partition, offset) = (partition.parse().ok()?, offset.parse().ok()?);
        parts.next().is_none().then(|| Place::Kafka { topic: topic.to_owned(), partition, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RabbitmqOrigin;

    fn letter(headers: &[(&str, &str)]) -> Message {
        let text = |&(name, value): &(&str, &str)| (name.to_owned(), Value::Text(value.to_owned()));
        let headers = headers.iter().map(text).collect();
        Message { body: "body".into(), headers, origin: Origin::Rabbitmq(RabbitmqOrigin::default()) }
    }

    #[test]
    fn the_place_of_the_item_is_read() {
        let from = |text| restore(&letter(&[("longhaul-origin", text)])).map(|restored| restored.from);
        assert_eq!(from("rabbitmq/a/b"), Ok(Place::Rabbitmq { queue: "a/b".to_owned() }));
        assert_eq!(from("kafka/t/2/9"), Ok(Place::Kafka { topic: "t".to_owned(), partition: 2, offset: 9 }));
        for wrong in ["", "kafka/t/2", "kafka/t/2/9/1", "kafka/t/x/9", "nats/t/2/9"] {
            assert_eq!(from(wrong), Err(RestoreError::Origin(wrong.to_owned())));
        }
        assert_eq!(restore(&letter(&[])), Err(RestoreError::NoOrigin));
    }

    #[test]
    fn headers_that_somebody_changed_are_refused() {
        for wrong in ["{", r#"{"key":"no base64!"}"#, r#"{"headers":[["a",{"int":"x"}]]}"#] {
            let changed = letter(&[("longhaul-origin", "kafka/t/2/9"), ("longhaul-original", wrong)]);
            assert!(matches!(restore(&changed), Err(RestoreError::Original(_))), "{wrong}");
        }
    }
}
