//! Reads messages and answers that already are CloudEvents.

use std::fmt;

use bytes::Bytes;
use cloudevents::{AttributesReader, Event};
use http::HeaderMap;

use super::media_type;
use super::message::Message;

mod attributes;
mod broker;
mod json;
mod response;

pub use response::{is_structured, texts as response_attributes};

/// An event and its data. The event itself never holds data, so that the broker's buffer need not
/// be copied.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    pub event: Event,
    /// The data as a binary-mode body, of the type in `datacontenttype`. Empty if the event has no
    /// data.
    pub data: Bytes,
}

/// The most characters of a value in a log line.
const SHOWN: usize = 80;

/// An optional attribute or an extension whose value no event can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    pub attribute: String,
    /// The value, escaped and shortened.
    pub value: String,
    pub reason: String,
}

/// The reason why data that claims to be a CloudEvent cannot be read as one.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("specversion is {0:?}, and only 1.0 is supported")]
    SpecVersion(String),
    /// A batch is several events, and JSON is the only supported event format.
    #[error("content type {0:?} is not supported")]
    Format(String),
    #[error("attribute {0} is missing")]
    Missing(&'static str),
    #[error("attribute {0} is empty")]
    Empty(&'static str),
    #[error("attribute {0} is not text")]
    NotText(String),
    #[error("it has both data and data_base64")]
    TwoData,
    #[error("data_base64 is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// A header that violates HTTP binding 1.0.2, section 3.1.3.2.
    #[error("header {0} is not percent-encoded UTF-8")]
    Header(String),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Event(String),
    #[error("{0}")]
    Attribute(Defect),
}

impl Defect {
    fn new(attribute: &str, value: &str, reason: impl ToString) -> Self {
        Defect { attribute: shown(attribute), value: shown(value), reason: reason.to_string() }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "attribute {} is {:?}: {}", self.attribute, self.value, self.reason)
    }
}

/// Formats text from outside for a log line.
pub(in crate::event) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// Reads a broker's message as a CloudEvent; `None` if it does not claim to be one.
///
/// The content type marks structured mode, and the headers mark binary mode: AMQP `cloudEvents:`,
/// `cloudEvents_`, `ce-` or Knative's bare names, Kafka `ce_`. Knative's RabbitmqSource accepts a
/// missing `source`, so there `default_source` replaces it. An optional attribute with a defect is
/// left out with a warning: the event keeps its id, type and source.
///
/// # Errors
/// The message claims to be a CloudEvent, and a required part of it cannot be read.
pub fn decode(
    message: &Message,
    default_source: impl FnOnce() -> String,
) -> Result<Option<Parts>, DecodeError> {
    let claimed = broker::content_type(message).filter(|text| media_type::claims_cloudevents(text));
    let (parts, defects) = match claimed {
        Some(format) => structured(format, &message.body)?,
        None => {
            let Some(attributes) = broker::attributes(message, default_source)? else { return Ok(None) };
            let (event, defects) = attributes.into_event()?;
            (Parts { event, data: message.body.clone() }, defects)
        }
    };
    for Defect { attribute, value, reason } in defects {
        tracing::warn!(
            id = shown(parts.event.id()),
            attribute,
            value,
            reason,
            "The CloudEvent is sent without one of its attributes"
        );
    }
    Ok(Some(parts))
}

/// Reads an HTTP answer as a CloudEvent, in binary or structured mode; `None` if it does not claim
/// to be one.
///
/// # Errors
/// The answer claims to be a CloudEvent and has any defect, even a small one, because the readers
/// of the reply would meet it.
pub fn decode_response(headers: &HeaderMap, body: &Bytes) -> Result<Option<Parts>, DecodeError> {
    let claimed = response::content_type(headers).filter(|text| media_type::claims_cloudevents(text));
    let (parts, defects) = match claimed {
        Some(format) => structured(format, body)?,
        None => {
            let Some(attributes) = response::attributes(headers)? else { return Ok(None) };
            let (event, defects) = attributes.into_event()?;
            (Parts { event, data: body.clone() }, defects)
        }
    };
    match defects.into_iter().next() {
        Some(defect) => Err(DecodeError::Attribute(defect)),
        None => Ok(Some(parts)),
    }
}

fn structured(format: &str, body: &Bytes) -> Result<(Parts, Vec<Defect>), DecodeError> {
    if !media_type::is_cloudevent_json(format) {
        return Err(DecodeError::Format(shown(format)));
    }
    json::decode(body)
}
