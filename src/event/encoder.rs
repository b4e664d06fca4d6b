//! The one place where a message becomes an event: once per item, however many attempts follow.

use std::collections::BTreeMap;

use bytes::Bytes;
use cloudevents::{AttributesReader, Event};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use uuid::Uuid;

use super::decode::{self, Parts};
use super::encoded::{Body, EncodedEvent};
use super::extension::{self, NameError, Overrides};
use super::headers::{self, Headers};
use super::message::{Message, Origin};
use super::wrap::Wrapper;
use super::{binary, decode::shown, encoding, media_type, structured};
use crate::config::{self, Mode};

/// Trace context that goes from the message to the request unchanged; no other header of the broker
/// does.
const TRACE_HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];

/// Makes the events of one pipeline.
#[derive(Clone, Debug)]
pub struct Encoder {
    mode: Mode,
    wrapper: Wrapper,
    /// Set on every event, in place of its own of the same names.
    extensions: BTreeMap<String, String>,
}

/// What an [`Encoder`] is made from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Kubernetes namespace, for attribute `source`.
    pub namespace: String,
    /// Name of the pipeline, for attribute `source`.
    pub name: String,
    pub mode: Mode,
    pub event: config::Event,
    /// From `K_CE_OVERRIDES`; they win over `event.extensions`, as the control plane's word.
    pub overrides: Overrides,
}

/// What is wrong with [`Settings`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("event.extensions: {0}")]
    Extension(#[from] NameError),
    #[error("event.{0} is empty; leave the key out for the default")]
    Empty(&'static str),
}

/// Why an item can't be made into a request. A later attempt would fail in the same way.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("the attributes can't be made into headers: {0}")]
    Headers(#[from] cloudevents::message::Error),
    /// A request holds 24,576; the brokers set no such bound.
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
    /// # Errors
    /// When an extension can't have its name, or an attribute that is required would be empty.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        let config::Event { r#type: kind, source, subject, mut extensions } = settings.event;
        for (key, value) in [("type", &kind), ("source", &source), ("subject", &subject)] {
            if value.as_ref().is_some_and(String::is_empty) {
                return Err(SettingsError::Empty(key));
            }
        }
        for name in extensions.keys() {
            extension::check(name)?;
        }
        extensions.extend(settings.overrides.into_map());
        let wrapper = Wrapper { namespace: settings.namespace, name: settings.name, kind, source, subject };
        Ok(Encoder { mode: settings.mode, wrapper, extensions })
    }

    /// Attribute `id` of the event, also of a message that no event can be made of.
    pub fn id(&self, message: &Message, fresh_id: &dyn Fn() -> String) -> String {
        match decode::decode(message, || self.wrapper.source(message)) {
            Ok(Some(parts)) => parts.event.id().to_owned(),
            Ok(None) | Err(_) => self.wrapper.id(message, fresh_id),
        }
    }

    /// Encodes an item. A message that claims to be a CloudEvent and can't be read as one is
    /// wrapped whole, with a warning.
    ///
    /// # Errors
    /// When the item has more headers than a request can have, in number or in bytes.
    pub fn encode(&self, message: &Message) -> Result<EncodedEvent, EncodeError> {
        self.encode_with_id(message, &|| Uuid::new_v4().to_string())
    }

    /// The same, with `fresh_id` for an item that came with no id of any kind.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
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
        for name in [extension::ATTEMPT, extension::REDELIVERED] {
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
        // Beside the two extensions of each attempt, so that adding them can't fail later.
        if !headers.fit_beside(2) {
            return Err(EncodeError::TooManyHeaders);
        }
        Ok(EncodedEvent { id, source, kind, headers, body })
    }
}

/// Knative's Kafka source gives every event its place, also those that were CloudEvents before.
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
