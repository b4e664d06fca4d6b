//! Collects a CloudEvent's attributes from headers or from a document, and makes the event.

use chrono::{DateTime, Utc};
use cloudevents::event::{EventBuilder, EventBuilderV10, SpecVersion};
use cloudevents::message::MessageAttributeValue;
use cloudevents::{AttributesWriter, Event};
use url::Url;

use super::{DecodeError, Defect};
use crate::event::{extension, time};

/// The attributes and extensions of an event of specversion 1.0, in the order in which they were
/// found. If a name is repeated, the last value counts.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    pairs: Vec<(String, MessageAttributeValue)>,
    defects: Vec<Defect>,
}

impl Attributes {
    /// Starts with the version.
    ///
    /// # Errors
    /// The version is not 1.0.
    pub fn new(specversion: &str) -> Result<Self, DecodeError> {
        if specversion != SpecVersion::V10.as_str() {
            return Err(DecodeError::SpecVersion(specversion.to_owned()));
        }
        Ok(Attributes::default())
    }

    /// Adds an attribute. An empty value of an optional attribute means that it is not set.
    pub fn push(&mut self, name: &str, value: MessageAttributeValue) {
        let optional = matches!(name, "subject" | "time" | "dataschema" | "datacontenttype");
        if name == "specversion" || (optional && value == MessageAttributeValue::String(String::new())) {
            return;
        }
        self.pairs.push((name.to_owned(), value));
    }

    /// Records that an attribute cannot be kept.
    pub fn leave_out(&mut self, name: &str, value: &str, reason: impl ToString) {
        self.defects.push(Defect::new(name, value, reason));
    }

    pub fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(known, _)| known == name)
    }

    /// Returns the event, and the optional attributes that it cannot have.
    ///
    /// # Errors
    /// A required attribute is missing or empty: two such events could not be told apart.
    pub fn into_event(self) -> Result<(Event, Vec<Defect>), DecodeError> {
        let Attributes { pairs, mut defects } = self;
        let required = |wanted: &'static str| {
            let value =
                pairs.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value.to_string());
            match value {
                None => Err(DecodeError::Missing(wanted)),
                Some(value) if value.is_empty() => Err(DecodeError::Empty(wanted)),
                Some(value) => Ok(value),
            }
        };
        let builder = EventBuilderV10::new().id(required("id")?).source(required("source")?);
        let mut event =
            builder.ty(required("type")?).build().map_err(|error| DecodeError::Event(error.to_string()))?;
        for (name, value) in pairs {
            if let Err(reason) = set(&mut event, &name, value.clone()) {
                defects.push(Defect::new(&name, &value.to_string(), reason));
            }
        }
        Ok((event, defects))
    }
}

fn set(event: &mut Event, name: &str, value: MessageAttributeValue) -> Result<(), String> {
    match name {
        "id" | "source" | "type" => {}
        "subject" => drop(event.set_subject(Some(value.to_string()))),
        "datacontenttype" => drop(event.set_datacontenttype(Some(value.to_string()))),
        "time" => drop(event.set_time(Some(instant(value)?))),
        "dataschema" => {
            let url =
                Url::parse(&value.to_string()).map_err(|error| format!("not an absolute URI: {error}"))?;
            event.set_dataschema(Some(url));
        }
        "data" => return Err("this name is reserved for the data".to_owned()),
        name if !extension::is_valid(name) => {
            return Err("only a to z and 0 to 9 are allowed in a name".to_owned());
        }
        name => event.set_extension(name, value),
    }
    Ok(())
}

fn instant(value: MessageAttributeValue) -> Result<DateTime<Utc>, String> {
    let found = match value {
        MessageAttributeValue::DateTime(found) => found,
        MessageAttributeValue::Integer(number) => {
            let number = u64::try_from(number).ok();
            number.and_then(time::from_unix).ok_or("not a time between the years 1970 and 2200")?
        }
        text => {
            let parsed = DateTime::parse_from_rfc3339(&text.to_string());
            parsed.map_err(|error| format!("not a time of RFC 3339: {error}"))?.to_utc()
        }
    };
    // A time zone may move it beyond the years of RFC 3339.
    time::in_calendar(found).ok_or_else(|| "not within the years 0 to 9999".to_owned())
}
