//! Text that is built from environment variables and files, and is never printed.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::template::{Env, Template, TemplateError, process_env};

/// Text that may name environment variables and files: `${env:NAME}`, `${file:/path}`; `$${` stands
/// for `${`.
///
/// It is kept as written. [`Secret::resolve`] reads the variables and files each time, so a file
/// that is replaced while the program runs is noticed. `Debug` and errors show only the names.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Template);

/// A variable or file of a [`Secret`] that cannot be read.
pub type SecretError = crate::template::ResolveError;

impl Secret {
    /// Builds the whole text now. It reads files, so call it only where blocking on a local file is
    /// fine.
    pub fn resolve(&self) -> Result<String, SecretError> {
        self.resolve_with(&process_env)
    }

    /// Works like [`Secret::resolve`], with the given environment.
    pub fn resolve_with(&self, env: Env<'_>) -> Result<String, SecretError> {
        self.0.resolve(env)
    }

    /// Returns the files that it is read from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.files()
    }
}

impl FromStr for Secret {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        text.parse().map(Secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// Also accepts numbers and booleans, because librdkafka's options are written as
    /// `socket.nagle.disable: true`. The schema allows them only there.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Secret;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Secret, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Secret, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Secret, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Secret, E> {
                self.visit_str(if value { "true" } else { "false" })
            }
        }
        deserializer.deserialize_any(Text).map_err(D::Error::custom)
    }
}

impl Serialize for Secret {
    /// This exists for the defaults in the schema; no secret has a default.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("…")
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "secret" })
    }
}

/// The schema of a librdkafka option: a [`Secret`] that may also be written as a number or a
/// boolean.
pub struct OptionValue;

impl JsonSchema for OptionValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "OptionValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer", "boolean"], "format": "secret" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_and_serialize_show_nothing() {
        let secret: Secret = "amqp://guest:hunter2@localhost".parse().unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"…\"");
    }

    #[test]
    fn a_replaced_file_is_seen_at_the_next_resolve() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let secret: Secret = format!("Bearer ${{file:{}}}", file.display()).parse().unwrap();
        assert!(secret.resolve().unwrap_err().to_string().contains("token"));
        std::fs::write(&file, "one\n").unwrap();
        assert_eq!(secret.resolve().unwrap(), "Bearer one");
        std::fs::write(&file, "two\r\n").unwrap();
        assert_eq!(secret.resolve().unwrap(), "Bearer two");
        assert_eq!(secret.files().collect::<Vec<_>>(), [file.as_path()]);
    }

    #[test]
    fn options_may_be_numbers_and_booleans() {
        let read = |text| serde_json::from_str::<Secret>(text).unwrap().resolve().unwrap();
        assert_eq!((read("5"), read("true"), read("-1")), ("5".into(), "true".into(), "-1".into()));
    }
}
