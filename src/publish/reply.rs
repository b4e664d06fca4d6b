//! Makes a message of the worker's answer: a CloudEvent in the form in which the worker wrote it,
//! or any other answer wrapped in one.
//!
//! Kafka follows the CloudEvents Kafka binding 1.0.2. AMQP follows the AMQP 1.0 binding, since
//! 0-9-1 has none.

use std::sync::Arc;

use ::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use ::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use cloudevents::AttributesReader;

use super::hops::{Hops, HopsKey};
use super::{Broker, Outgoing, PublishError, Publisher};
use crate::event::{
    Message, Origin, Properties, TraceContext, Value, decode_response, is_structured, key, own,
    response_attributes,
};

/// Attribute `type` of a wrapped answer.
const WRAPPED_TYPE: &str = "dev.longhaul.reply";

/// The longest message id of RabbitMQ, in bytes.
const ID_BYTES: usize = 255;

/// The target of a pipeline's replies.
#[derive(Clone)]
pub struct Target {
    pub publisher: Arc<dyn Publisher>,
    pub broker: Broker,
    pub wrap: Wrap,
}

/// The use of an answer that is not a CloudEvent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wrap {
    /// It is not a reply, and nothing is written.
    #[default]
    Never,
    /// It is published with attributes of our own, unless it is empty.
    Any,
}

/// An answer of the worker, and the item that it answers.
#[derive(Clone, Debug)]
pub struct AnsweredItem<'a> {
    pub item: &'a Message,
    /// Attribute `id` of the item's event.
    pub event_id: &'a str,
    /// Attribute `source` of the item's event.
    pub event_source: &'a str,
    pub status: u16,
    pub headers: &'a HeaderMap,
    pub body: &'a Bytes,
    /// Whether headers or body are only the beginning of the answer.
    pub truncated: bool,
    pub hops: &'a HopsKey,
    /// The trace context of the reply. It names the latest step, so it is beside an extension
    /// `traceparent` of the worker's event, which names the start of the trace.
    pub trace: Option<TraceContext>,
}

/// The parts of the event outside the body.
struct Event {
    /// The attributes by name; empty in structured form.
    attributes: Vec<(String, String)>,
    /// The type of the body.
    content_type: Option<String>,
    /// The compression of the body.
    content_encoding: Option<String>,
    id: String,
    /// Extension `partitionkey`.
    key: Option<String>,
}

impl Target {
    /// Returns the message to write; `None` if the answer is not a reply.
    ///
    /// # Errors
    /// The answer is a reply, but only its beginning was kept, or its reader could not read the
    /// event. No later write can succeed, and the item and its answer must not be lost.
    pub fn message(&self, answer: &AnsweredItem<'_>) -> Result<Option<Outgoing>, PublishError> {
        // In Knative's data plane contract the body of a 202 is not a reply.
        if answer.status == StatusCode::ACCEPTED.as_u16() {
            return Ok(None);
        }
        let is_claimed = is_structured(answer.headers) || answer.headers.contains_key("ce-specversion");
        let is_wrapped = self.wrap == Wrap::Any && !answer.body.is_empty();
        if !is_claimed && !is_wrapped {
            return Ok(None);
        }
        if answer.truncated {
            let what = "the worker's answer is a reply that is longer than sink.response_bytes (or has more than 64 KiB \
                        of headers), so that only its beginning is there; raise the limit or answer with less";
            return Err(PublishError::too_large(what));
        }
        let hops = answer.hops.of_reply(answer.item)?;
        Ok(Some(self.outgoing(answer, self.event(answer)?, &hops)))
    }

    fn event(&self, answer: &AnsweredItem<'_>) -> Result<Event, PublishError> {
        let text = |name| answer.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let content_type = text(CONTENT_TYPE);
        let content_encoding =
            text(CONTENT_ENCODING).filter(|coding| !coding.eq_ignore_ascii_case("identity"));
        let structured = is_structured(answer.headers);
        if structured && content_encoding.is_some() {
            // A compressed document is left to its reader.
            let (attributes, id) = (Vec::new(), String::new());
            return Ok(Event { attributes, content_type, content_encoding, id, key: None });
        }
        match decode_response(answer.headers, answer.body) {
            Ok(Some(parts)) => {
                let attributes = if structured { Vec::new() } else { response_attributes(answer.headers) };
                let id = parts.event.id().to_owned();
                let key = parts.event.extension("partitionkey").map(ToString::to_string);
                return Ok(Event { attributes, content_type, content_encoding, id, key });
            }
            Ok(None) => {}
            // A wrapper contains the whole document, so nothing is lost.
            Err(error) if structured && self.wrap == Wrap::Any && !answer.body.is_empty() => {
                tracing::warn!(%error, id = answer.event_id, "The worker's answer claims to be a CloudEvent and cannot be read as one; wrapped");
            }
            Err(error) => {
                let what = format!(
                    "the worker's answer claims to be a CloudEvent and cannot be read as one: {error}"
                );
                return Err(PublishError::impossible(what));
            }
        }
        // This is an event of our own. It stays the same if the item runs again or the answer is
        // written again.
        let id = format!("{}/reply", answer.event_id);
        let attributes = [
            ("specversion", "1.0"),
            ("id", &id),
            ("source", answer.event_source),
            ("type", WRAPPED_TYPE),
            ("subject", answer.event_id),
        ];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        // With this label a reader would take the body for an event again.
        let content_type = content_type.filter(|_| !structured);
        let content_type = content_type.or_else(|| Some("application/octet-stream".to_owned()));
        Ok(Event { attributes, content_type, content_encoding, id, key: None })
    }

    fn outgoing(&self, answer: &AnsweredItem<'_>, event: Event, hops: &Hops) -> Outgoing {
        let Event { attributes, content_type, content_encoding, id, key } = event;
        let (key_of_item, correlation_id) = match &answer.item.origin {
            Origin::Kafka(origin) => (origin.key.clone(), None),
            Origin::Rabbitmq(origin) => {
                let Properties { correlation_id, message_id, .. } = &origin.properties;
                (None, correlation_id.clone().or_else(|| message_id.clone()))
            }
        };
        let (prefix, in_headers) = match self.broker {
            Broker::Rabbitmq => ("cloudEvents_", [None, None]),
            Broker::Kafka => ("ce_", [content_type.clone(), content_encoding.clone()]),
        };
        let attributes = attributes.into_iter().map(|(name, value)| (format!("{prefix}{name}"), value));
        let names = ["content-type", "content-encoding"];
        let own =
            names.into_iter().zip(in_headers).filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let id_of_item = (own::ID.to_owned(), answer.event_id.to_owned());
        let mark = (own::REPLY.to_owned(), "true".to_owned());
        let trace = answer.trace.iter().flat_map(TraceContext::headers);
        let trace = trace.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let headers = attributes.chain(own).chain([id_of_item, mark]).chain(trace);
        Outgoing {
            body: answer.body.clone(),
            is_null: false,
            headers: headers.map(|(name, value)| (name, Value::Text(value))).chain(hops.headers()).collect(),
            // This is the Kafka binding's key. Without one the reply keeps the item's key.
            key: key.as_deref().map(key::from_text).or(key_of_item),
            properties: Properties {
                content_type,
                content_encoding,
                message_id: Some(id).filter(|id| !id.is_empty() && id.len() <= ID_BYTES),
                correlation_id,
                ..Properties::default()
            },
        }
    }
}

#[cfg(test)]
mod tests;
