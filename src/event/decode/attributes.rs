//! A CloudEvent's attributes as they were found in headers, ready for a visitor of the SDK.

use cloudevents::event::SpecVersion;
use cloudevents::message::{BinaryDeserializer, BinarySerializer, MessageAttributeValue, Result};

use super::DecodeError;

/// Attributes and extensions of an event of specversion 1.0, in the order in which they were found.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    pairs: Vec<(String, MessageAttributeValue)>,
}

impl Attributes {
    /// # Errors
    /// When the version is another than 1.0.
    pub fn new(specversion: &str) -> std::result::Result<Self, DecodeError> {
        if specversion != SpecVersion::V10.as_str() {
            return Err(DecodeError::SpecVersion(specversion.to_owned()));
        }
        Ok(Attributes::default())
    }

    /// Adds one. An empty value of an optional attribute means that it is not set.
    pub fn push(&mut self, name: &str, value: MessageAttributeValue) {
        let name = name.to_ascii_lowercase();
        let optional = matches!(name.as_str(), "subject" | "time" | "dataschema" | "datacontenttype");
        if name == "specversion" || (optional && value == MessageAttributeValue::String(String::new())) {
            return;
        }
        self.pairs.push((name, value));
    }

    pub fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(known, _)| known == name)
    }
}

impl BinaryDeserializer for Attributes {
    fn deserialize_binary<R: Sized, V: BinarySerializer<R>>(self, visitor: V) -> Result<R> {
        let mut visitor = visitor.set_spec_version(SpecVersion::V10)?;
        let known = SpecVersion::V10.attribute_names();
        for (name, value) in self.pairs {
            visitor = if known.contains(&name.as_str()) {
                visitor.set_attribute(&name, value)?
            } else {
                visitor.set_extension(&name, value)?
            };
        }
        visitor.end()
    }
}
