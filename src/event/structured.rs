//! Structured mode: the whole event as one JSON document (CloudEvents JSON event format 1.0.2).

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use chrono::SecondsFormat;
use cloudevents::event::AttributeValue;
use cloudevents::{AttributesReader, Event};
use serde::Serialize;
use serde_json::value::RawValue;

use super::media_type;

/// The document without its opening brace, which [`super::EncodedEvent::for_attempt`] puts in front together with the
/// extensions of the attempt.
///
/// Written by hand rather than with the SDK's serializer, which knows data only as `Vec<u8>` and would turn JSON from a
/// broker into base64. Extensions are sorted, so that an event has one form.
pub(super) fn document(event: &Event, data: &[u8]) -> serde_json::Result<Bytes> {
    let mut document = Vec::with_capacity(512 + data.len());
    for (name, value) in event.iter_attributes() {
        member(&mut document, name, &value)?;
    }
    let mut extensions: Vec<_> = event.iter_extensions().collect();
    extensions.sort_unstable_by_key(|(name, _)| *name);
    for (name, value) in extensions {
        member(&mut document, name, &AttributeValue::from(value))?;
    }
    if !data.is_empty() {
        write_data(&mut document, event.datacontenttype(), data)?;
    }
    // Every member has written a comma after itself; the last one's place is taken by the closing brace.
    document.pop();
    document.push(b'}');
    Ok(Bytes::from(document))
}

/// JSON as JSON, text as a string, all else as base64 (section 3.1). Data without a type is taken for JSON by readers,
/// so it goes as base64, which means bytes under any type.
fn write_data(document: &mut Vec<u8>, content_type: Option<&str>, data: &[u8]) -> serde_json::Result<()> {
    let content_type = content_type.unwrap_or_default();
    if media_type::is_json(content_type)
        && let Ok(json) = serde_json::from_slice::<&RawValue>(data)
    {
        return raw_member(document, "data", json);
    }
    if media_type::is_text(content_type)
        && !media_type::is_json(content_type)
        && let Ok(text) = std::str::from_utf8(data)
    {
        return raw_member(document, "data", text);
    }
    raw_member(document, "data_base64", &BASE64_STANDARD.encode(data))
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
