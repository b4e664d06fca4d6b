//! Makes an event of a message. This happens once per item, however many attempts follow.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use cloudevents::{AttributesReader, Event};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use uuid::Uuid;

use super::decode::{self, Parts};
use super::encoded::{Body, EncodedEvent};
use super::extension::{self, NameError, Overrides};
use super::headers::{self, Headers};
use super::message::{Message, Origin};
use super::trace::{self, TraceContext};
use super::wrap::Wrapper;
use super::{binary, decode::shown, encoding, media_type, structured};
use crate::config::{self, Mode};

/// The trace context, which goes from the message to the request. No other header of the broker
/// does. An attempt with a span has a context of its own.
const TRACE_HEADERS: [HeaderName; 2] = [trace::PARENT_HEADER, trace::STATE_HEADER];

/// Makes the events of one pipeline.
#[derive(Clone, Debug)]
pub struct Encoder {
    mode: Mode,
    wrapper: Wrapper,
    /// Extensions for every event. They replace its own of the same names.
    extensions: BTreeMap<String, String>,
}

/// The settings of an [`Encoder`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// Kubernetes namespace, for attribute `source`.
    pub namespace: String,
    /// Name of the pipeline, for attribute `source`.
    pub name: String,
    pub mode: Mode,
    pub event: config::Event,
    /// The extensions from `K_CE_OVERRIDES`. They win over `event.extensions`, because they come
    /// from the control plane.
    pub overrides: Overrides,
}

