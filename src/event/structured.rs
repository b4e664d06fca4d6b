//! Structured mode: the whole event in one JSON document (CloudEvents JSON event format 1.0.2).

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use chrono::SecondsFormat;
use cloudevents::event::AttributeValue;
use cloudevents::{AttributesReader, Event};
use serde::Serialize;
use serde_json::value::{RawValue, Value, to_raw_value};

use super::encoder::EncodeError;
use super::headers::MOST_BYTES;
use super::media_type;

/// The parts from which the document is written at each attempt. The data stays in the broker's own
/// buffer, because a stored document would be a second copy of it.
///
/// It is written by hand and not by the SDK's serializer, which knows data only as `Vec<u8>` and
/// would turn JSON from a broker into base64.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// The members without braces, each followed by a comma.
    attributes: Bytes,
    data: Bytes,
    form: Form,
}

/// The form of the data in the document (section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The event has no data.
    Absent,
    Json,
    Text,
    Base64,
}

impl Document {
    /// Makes the parts. Extensions are sorted, so that an event always gives the same document.
    ///
    /// # Errors
    /// The attributes are larger than headers may be.
    pub fn new(event: &Event, data: Bytes) -> Result<Self, EncodeError> {
        let mut attributes = Vec::with_capacity(512);
        for (name, value) in event.iter_attributes() {
            member(&mut attributes, name, &value)?;
        }
        let mut extensions: Vec<_> = event.iter_extensions().collect();
        extensions.sort_unstable_by_key(|(name, _)| *name);
        for (name, value) in extensions {
            member(&mut attributes, name, &AttributeValue::from(value))?;
            if attributes.len() > MOST_BYTES {
                return Err(EncodeError::HeadTooLarge(name.to_owned()));
            }
        }
        let (form, data) = form(event.datacontenttype().unwrap_or_default(), data);
        Ok(Document { attributes: attributes.into(), data, form })
    }

    /// Writes the document. Its first members are `start`, each followed by a comma.
    pub fn write(&self, start: &str) -> serde_json::Result<Bytes> {
        self.assemble(start, &self.attributes)
    }

    /// Writes the document with these members instead of its own of the same names.
    pub fn with_members(&self, members: &[(&str, Value)]) -> serde_json::Result<Bytes> {
        let own = self.attributes.strip_suffix(b",").unwrap_or_default();
        let own = [b"{", own, b"}"].concat();
        // Raw values keep every digit.
        let mut all: BTreeMap<&str, Box<RawValue>> = serde_json::from_slice(&own)?;
        for (name, value) in members {
            all.insert(name, to_raw_value(value)?);
        }
        let mut attributes = Vec::with_capacity(own.len() + 1024);
        for (name, value) in all {
            raw_member(&mut attributes, name, &value)?;
        }
        self.assemble("", &attributes)
    }

    fn assemble(&self, start: &str, attributes: &[u8]) -> serde_json::Result<Bytes> {
        let size = start.len() + attributes.len() + self.data.len() / 3 * 4 + 64;
        let mut document = Vec::with_capacity(size);
        document.push(b'{');
        document.extend_from_slice(start.as_bytes());
        document.extend_from_slice(attributes);
        match self.form {
            Form::Absent => {}
            Form::Json => {
                document.extend_from_slice(br#""data":"#);
                document.extend_from_slice(&self.data);
                document.push(b',');
            }
            Form::Text => raw_member(&mut document, "data", &*String::from_utf8_lossy(&self.data))?,
            Form::Base64 => raw_member(&mut document, "data_base64", &BASE64_STANDARD.encode(&self.data))?,
        }
        // Each member ends with a comma. The closing brace replaces the last one.
        document.pop();
        document.push(b'}');
        Ok(document.into())
    }
}

/// Chooses JSON for JSON, a string for text, and base64 for everything else. Readers take data
/// without a type for JSON, so it goes as base64, which means bytes under any type.
fn form(content_type: &str, data: Bytes) -> (Form, Bytes) {
    if data.is_empty() {
        return (Form::Absent, data);
    }
    let is_json = media_type::is_json(content_type);
    if is_json && let Ok(json) = serde_json::from_slice::<&RawValue>(&data) {
        let trimmed = data.slice_ref(json.get().as_bytes());
        return (Form::Json, trimmed);
    }
    let is_text = !is_json && media_type::is_text(content_type) && std::str::from_utf8(&data).is_ok();
    (if is_text { Form::Text } else { Form::Base64 }, data)
}

fn member(document: &mut Vec<u8>, name: &str, value: &AttributeValue<'_>) -> serde_json::Result<()> {
    match value {
        AttributeValue::Boolean(value) => raw_member(document, name, value),
        AttributeValue::Integer(value) => raw_member(document, name, value),
        AttributeValue::String(value) => raw_member(document, name, value),
        AttributeValue::URI(value) => raw_member(document, name, value.as_str()),
        AttributeValue::Time(value) => {
            raw_member(document, name, &value.to_rfc3339_opts(SecondsFormat::AutoSi, true))
        }
        other => raw_member(document, name, &other.to_string()),
    }
}

fn raw_member<T: Serialize + ?Sized>(
    document: &mut Vec<u8>,
    name: &str,
    value: &T,
) -> serde_json::Result<()> {
    serde_json::to_writer(&mut *document, name)?;
    document.push(b':');
    serde_json::to_writer(&mut *document, value)?;
    document.push(b',');
    Ok(())
}
