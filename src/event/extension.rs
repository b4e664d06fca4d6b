//! Checks the names of extension attributes, and reads the extensions that a SinkBinding sets on
//! every event.

use std::collections::BTreeMap;

use serde_json::Value;

/// The extensions that every event gets: the number of the attempt, and whether the broker had
/// handed the item over before.
pub(super) const ATTEMPT: &str = "attempt";
pub(super) const REDELIVERED: &str = "redelivered";
/// The address for reports on this attempt.
pub(super) const PROGRESS_URL: &str = "progressurl";
/// The checkpoint that the previous attempt left.
pub(super) const CHECKPOINT: &str = "checkpoint";

pub(super) const PER_ATTEMPT: [&str; 4] = [ATTEMPT, REDELIVERED, PROGRESS_URL, CHECKPOINT];

/// The extensions from `K_CE_OVERRIDES`. They are set on every event and replace its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(BTreeMap<String, String>);

/// The reason why an extension cannot have this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// CloudEvents 1.0.2, section 3.1: lower-case letters and digits only.
    #[error("{0:?} is not a name for an extension: only a to z and 0 to 9 are allowed")]
    Characters(String),
    #[error("{0:?} is an attribute of its own and can't be set as an extension")]
    Reserved(String),
}

/// The reason why `K_CE_OVERRIDES` was refused.
#[derive(Debug, thiserror::Error)]
pub enum OverridesError {
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("expected {{\"extensions\": {{\"name\": \"value\"}}}}, got {0}")]
    Shape(String),
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Overrides {
    /// Reads the value of `K_CE_OVERRIDES`. Knative sets an empty value if there is nothing to
    /// override, which gives no extension.
    ///
    /// # Errors
    /// The text is not `{"extensions": {…}}` with strings as values, or a name is illegal.
    pub fn parse(text: &str) -> Result<Self, OverridesError> {
        if text.trim().is_empty() {
            return Ok(Overrides::default());
        }
        let Value::Object(mut document) = serde_json::from_str(text)? else {
            return Err(OverridesError::Shape(text.to_owned()));
        };
        let members = match document.remove("extensions") {
            None | Some(Value::Null) => return Ok(Overrides::default()),
            Some(Value::Object(members)) => members,
            Some(other) => return Err(OverridesError::Shape(other.to_string())),
        };
        let mut extensions = BTreeMap::new();
        for (name, value) in members {
            let Value::String(value) = value else {
                return Err(OverridesError::Shape(format!("{value} as the value of {name:?}")));
            };
            check(&name)?;
            extensions.insert(name, value);
        }
        Ok(Overrides(extensions))
    }

    pub(super) fn into_map(self) -> BTreeMap<String, String> {
        self.0
    }
}

/// Whether an extension may have this name.
pub(super) fn check(name: &str) -> Result<(), NameError> {
    if !is_valid(name) {
        return Err(NameError::Characters(name.to_owned()));
    }
    if is_reserved(name) {
        return Err(NameError::Reserved(name.to_owned()));
    }
    Ok(())
}

/// Whether a name has only the characters that attribute names may have.
pub(super) fn is_valid(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn is_reserved(name: &str) -> bool {
    matches!(
        name,
        "specversion"
            | "id"
            | "source"
            | "type"
            | "subject"
            | "time"
            | "datacontenttype"
            | "dataschema"
            | "data"
    ) || is_per_attempt(name)
}

/// Whether longhaul sets this extension again at each attempt.
pub(super) fn is_per_attempt(name: &str) -> bool {
    PER_ATTEMPT.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_read_as_a_sink_binding_writes_them() {
        let overrides = Overrides::parse(r#"{"extensions":{"team":"ops","region":"eu-1"}}"#).unwrap();
        let map = overrides.into_map();
        assert_eq!(map.get("team").map(String::as_str), Some("ops"));
        assert_eq!(map.len(), 2);
        for nothing in ["", "  ", "{}", r#"{"extensions":null}"#, r#"{"extensions":{}}"#] {
            assert_eq!(Overrides::parse(nothing).unwrap(), Overrides::default(), "{nothing}");
        }
    }

    #[test]
    fn mistakes_in_overrides_are_named() {
        let error = |text: &str| Overrides::parse(text).unwrap_err().to_string();
        assert!(error("{extensions").starts_with("not JSON: "), "{}", error("{extensions"));
        assert!(error("[]").contains("expected {\"extensions\""), "{}", error("[]"));
        assert!(error(r#"{"extensions":{"n":1}}"#).contains("1 as the value of \"n\""));
        assert!(error(r#"{"extensions":{"Team_A":"x"}}"#).contains("\"Team_A\" is not a name"));
        for reserved in
            ["id", "source", "type", "subject", "time", "data", "specversion", "attempt", "redelivered"]
        {
            let text = format!(r#"{{"extensions":{{"{reserved}":"x"}}}}"#);
            assert!(error(&text).contains("attribute of its own"), "{reserved}");
        }
    }
}