/// A mistake in [`Settings`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("event.extensions: {0}")]
    Extension(#[from] NameError),
    #[error("event.{0} is empty; leave the key out for the default")]
    Empty(&'static str),
}

/// The reason why no request can be made of an item. A later attempt would fail in the same way.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("the attributes can't be made into headers: {0}")]
    Headers(#[from] cloudevents::message::Error),
    /// A request holds at most 24,576 headers; the brokers allow more.
    #[error("the item has more headers than a request can have")]
    TooManyHeaders,
    #[error(
        "the attributes of the event take more than {limit} bytes as headers of a request (header {0} is beyond); shorten \
         the key or the headers of the message",
        limit = headers::MOST_BYTES
    )]
    HeadTooLarge(String),
    #[error("the event can't be made into JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Encoder {
    /// Checks the settings.
    ///
    /// # Errors
    /// An extension has an illegal name, or a required attribute would be empty.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        let config::Event { r#type: kind, source, subject, mut extensions, id } = settings.event;
        for (key, value) in [("type", &kind), ("source", &source), ("subject", &subject)] {
            if value.as_ref().is_some_and(String::is_empty) {
                return Err(SettingsError::Empty(key));
            }
        }
        for name in extensions.keys() {
            extension::check(name)?;
        }
        extensions.extend(settings.overrides.into_map());
        let wrapper =
            Wrapper { namespace: settings.namespace, name: settings.name, kind, source, subject, id };
        Ok(Encoder { mode: settings.mode, wrapper, extensions })
    }

    /// Returns the memory of the event's own copy of the body. A structured event contains the body
    /// in JSON, or in base64 if it is not text. In binary mode the event shares the body.
    pub fn copied_bytes(&self, message: &Message) -> u64 {
        match self.mode {
            Mode::Binary => 0,
            Mode::Structured => (message.body.len() as u64).saturating_mul(4).div_ceil(3),
        }
    }

    /// Returns attribute `id` of the event, even for a message of which no event can be made.
    pub fn id(&self, message: &Message, fresh_id: &dyn Fn() -> String) -> String {
        match decode::decode(message, || self.wrapper.source(message)) {
            Ok(Some(parts)) => parts.event.id().to_owned(),
            Ok(None) | Err(_) => self.wrapper.id(message, fresh_id),
        }
    }

    /// Encodes an item. A message that claims to be a CloudEvent and cannot be read as one is
    /// wrapped whole, with a warning.
    ///
    /// # Errors
    /// The item has more headers, or larger ones, than a request can have.
    pub fn encode(&self, message: &Message) -> Result<EncodedEvent, EncodeError> {
        self.encode_with_id(message, &|| Uuid::new_v4().to_string())
    }

    /// Works like [`encode`](Self::encode), with `fresh_id` for an item without any id.
    ///
    /// # Errors
    /// The same as for [`encode`](Self::encode).
    pub fn encode_with_id(
        &self,
        message: &Message,
        fresh_id: &dyn Fn() -> String,
    ) -> Result<EncodedEvent, EncodeError> {
        let Parts { mut event, data } = self.parts(message, fresh_id)?;
        position(&mut event, message);
        let coding = encoding::of(message);
        if let Some(text) = coding.filter(|text| self.mode == Mode::Structured || !encoding::is_coding(text))
        {
            event.set_extension(encoding::EXTENSION, text);
        }
        for (name, value) in &self.extensions {
            event.set_extension(name, value.as_str());
        }
        for name in extension::PER_ATTEMPT {
            event.remove_extension(name);
        }
        self.encode_parts(event, data, message)
    }

    fn parts(&self, message: &Message, fresh_id: &dyn Fn() -> String) -> Result<Parts, EncodeError> {
        match decode::decode(message, || self.wrapper.source(message)) {
            Ok(Some(parts)) => Ok(parts),
            Ok(None) => Ok(self.wrapper.wrap(message, fresh_id)?),
            Err(error) => {
                let parts = self.wrapper.wrap(message, fresh_id)?;
                let id = parts.event.id();
                let error = shown(&error.to_string());
                tracing::warn!(
                    error,
                    id = shown(id),
                    "The message claims to be a CloudEvent and cannot be read as one; sent as plain data"
                );
                Ok(parts)
            }
        }
    }

    fn encode_parts(
        &self,
        event: Event,
        data: Bytes,
        message: &Message,
    ) -> Result<EncodedEvent, EncodeError> {
        let id = event.id().to_owned();
        let source = event.source().clone();
        let kind = event.ty().to_owned();
        let time = event.time().map(|time| SystemTime::from(*time));
        let trace = TraceContext::of_event(&event).map(Box::new);
        let (mut headers, body) = match self.mode {
            Mode::Binary => (binary::headers(event)?, Body::Binary(data)),
            Mode::Structured => {
                let document = structured::Document::new(&event, data)?;
                let mut headers = Headers::default();
                headers.push(CONTENT_TYPE, HeaderValue::from_static(media_type::CLOUDEVENTS_JSON_UTF8));
                (headers, Body::Structured(document))
            }
        };
        if self.mode == Mode::Binary
            && let Some(text) = encoding::of(message).filter(|text| encoding::is_coding(text))
            && let Ok(value) = HeaderValue::from_str(text)
        {
            headers.push(CONTENT_ENCODING, value);
        }
        add_trace_context(&mut headers, message);
        if headers.bytes() > headers::MOST_BYTES {
            return Err(EncodeError::HeadTooLarge("tracestate".to_owned()));
        }
        // This leaves room for the extensions and the trace context of each attempt, so that adding
        // them cannot fail later.
        if !headers.fit_beside(extension::PER_ATTEMPT.len() + TRACE_HEADERS.len()) {
            return Err(EncodeError::TooManyHeaders);
        }
        Ok(EncodedEvent { id, source, kind, time, trace, headers, body })
    }
}

/// Sets the record's place, as Knative's Kafka source does even for CloudEvents.
fn position(event: &mut Event, message: &Message) {
    if let Origin::Kafka(origin) = &message.origin {
        event.set_extension("knativekafkapartition", i64::from(origin.partition));
        event.set_extension("knativekafkaoffset", origin.offset);
    }
}

fn add_trace_context(headers: &mut Headers, message: &Message) {
    for name in TRACE_HEADERS {
        let text = message.header(name.as_str()).and_then(|value| value.as_text());
        if let Some(value) = text.and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.push(name, value);
        }
    }
}
