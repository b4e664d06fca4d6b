//! Structured mode: one CloudEvent as a JSON document (JSON event format 1.0.2, section 3).

use std::borrow::Cow;
use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use cloudevents::event::SpecVersion;
use cloudevents::{AttributesReader, AttributesWriter, Event};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::{RawValue, Value};

use super::{DecodeError, Parts};
use crate::event::media_type;

/// Reads the document. Attributes go through the SDK; the data does not, which would read and write it anew and lose
/// digits of large numbers: JSON data stays the very bytes of the document.
pub(super) fn decode(body: &Bytes) -> Result<Parts, DecodeError> {
    let Document { mut attributes, data } = serde_json::from_slice(body)?;
    let base64 = attributes.remove("data_base64").filter(|value| !value.is_null());
    let mut event: Event = serde_json::from_value(Value::Object(attributes))?;
    if event.specversion() != SpecVersion::V10 {
        return Err(DecodeError::SpecVersion(event.specversion().to_string()));
    }
    let data = match (data, base64) {
        (Some(_), Some(_)) => return Err(DecodeError::TwoData),
        (Some(json), None) => inline_data(&mut event, json, body)?,
        (None, Some(text)) => Bytes::from(BASE64_STANDARD.decode(serde_json::from_value::<String>(text)?)?),
        (None, None) => Bytes::new(),
    };
    Ok(Parts { event, data })
}

/// The member `data` as a binary-mode body: a string under a type that is not JSON is text, all else is JSON. Without
/// a type the data is JSON, which has to be said once it leaves the document (section 3.1).
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

/// The document with its data left alone.
struct Document<'a> {
    attributes: serde_json::Map<String, Value>,
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
        let mut document = Document { attributes: serde_json::Map::new(), data: None };
        while let Some(name) = members.next_key::<Cow<'de, str>>()? {
            if name == "data" {
                // A null is as good as no member (section 3.1).
                document.data = Some(members.next_value::<&RawValue>()?).filter(|json| json.get() != "null");
            } else {
                document.attributes.insert(name.into_owned(), members.next_value()?);
            }
        }
        Ok(document)
    }
}
