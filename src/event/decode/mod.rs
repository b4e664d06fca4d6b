//! Messages and answers that already are CloudEvents.

use bytes::Bytes;
use cloudevents::AttributesReader;
use cloudevents::Event;
use cloudevents::message::BinaryDeserializer;
use http::HeaderMap;

use super::message::Message;
use super::{extension, media_type};

mod attributes;
mod broker;
mod json;
mod response;

pub use response::{is_structured, texts as response_attributes};

/// An event and its data. The event itself never holds data, so that the broker's buffer need not be copied.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    pub event: Event,
    /// As a binary-mode body: what `datacontenttype` describes. Empty where the event has no data.
    pub data: Bytes,
}

/// Why something that claims to be a CloudEvent is none.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("specversion is {0:?}, and only 1.0 is known")]
    SpecVersion(String),
    /// A batch is several events, and JSON is the only event format that is known.
    #[error("content type {0:?} is not known")]
    Format(String),
    #[error("attribute {0} is empty")]
    Empty(&'static str),
    #[error("it has both data and data_base64")]
    TwoData,
    #[error("data_base64 is no base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// HTTP binding 1.0.2, section 3.1.3.2.
    #[error("header {0} is not percent-encoded UTF-8")]
    Header(String),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Attributes(#[from] cloudevents::message::Error),
}

/// Reads a broker's message as a CloudEvent; `None` where it does not claim to be one.
///
/// Structured by its content type; binary by its headers: AMQP `cloudEvents:`, `cloudEvents_`, `ce-` or Knative's bare
/// names, Kafka `ce_`. Knative's RabbitmqSource forgives a missing `source`, so `default_source` stands in there.
///
/// # Errors
/// When it claims to be a CloudEvent and is none.
pub fn decode(
    message: &Message,
    default_source: impl FnOnce() -> String,
) -> Result<Option<Parts>, DecodeError> {
    if let Some(format) = broker::content_type(message).filter(|text| media_type::claims_cloudevents(text)) {
        return structured(format, &message.body).map(Some);
    }
    let Some(attributes) = broker::attributes(message, default_source)? else { return Ok(None) };
    let event = BinaryDeserializer::into_event(attributes)?;
    checked(Parts { event, data: message.body.clone() }).map(Some)
}

/// Reads an HTTP answer as a CloudEvent, in binary or structured mode; `None` where it does not claim to be one.
///
/// # Errors
/// When it claims to be a CloudEvent and is none.
pub fn decode_response(headers: &HeaderMap, body: &Bytes) -> Result<Option<Parts>, DecodeError> {
    if let Some(format) = response::content_type(headers).filter(|text| media_type::claims_cloudevents(text))
    {
        return structured(format, body).map(Some);
    }
    let Some(attributes) = response::attributes(headers)? else { return Ok(None) };
    let event = BinaryDeserializer::into_event(attributes)?;
    checked(Parts { event, data: body.clone() }).map(Some)
}

fn structured(format: &str, body: &Bytes) -> Result<Parts, DecodeError> {
    if !media_type::is_cloudevent_json(format) {
        return Err(DecodeError::Format(format.to_owned()));
    }
    checked(json::decode(body)?)
}

/// What the SDK does not check: required attributes must not be empty (CloudEvents 1.0.2, section 3.1), and a name
/// that no extension can have can't be sent on. Such an extension is dropped, as the rest of the event is still good.
fn checked(mut parts: Parts) -> Result<Parts, DecodeError> {
    let event = &mut parts.event;
    for (name, value) in [("id", event.id()), ("source", event.source()), ("type", event.ty())] {
        if value.is_empty() {
            return Err(DecodeError::Empty(name));
        }
    }
    let names = event.iter_extensions().map(|(name, _)| name);
    let bad: Vec<String> = names.filter(|name| !extension::is_valid(name)).map(str::to_owned).collect();
    for name in bad {
        tracing::warn!(id = event.id(), %name, "an extension of the CloudEvent has a forbidden name and is left out");
        event.remove_extension(&name);
    }
    Ok(parts)
}
