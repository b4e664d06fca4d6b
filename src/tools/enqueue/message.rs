//! The message of an entry: plain, or a CloudEvent in binary mode.

use super::input::Raw;
use crate::event::{Properties, Value, own};
use crate::publish::{Broker, Outgoing};

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
        let content_type = self.content_type.clone().unwrap_or_else(|| guess(raw).to_owned());
        let text = |text: &str| Value::Text(text.to_owned());
        let mut headers: Vec<(String, Value)> =
            self.headers.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        if let Some((kind, source)) = &self.event {
            let prefix = match broker {
                Broker::Rabbitmq => "cloudEvents:",
                Broker::Kafka => "ce_",
            };
            let attributes = [("specversion", "1.0"), ("id", id), ("type", kind), ("source", source)];
            headers.extend(attributes.map(|(name, value)| (format!("{prefix}{name}"), text(value))));
        }
        match broker {
            Broker::Rabbitmq => {
                let properties = Properties {
                    content_type: Some(content_type),
                    message_id: Some(id.to_owned()),
                    ..Properties::default()
                };
                Outgoing { body: raw.body.clone(), headers, properties, ..Outgoing::default() }
            }
            Broker::Kafka => {
                headers.push(("content-type".to_owned(), Value::Text(content_type)));
                if self.event.is_none() {
                    headers.push((own::ID.to_owned(), text(id)));
                }
                let key = key.unwrap_or_else(|| id.to_owned());
                Outgoing { body: raw.body.clone(), headers, key: Some(key.into()), ..Outgoing::default() }
            }
        }
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
