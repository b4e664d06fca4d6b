//! The message of an entry: plain, or a CloudEvent in binary mode.

use super::input::Raw;
use crate::event::Value;
use crate::publish::{Broker, Outgoing};
use crate::tools::draft::Draft;

/// The form of the messages.
#[derive(Clone, Debug, Default)]
pub struct Form {
    /// The attributes `type` and `source` of a CloudEvent; a plain message without them.
    pub event: Option<(String, String)>,
    pub content_type: Option<String>,
    pub headers: Vec<(String, String)>,
}

impl Form {
    /// Makes the message.
    ///
    /// RabbitMQ has a property for the id. Kafka has none, so that a plain record has the header
    /// that the bridge takes for the id of the event.
    pub fn outgoing(&self, raw: &Raw, id: &str, key: Option<String>, broker: Broker) -> Outgoing {
        let text = |text: &str| Value::Text(text.to_owned());
        let attributes = self
            .event
            .as_ref()
            .map(|(kind, source)| [("specversion", "1.0"), ("id", id), ("type", kind), ("source", source)]);
        let attributes = attributes.into_iter().flatten();
        let draft = Draft {
            body: raw.body.clone(),
            id: id.to_owned(),
            content_type: self.content_type.clone().unwrap_or_else(|| guess(raw).to_owned()),
            headers: self.headers.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
            attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            is_event: self.event.is_some(),
            key: key.unwrap_or_else(|| id.to_owned()),
        };
        draft.outgoing(broker)
    }
}

fn guess(raw: &Raw) -> &'static str {
    let is_json = || serde_json::from_slice::<&serde_json::value::RawValue>(&raw.body).is_ok();
    match raw.content_type {
        Some(known) => known,
        None if is_json() => "application/json",
        None if std::str::from_utf8(&raw.body).is_ok() => "text/plain",
        None => "application/octet-stream",
    }
}
