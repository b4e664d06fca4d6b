//! An item as it is sent: encoded once, and cheap to send again.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::Value;

use super::binary;
use super::encoder::EncodeError;
use super::extension;
use super::headers::Headers;
use super::structured::Document;
use super::trace::TraceContext;

const ATTEMPT_HEADER: HeaderName = HeaderName::from_static("ce-attempt");
const REDELIVERED_HEADER: HeaderName = HeaderName::from_static("ce-redelivered");
const PROGRESS_URL_HEADER: HeaderName = HeaderName::from_static("ce-progressurl");
const CHECKPOINT_HEADER: HeaderName = HeaderName::from_static("ce-checkpoint");

/// Bytes of a checkpoint that fits into the extension. The worker gets a longer one from
/// `progressurl`.
const CHECKPOINT_BYTES: usize = 1024;

/// The extensions of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct AttemptExtensions<'a> {
    /// 1 is the first.
    pub number: u32,
    pub redelivered: Redelivered,
    /// The address for the worker's reports.
    pub progress_url: Option<&'a str>,
    /// The checkpoint of the previous attempt.
    pub checkpoint: Option<&'a str>,
    /// The trace context of the attempt, if it has a span. Without one the worker gets the context
    /// of the message.
    pub trace: Option<&'a TraceContext>,
}

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
    pub(super) time: Option<SystemTime>,
    /// The context in the event's extension for distributed tracing.
    pub(super) trace: Option<Box<TraceContext>>,
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

impl AttemptExtensions<'_> {
    /// An attempt without an address for reports and without a checkpoint.
    pub fn new(number: u32, redelivered: Redelivered) -> Self {
        AttemptExtensions { number, redelivered, progress_url: None, checkpoint: None, trace: None }
    }
}

impl EncodedEvent {
    /// Returns attribute `time`.
    pub fn time(&self) -> Option<SystemTime> {
        self.time
    }

    /// Returns headers and body of one attempt, with the extensions `attempt` (1 is the first) and
    /// `redelivered`.
    ///
    /// In binary mode the body is shared and never copied. In structured mode the document is
    /// written once per attempt, because it must be in one piece.
    pub fn for_attempt(&self, attempt: &AttemptExtensions<'_>) -> (HeaderMap, Bytes) {
        let mut headers = self.headers.to_map();
        if let Some(trace) = attempt.trace {
            trace.write(&mut headers);
        }
        let flag = if attempt.redelivered.0 { "true" } else { "false" };
        let checkpoint = attempt.checkpoint.filter(|text| text.len() <= CHECKPOINT_BYTES);
        match &self.body {
            Body::Binary(data) => {
                let texts = [(PROGRESS_URL_HEADER, attempt.progress_url), (CHECKPOINT_HEADER, checkpoint)];
                let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text?)));
                let values = texts.filter_map(|(name, text)| Some((name, binary::header_value(text).ok()?)));
                let own = [
                    (ATTEMPT_HEADER, HeaderValue::from(attempt.number)),
                    (REDELIVERED_HEADER, HeaderValue::from_static(flag)),
                ];
                for (name, value) in own.into_iter().chain(values) {
                    // The encoder has left room for all of them, so none can be refused.
                    let _ = headers.try_insert(name, value);
                }
                (headers, data.clone())
            }
            Body::Structured(document) => {
                let mut start = format!(r#""attempt":{},"redelivered":{flag},"#, attempt.number);
                for (name, text) in
                    [(extension::PROGRESS_URL, attempt.progress_url), (extension::CHECKPOINT, checkpoint)]
                {
                    if let Some(text) = text {
                        start.push_str(&format!(r#""{name}":{},"#, Value::from(text)));
                    }
                }
                // Texts and numbers can always be written as JSON.
                (headers, document.write(&start).unwrap_or_default())
            }
        }
    }

    /// Returns headers and body of the event, with these extensions instead of its own of the same
    /// names. Does not contain the extensions of [`for_attempt`](Self::for_attempt).
    ///
    /// # Errors
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

    /// Returns the producer's trace context: from the headers of the message, or else from the
    /// event's extension.
    pub fn trace(&self) -> Option<TraceContext> {
        TraceContext::of_headers(&self.headers).or_else(|| self.trace.as_deref().cloned())
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
