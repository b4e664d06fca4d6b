//! Durations, sizes and rates as people write them.
//!
//! A bare number is refused for a duration: one program reads `timeout: 30` as seconds, another as
//! milliseconds. Days are refused because a day is not always 24 hours; [`jiff`] has the same rule.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod rate;

pub use rate::Rate;

/// A length of time from zero to a year (8760h): `30s`, `1h 30m`, `250ms`, or ISO 8601 as in
/// `PT30M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

/// A size in bytes: `16MiB`, `64KiB`, `1GiB` in powers of 1024, `1MB` in powers of 1000, or a plain
/// number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteCount(u64);

/// A text that is not a [`Span`], [`ByteCount`] or [`Rate`], and the text to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct UnitError {
    pub reason: String,
    pub help: String,
}

impl Span {
    /// The longest span. It is far longer than any request, and so short that adding it to a
    /// clock's time cannot overflow.
    pub const MAX: Span = Span::from_hours(8760);

    pub const fn from_millis(millis: u64) -> Self {
        Span(Duration::from_millis(millis))
    }

    pub const fn from_secs(seconds: u64) -> Self {
        Span(Duration::from_secs(seconds))
    }

    pub const fn from_hours(hours: u64) -> Self {
        Span(Duration::from_secs(hours * 3600))
    }

    pub const fn get(self) -> Duration {
        self.0
    }

    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(UnitError {
                reason: format!("`{text}` has no unit"),
                help: format!("write {text}s for seconds, {text}m for minutes or {text}h for hours"),
            });
        }
        let signed: SignedDuration = text.parse().map_err(|_| not_a_span(text))?;
        let duration = Duration::try_from(signed).map_err(|_| UnitError {
            reason: format!("`{text}` is negative"),
            help: "write a duration of zero or more, such as 30s".into(),
        })?;
        if duration > Span::MAX.0 {
            return Err(UnitError {
                reason: format!("`{text}` is more than {}, the most that is allowed", Span::MAX),
                help: "write a shorter duration, such as 4h".into(),
            });
        }
        Ok(Span(duration))
    }
}

fn not_a_span(text: &str) -> UnitError {
    UnitError {
        reason: format!("`{text}` is not a duration"),
        help: "write a number with h, m, s or ms, such as 30s, 1h 30m or 250ms (a day is 24h)".into(),
    }
}

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SignedDuration::try_from(self.0) {
            Ok(signed) => write!(formatter, "{signed:#}"),
            Err(_) => write!(formatter, "{}s", self.0.as_secs()),
        }
    }
}

/// The longest suffix comes first, because all of them end with `B`.
const UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

impl ByteCount {
    pub const fn from_kib(kib: u64) -> Self {
        ByteCount(kib << 10)
    }

    pub const fn from_mib(mib: u64) -> Self {
        ByteCount(mib << 20)
    }

    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteCount {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError {
            reason: format!("`{text}` is not a size"),
            help: "write a whole number of bytes, or one with KiB, MiB, GiB, kB, MB or GB, such as 16MiB"
                .into(),
        };
        let (digits, unit) = UNITS
            .iter()
            .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?.trim_end(), *unit)))
            .unwrap_or((text, 1));
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        bytes.map(ByteCount).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = UNITS[..3].iter().rev().find(|(_, unit)| self.0 != 0 && self.0.is_multiple_of(*unit));
        match binary {
            Some((suffix, unit)) => write!(formatter, "{}{suffix}", self.0 / unit),
            None => write!(formatter, "{}", self.0),
        }
    }
}

// === serde and schema ===

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ByteCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrNumber;
        impl Visitor<'_> for TextOrNumber {
            type Value = ByteCount;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a size such as 16MiB")
            }

            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<ByteCount, E> {
                Ok(ByteCount(bytes))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteCount, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(TextOrNumber)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for ByteCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Span {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    /// The format is not JSON Schema's `duration`: that allows only ISO 8601, and editors would
    /// refuse `4h`.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "span", "examples": ["30s", "1h 30m", "PT30M"] })
    }
}

impl JsonSchema for ByteCount {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ByteCount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"], "format": "byte-count", "minimum": 0, "examples": ["16MiB", 65536]
        })
    }
}

#[cfg(test)]
mod tests;
