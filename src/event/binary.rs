//! Binary mode: attributes as headers, the data as the body (CloudEvents HTTP binding 1.0.2,
//! section 3.1).
//!
//! The SDK's own HTTP binding neither percent-encodes values nor checks names; this one does both.

use std::borrow::Cow;

use chrono::SecondsFormat;
use cloudevents::Event;
use cloudevents::event::SpecVersion;
use cloudevents::message::{BinaryDeserializer, BinarySerializer, Error, MessageAttributeValue, Result};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::decode::shown;
use super::encoder::EncodeError;
use super::extension;
use super::headers::{Builder, Headers};

/// The characters that a header value must not contain as they are, besides everything that is not
/// ASCII: control characters, space, double quote and percent (HTTP binding 1.0.2, section
/// 3.1.3.2).
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Returns the attributes as headers. Events in this module never contain their data.
pub(super) fn headers(event: Event) -> std::result::Result<Headers, EncodeError> {
    event.deserialize_binary(HeaderWriter(Builder::new()))?.build()
}

/// Encodes any text as the value of a `ce-` header.
pub(super) fn header_value(text: &str) -> Result<HeaderValue> {
    let encoded = Cow::from(utf8_percent_encode(text, ENCODED));
    HeaderValue::try_from(encoded.as_ref()).map_err(other)
}

/// Returns attributes as the headers of an event of our own. Leaves out a value that cannot be a
/// header.
pub fn attribute_headers(attributes: &[(&str, &str)]) -> HeaderMap {
    let header = |(name, text): &(&str, &str)| {
        let name = HeaderName::try_from(format!("ce-{name}")).ok()?;
        Some((name, header_value(text).ok()?))
    };
    attributes.iter().filter_map(header).collect()
}

/// A visitor of the SDK that writes headers.
struct HeaderWriter(Builder);

impl HeaderWriter {
    fn add(mut self, name: HeaderName, value: MessageAttributeValue) -> Result<Self> {
        self.0.add(name, utf8_percent_encode(&text(value), ENCODED));
        Ok(self)
    }

    /// `Content-Type` is the only attribute that is not percent-encoded (section 3.1.1). A value
    /// that cannot be a header is left out, because the data matters more than its label.
    fn set_content_type(mut self, text: &str) -> Result<Self> {
        match HeaderValue::from_str(text) {
            Ok(_) => self.0.add(CONTENT_TYPE, [text]),
            Err(error) => {
                tracing::warn!(%error, attribute = "datacontenttype", value = shown(text), "The event is sent without one of its attributes: it cannot be a header");
            }
        }
        Ok(self)
    }
}

impl BinarySerializer<Builder> for HeaderWriter {
    fn set_spec_version(mut self, version: SpecVersion) -> Result<Self> {
        self.0.add(HeaderName::from_static("ce-specversion"), [version.as_str()]);
        Ok(self)
    }

    fn set_attribute(self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        let header = match name {
            "id" => HeaderName::from_static("ce-id"),
            "source" => HeaderName::from_static("ce-source"),
            "type" => HeaderName::from_static("ce-type"),
            "subject" => HeaderName::from_static("ce-subject"),
            "time" => HeaderName::from_static("ce-time"),
            "dataschema" => HeaderName::from_static("ce-dataschema"),
            "datacontenttype" => return self.set_content_type(&value.to_string()),
            _ => return Err(Error::UnknownAttribute { name: name.to_owned() }),
        };
        self.add(header, value)
    }

    fn set_extension(self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        if !extension::is_valid(name) {
            return Err(other(extension::NameError::Characters(name.to_owned())));
        }
        let header = HeaderName::try_from(format!("ce-{name}")).map_err(other)?;
        self.add(header, value)
    }

    fn end_with_data(self, _: Vec<u8>) -> Result<Builder> {
        self.end()
    }

    fn end(self) -> Result<Builder> {
        Ok(self.0)
    }
}

/// Returns the canonical text of a value (CloudEvents 1.0.2, section 3.2). Times end in `Z`.
fn text(value: MessageAttributeValue) -> String {
    match value {
        MessageAttributeValue::String(text) | MessageAttributeValue::UriRef(text) => text,
        MessageAttributeValue::Uri(url) => url.into(),
        MessageAttributeValue::DateTime(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        other => other.to_string(),
    }
}

pub(super) fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other { source: Box::new(error) }
}
