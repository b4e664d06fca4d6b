//! Reads a CloudEvent in an HTTP answer (CloudEvents HTTP binding 1.0.2).

use cloudevents::message::MessageAttributeValue;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::DecodeError;
use super::attributes::Attributes;
use crate::event::{extension, media_type};

/// Returns the attributes in the headers; `None` without `ce-specversion`.
pub(super) fn attributes(headers: &HeaderMap) -> Result<Option<Attributes>, DecodeError> {
    let Some(version) = headers.get("ce-specversion") else { return Ok(None) };
    let mut attributes = Attributes::new(version.to_str().unwrap_or_default().trim())?;
    for (name, value) in headers {
        if let Some(attribute) = name.as_str().strip_prefix("ce-") {
            let text = decode_value(value).ok_or_else(|| DecodeError::Header(name.to_string()))?;
            attributes.push(attribute, MessageAttributeValue::String(text));
        }
    }
    if let Some(content_type) = content_type(headers) {
        attributes.push("datacontenttype", MessageAttributeValue::String(content_type.to_owned()));
    }
    Ok(Some(attributes))
}

/// Returns the attributes and extensions of an event in binary mode, `specversion` included, as
/// names and texts. The texts are the sender's: a time keeps its digits. Names that no attribute
/// can have are left out.
pub fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let attribute = |(name, value): (&HeaderName, &HeaderValue)| {
        let name = name.as_str().strip_prefix("ce-").filter(|name| extension::is_valid(name))?;
        Some((name.to_owned(), decode_value(value)?))
    };
    headers.iter().filter_map(attribute).collect()
}

/// Whether the body is, or claims to be, an event in one document.
pub fn is_structured(headers: &HeaderMap) -> bool {
    content_type(headers).is_some_and(media_type::claims_cloudevents)
}

pub(super) fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()
}

/// Removes the quotes that older senders used, and decodes percent-encoding once (section 3.1.3.2).
/// Refuses bytes that are not UTF-8, including overlong forms.
fn decode_value(value: &HeaderValue) -> Option<String> {
    let text = std::str::from_utf8(value.as_bytes()).ok()?.trim();
    let quoted = text.len() >= 2 && text.starts_with('"') && text.ends_with('"');
    let plain = if quoted { unquote(&text[1..text.len() - 1]) } else { text.to_owned() };
    percent_decode_str(&plain).decode_utf8().ok().map(|decoded| decoded.into_owned())
}

fn unquote(inner: &str) -> String {
    let mut characters = inner.chars();
    let mut plain = String::with_capacity(inner.len());
    while let Some(character) = characters.next() {
        let kept = if character == '\\' { characters.next() } else { Some(character) };
        plain.extend(kept);
    }
    plain
}
