//! Structured mode: one CloudEvent as a JSON document (JSON event format 1.0.2, section 3).

use std::borrow::Cow;
use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use cloudevents::message::MessageAttributeValue;
use cloudevents::{AttributesReader, AttributesWriter, Event};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::attributes::Attributes;
use super::{DecodeError, Defect, Parts};
use crate::event::media_type;

/// Reads the document. JSON data stays in the bytes of the document, because reading and writing it
/// again would lose digits of large numbers. Members are kept as raw text until they are needed, so
/// their depth and form do not matter.
pub(super) fn decode(body: &Bytes) -> Result<(Parts, Vec<Defect>), DecodeError> {
    let Document { members, data } = serde_json::from_slice(body)?;
    let version = members.iter().rev().find(|(name, _)| name == "specversion");
    let (_, version) = version.ok_or(DecodeError::Missing("specversion"))?;
    let mut attributes = Attributes::new(&text("specversion", version)?)?;
    let mut base64 = None;
    for (name, json) in &members {
        match name.as_ref() {
            "specversion" => {}
            "data_base64" => base64 = Some(json).filter(|json| json.get() != "null"),
            "id" | "source" | "type" => {
                attributes.push(name, MessageAttributeValue::String(text(name, json)?))
            }
            name => match value(json) {
                Ok(value) => value.into_iter().for_each(|value| attributes.push(name, value)),
                Err(reason) => attributes.leave_out(name, json.get(), reason),
            },
        }
    }
    let (mut event, defects) = attributes.into_event()?;
    let data = match (data, base64) {
        (Some(_), Some(_)) => return Err(DecodeError::TwoData),
        (Some(json), None) => inline_data(&mut event, json, body)?,
        (None, Some(json)) => Bytes::from(BASE64_STANDARD.decode(text("data_base64", json)?)?),
        (None, None) => Bytes::new(),
    };
    Ok((Parts { event, data }, defects))
}

fn text(name: &str, json: &RawValue) -> Result<String, DecodeError> {
    serde_json::from_str(json.get()).map_err(|_| DecodeError::NotText(name.to_owned()))
}

/// Converts a member to the type of an attribute; `None` for null, which counts as a missing member
/// (section 3.1).
fn value(json: &RawValue) -> Result<Option<MessageAttributeValue>, &'static str> {
    let text = json.get();
    Ok(Some(match text.as_bytes().first() {
        Some(b'n') => return Ok(None),
        Some(b't') => MessageAttributeValue::Boolean(true),
        Some(b'f') => MessageAttributeValue::Boolean(false),
        Some(b'"') => {
            let decoded = serde_json::from_str(text).map_err(|_| "not valid Unicode")?;
            MessageAttributeValue::String(decoded)
        }
        Some(b'{' | b'[') => return Err("an object or a list is not a value of an attribute"),
        _ => MessageAttributeValue::Integer(text.parse().map_err(|_| "a number has to be an integer")?),
    }))
}

/// Returns the member `data` as a binary-mode body. A string under a type that is not JSON is text,
/// and everything else is JSON. Data without a type is JSON too, so the type is set, because the
/// body no longer shows it (section 3.1).
fn inline_data(event: &mut Event, json: &RawValue, body: &Bytes) -> Result<Bytes, DecodeError> {
    let is_json = event.datacontenttype().is_none_or(media_type::is_json);
    if event.datacontenttype().is_none() {
        event.set_datacontenttype(Some("application/json"));
    }
    let text = json.get();
    if !is_json && text.starts_with('"') {
        return Ok(Bytes::from(serde_json::from_str::<String>(text)?));
    }
    Ok(body.slice_ref(text.as_bytes()))
}

/// The document, with all values as raw text.
struct Document<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    data: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Document<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a CloudEvent as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut document = Document { members: Vec::new(), data: None };
        while let Some(name) = members.next_key::<Cow<'de, str>>()? {
            let json = members.next_value::<&RawValue>()?;
            if name == "data" {
                document.data = Some(json).filter(|json| json.get() != "null");
            } else {
                document.members.push((name, json));
            }
        }
        Ok(document)
    }
}
