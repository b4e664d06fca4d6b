//! An item as it is sent: encoded once, and cheap to send again.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::Value;

use super::binary;
use super::encoder::EncodeError;
use super::headers::Headers;
use super::structured::Document;

const ATTEMPT_HEADER: HeaderName = HeaderName::from_static("ce-attempt");
const REDELIVERED_HEADER: HeaderName = HeaderName::from_static("ce-redelivered");

/// Whether the broker marked the item as handed over before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redelivered(pub bool);

/// A CloudEvent, ready for any number of attempts; all of them have the same `id` and `source`
/// (guarantee G5).
#[derive(Clone, Debug)]
pub struct EncodedEvent {
    pub(super) id: String,
    pub(super) source: String,
    pub(super) kind: String,
    pub(super) headers: Headers,
    pub(super) body: Body,
}

/// The parts that are kept between attempts.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// Only the data, in the broker's own buffer; the attributes are headers.
    Binary(Bytes),
    /// A JSON document, to which the extensions of an attempt are added.
    Structured(Document),
}

impl EncodedEvent {
    /// Returns headers and body of one attempt, with the extensions `attempt` (1 is the first) and
    /// `redelivered`.
    ///
    /// In binary mode the body is shared and never copied. In structured mode the document is
    /// written once per attempt, because it must be in one piece.
    pub fn for_attempt(&self, attempt: u32, redelivered: Redelivered) -> (HeaderMap, Bytes) {
        let mut headers = self.headers.to_map();
        let flag = if redelivered.0 { "true" } else { "false" };
        match &self.body {
            Body::Binary(data) => {
                // The encoder has left room for both, so neither can be refused.
                let _ = headers.try_insert(ATTEMPT_HEADER, HeaderValue::from(attempt));
                let _ = headers.try_insert(REDELIVERED_HEADER, HeaderValue::from_static(flag));
                (headers, data.clone())
            }
            Body::Structured(document) => {
                let start = format!(r#""attempt":{attempt},"redelivered":{flag},"#);
                // Texts and numbers can always be written as JSON.
                (headers, document.write(&start).unwrap_or_default())
            }
        }
    }

    /// Returns headers and body of the event, with these extensions instead of its own of the same
    /// names. Does not contain the extensions of [`for_attempt`](Self::for_attempt).
    ///
    /// # Errors
    ///
    /// The event has more headers than a request can have.
    pub fn with_extensions(&self, extensions: &[(&str, Value)]) -> Result<(HeaderMap, Bytes), EncodeError> {
        let mut headers = self.headers.to_map();
        match &self.body {
            Body::Binary(data) => {
                for (name, value) in extensions {
                    let name = HeaderName::try_from(format!("ce-{name}")).map_err(binary::other)?;
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    let value = binary::header_value(&text)?;
                    headers.try_insert(name, value).map_err(|_| EncodeError::TooManyHeaders)?;
                }
                Ok((headers, data.clone()))
            }
            Body::Structured(document) => Ok((headers, document.with_members(extensions)?)),
        }
    }

    /// Returns attribute `id`: the same in every attempt.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns attribute `source`: the same in every attempt.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns attribute `type`.
    pub fn kind(&self) -> &str {
        &self.kind
    }
}
