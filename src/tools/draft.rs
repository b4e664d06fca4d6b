//! An item before it is written: the same for `enqueue` and `intake`.

use bytes::Bytes;

use crate::event::{Properties, Value, own};
use crate::publish::{Broker, Outgoing};

/// An item of either broker.
pub struct Draft {
    pub body: Bytes,
    pub id: String,
    pub content_type: String,
    pub headers: Vec<(String, Value)>,
    /// The attributes of a CloudEvent in binary mode.
    pub attributes: Vec<(String, String)>,
    /// Whether the item is a CloudEvent in either mode, and so carries its own id.
    pub is_event: bool,
    /// The key of a Kafka record.
    pub key: String,
}

impl Draft {
    /// The message in the form in which the bridge finds the id, the type and the attributes again.
    pub fn outgoing(self, broker: Broker) -> Outgoing {
        let Draft { body, id, content_type, mut headers, attributes, is_event, key } = self;
        let prefix = match broker {
            Broker::Rabbitmq => "cloudEvents:",
            Broker::Kafka => "ce_",
        };
        headers.extend(
            attributes.into_iter().map(|(name, text)| (format!("{prefix}{name}"), Value::Text(text))),
        );
        match broker {
            Broker::Rabbitmq => {
                let properties = Properties {
                    content_type: Some(content_type),
                    message_id: Some(id),
                    ..Properties::default()
                };
                Outgoing { body, headers, properties, ..Outgoing::default() }
            }
            Broker::Kafka => {
                headers.push(("content-type".to_owned(), Value::Text(content_type)));
                if !is_event {
                    headers.push((own::ID.to_owned(), Value::Text(id)));
                }
                Outgoing { body, headers, key: Some(key.into()), ..Outgoing::default() }
            }
        }
    }
}
