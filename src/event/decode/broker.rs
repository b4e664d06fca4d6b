//! Finds a CloudEvent's attributes in AMQP and Kafka messages.
//!
//! Kafka follows the CloudEvents Kafka binding 1.0.2. AMQP 0-9-1 has no binding. Therefore the
//! prefixes of the AMQP 1.0 binding, the prefix `ce-` and the bare names of Knative's RabbitMQ
//! components are accepted. The content type is read from the message property, as in AMQP 1.0, or
//! else from the header.

use cloudevents::message::MessageAttributeValue;

use super::DecodeError;
use super::attributes::Attributes;
use crate::event::message::{Message, Origin, Value};
use crate::event::{own, time};

const AMQP_PREFIXES: [&str; 3] = ["cloudEvents:", "cloudEvents_", "ce-"];
const KAFKA_PREFIXES: [&str; 1] = ["ce_"];

/// Returns the attributes in the headers; `None` if no header has a specversion.
pub(super) fn attributes(
    message: &Message,
    default_source: impl FnOnce() -> String,
) -> Result<Option<Attributes>, DecodeError> {
    let Some((form, version)) = form(message) else { return Ok(None) };
    let mut attributes = Attributes::new(version.as_text().unwrap_or_default())?;
    for (name, value) in &message.headers {
        if let Some(name) = form.attribute_name(name)
            && let Some(value) = attribute_value(value)
        {
            attributes.push(&name.to_ascii_lowercase(), value);
        }
    }
    if let Some(content_type) = content_type(message) {
        attributes.push("datacontenttype", MessageAttributeValue::String(content_type.to_owned()));
    }
    if matches!(message.origin, Origin::Rabbitmq(_)) && !attributes.has("source") {
        attributes.push("source", MessageAttributeValue::UriRef(default_source()));
    }
    Ok(Some(attributes))
}

/// The way in which the headers of a message name attributes.
#[derive(Clone, Copy)]
enum Form {
    Prefix(&'static str),
    /// Bare names, as Knative's RabbitMQ components write them. Headers of brokers (`x-`), of
    /// tracing and of longhaul are not attributes.
    Bare,
}

impl Form {
    fn attribute_name(self, header: &str) -> Option<&str> {
        match self {
            Form::Prefix(prefix) => strip_prefix(header, prefix),
            Form::Bare => {
                let foreign = ["x-", "content-type", "traceparent", "tracestate", own::PREFIX];
                let skipped = foreign.iter().any(|prefix| strip_prefix(header, prefix).is_some());
                (!skipped).then_some(header)
            }
        }
    }
}

/// Finds the specversion. Returns the form in which it is written, and its value.
fn form(message: &Message) -> Option<(Form, &Value)> {
    let (prefixes, bare): (&[&'static str], bool) = match message.origin {
        Origin::Rabbitmq(_) => (&AMQP_PREFIXES, true),
        Origin::Kafka(_) => (&KAFKA_PREFIXES, false),
    };
    for (header, value) in &message.headers {
        for &prefix in prefixes {
            if strip_prefix(header, prefix).is_some_and(is_specversion) {
                return Some((Form::Prefix(prefix), value));
            }
        }
        if bare && is_specversion(header) {
            return Some((Form::Bare, value));
        }
    }
    None
}

fn is_specversion(name: &str) -> bool {
    name.eq_ignore_ascii_case("specversion")
}

/// Returns the part of the header name after the prefix. Case is ignored, because brokers and
/// clients do not keep it.
fn strip_prefix<'a>(header: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = header.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Returns the `content_type` property of an AMQP message, or else the `content-type` header.
pub(super) fn content_type(message: &Message) -> Option<&str> {
    let property = match &message.origin {
        Origin::Rabbitmq(origin) => origin.properties.content_type.as_deref(),
        Origin::Kafka(_) => None,
    };
    property.or_else(|| message.header("content-type")?.as_text())
}

/// Converts a header's value to a CloudEvents type (section 3.2 of the specification). Null, lists
/// and tables have no counterpart there and are left out. A float becomes text, and so does a
/// timestamp that is out of range. Bytes become text, with U+FFFD instead of bytes that are not
/// UTF-8.
fn attribute_value(value: &Value) -> Option<MessageAttributeValue> {
    match value {
        Value::Null | Value::List(_) | Value::Table(_) => None,
        Value::Bool(value) => Some(MessageAttributeValue::Boolean(*value)),
        Value::Exact(exact) => attribute_value(&exact.widened()),
        Value::Int(value) => Some(MessageAttributeValue::Integer(*value)),
        Value::Float(value) => Some(MessageAttributeValue::String(value.to_string())),
        Value::Text(value) => Some(MessageAttributeValue::String(value.clone())),
        Value::Bytes(value) => {
            Some(MessageAttributeValue::String(String::from_utf8_lossy(value).into_owned()))
        }
        Value::Timestamp(number) => Some(match time::from_unix(*number) {
            Some(time) => MessageAttributeValue::DateTime(time),
            None => MessageAttributeValue::String(number.to_string()),
        }),
    }
}
