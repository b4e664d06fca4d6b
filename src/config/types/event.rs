//! The CloudEvent that is made of an item.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The CloudEvent made of an item that is not one yet. `{…}` is not expanded in any of these.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Event {
    /// Attribute `type`; `dev.knative.rabbitmq.event` or `dev.knative.kafka.event` by default.
    pub r#type: Option<String>,
    /// Attribute `source`; Knative's own for the source's kind by default.
    pub source: Option<String>,
    /// Attribute `subject`.
    pub subject: Option<String>,
    /// Extensions set on every event, CloudEvents passed through included.
    pub extensions: BTreeMap<String, String>,
    /// Attribute `id`, from a part of the message. Without it `message_id` of RabbitMQ, or the
    /// place of the Kafka record.
    pub id: Option<EventId>,
}

/// The part of a message that names its item. A message without it has the id that it would have
/// without this key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventId {
    /// Name of a header with the id.
    #[schemars(length(min = 1, max = 255))]
    pub header: Option<String>,
    /// JSON pointer (RFC 6901) to a text or a number in the body, such as `/order/id`. `header`
    /// wins over it.
    pub json: Option<String>,
}
