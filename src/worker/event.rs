//! Reads the CloudEvent of a request: attributes become variables, data becomes bytes.

use std::collections::BTreeMap;

use base64::Engine as _;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use percent_encoding::percent_decode;
use serde_json::Value;
use serde_json::value::RawValue;

/// The attributes by name, without the data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event(BTreeMap<String, String>);

impl Event {
    /// Reads the attributes of a request in binary mode. A request that is not a CloudEvent has
    /// only its content type.
    pub fn binary(headers: &HeaderMap) -> Self {
        let mut attributes = BTreeMap::new();
        for (name, value) in headers {
            let Some(name) = name.as_str().strip_prefix("ce-").filter(|name| is_name(name)) else { continue };
            attributes.insert(name.to_owned(), decoded(value.as_bytes()));
        }
        if let Some(kind) = headers.get(CONTENT_TYPE) {
            let kind = String::from_utf8_lossy(kind.as_bytes()).into_owned();
            attributes.insert("datacontenttype".to_owned(), kind);
        }
        Event(attributes)
    }

    /// Reads the attributes and the data of an event in structured mode.
    ///
    /// # Errors
    /// The reason why the body is not a CloudEvent.
    pub fn structured(body: &[u8]) -> Result<(Self, Vec<u8>), String> {
        let fields: BTreeMap<String, &RawValue> =
            serde_json::from_slice(body).map_err(|error| format!("not a CloudEvent in JSON: {error}"))?;
        let mut attributes = BTreeMap::new();
        for (name, value) in &fields {
            if !is_name(name) || name == "data" {
                continue;
            }
            match serde_json::from_str(value.get()) {
                Ok(Value::String(text)) => attributes.insert(name.clone(), text),
                Ok(Value::Null) => None,
                _ => attributes.insert(name.clone(), value.get().to_owned()),
            };
        }
        let event = Event(attributes);
        let data = data(&event, &fields)?;
        Ok((event, data))
    }

    pub fn is_structured(headers: &HeaderMap) -> bool {
        let kind = headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes().to_ascii_lowercase());
        kind.is_some_and(|kind| kind.starts_with(b"application/cloudevents+json"))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn set(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), value);
    }

    /// Returns the id for log lines.
    pub fn id(&self) -> &str {
        self.get("id").unwrap_or("-")
    }

    /// Returns `CE_ID`, `CE_TYPE` and so on. A variable cannot hold a NUL, so such a value is left
    /// out.
    pub fn variables(&self) -> impl Iterator<Item = (String, &str)> {
        let pairs = self.0.iter().filter(|(_, value)| !value.contains('\0'));
        pairs.map(|(name, value)| (format!("CE_{}", name.to_ascii_uppercase()), value.as_str()))
    }

    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether the data is JSON. Without a content type it counts as JSON.
    pub fn has_json(&self) -> bool {
        let Some(kind) = self.get("datacontenttype") else { return true };
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || kind == "text/json" || kind.ends_with("+json")
    }
}

fn data(event: &Event, fields: &BTreeMap<String, &RawValue>) -> Result<Vec<u8>, String> {
    if let Some(encoded) = fields.get("data_base64") {
        let text: String =
            serde_json::from_str(encoded.get()).map_err(|error| format!("`data_base64`: {error}"))?;
        return base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|error| format!("`data_base64`: {error}"));
    }
    let Some(raw) = fields.get("data") else { return Ok(Vec::new()) };
    if !event.has_json()
        && let Ok(text) = serde_json::from_str::<String>(raw.get())
    {
        return Ok(text.into_bytes());
    }
    Ok(raw.get().as_bytes().to_vec())
}

/// Whether the name uses only the alphabet of attribute names, so that a header cannot set another
/// variable.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Decodes percent-encoding, and removes the quotes of a quoted string.
fn decoded(value: &[u8]) -> String {
    let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    let bytes: Vec<u8> = match inner {
        None => percent_decode(value).collect(),
        Some(inner) => {
            let mut plain = Vec::new();
            let mut escaped = false;
            for &byte in inner {
                if byte == b'\\' && !escaped {
                    escaped = true;
                    continue;
                }
                escaped = false;
                plain.push(byte);
            }
            percent_decode(&plain).collect()
        }
    };
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_attributes_are_decoded() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ce-id", "a%20b%C3%BC"),
            ("ce-subject", "\"say \\\"x\\\"\""),
            ("ce-data_file", "/etc/passwd"),
            ("content-type", "text/plain"),
        ] {
            headers.insert(name, http::HeaderValue::from_static(value));
        }
        let event = Event::binary(&headers);
        let variables: Vec<_> = event.variables().collect();
        assert_eq!(
            variables,
            [
                ("CE_DATACONTENTTYPE".to_owned(), "text/plain"),
                ("CE_ID".to_owned(), "a bü"),
                ("CE_SUBJECT".to_owned(), "say \"x\""),
            ]
        );
    }

    #[test]
    fn structured_data_has_its_three_forms() {
        for (text, expected) in [
            (r#"{"id":"1","attempt":2,"data":{"a": 1}}"#, r#"{"a": 1}"#),
            (r#"{"id":"1","attempt":2,"datacontenttype":"text/plain","data":"x\n"}"#, "x\n"),
            (r#"{"id":"1","attempt":2,"data_base64":"aGk="}"#, "hi"),
            (r#"{"id":"1","attempt":2}"#, ""),
        ] {
            let (event, data) = Event::structured(text.as_bytes()).unwrap();
            assert_eq!(event.get("attempt"), Some("2"));
            assert_eq!(String::from_utf8(data).unwrap(), expected);
        }
        assert!(Event::structured(b"[]").is_err());
        assert!(Event::structured(br#"{"data_base64":"?"}"#).is_err());
    }
}
