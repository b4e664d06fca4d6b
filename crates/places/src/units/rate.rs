//! How often something may happen.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::UnitError;

/// A number of times within a second, minute, hour or day: `5/s`, `30/m`, `1000/h`, `1/d`. A day
/// has 24 hours. The number is 1 to 1,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    count: NonZeroU32,
    per: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
}

const COUNT_MAX: u32 = 1_000_000;

impl Unit {
    const ALL: [Unit; 4] = [Unit::Second, Unit::Minute, Unit::Hour, Unit::Day];

    fn letter(self) -> &'static str {
        match self {
            Unit::Second => "s",
            Unit::Minute => "m",
            Unit::Hour => "h",
            Unit::Day => "d",
        }
    }

    fn length(self) -> Duration {
        Duration::from_secs(match self {
            Unit::Second => 1,
            Unit::Minute => 60,
            Unit::Hour => 3600,
            Unit::Day => 24 * 3600,
        })
    }
}

impl Rate {
    /// The time between two starts.
    pub fn start_every(self) -> Duration {
        self.per.length() / self.count.get()
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let help = || "write a number from 1 to 1000000, `/`, and s, m, h or d, such as 30/m".to_owned();
        let wrong = || UnitError { reason: format!("`{text}` is not a rate"), help: help() };
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let per = Unit::ALL.into_iter().find(|one| one.letter() == unit.trim()).ok_or_else(wrong)?;
        let digits = count.trim();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let count = digits.parse().ok().filter(|count: &NonZeroU32| count.get() <= COUNT_MAX);
        let count = count.ok_or_else(|| UnitError {
            reason: format!("`{digits}` in `{text}` is not from 1 to {COUNT_MAX}"),
            help: help(),
        })?;
        Ok(Rate { count, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.count, self.per.letter())
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Rate {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "rate", "examples": ["30/m", "5/s"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        for (text, every) in [
            ("30/m", Duration::from_secs(2)),
            ("5 / s", Duration::from_millis(200)),
            ("1000/h", Duration::from_millis(3600)),
            ("1/d", Duration::from_secs(86_400)),
            ("1000000/s", Duration::from_micros(1)),
        ] {
            assert_eq!(text.parse().map(Rate::start_every), Ok(every), "{text}");
        }
        assert_eq!("30/m".parse::<Rate>().unwrap().to_string(), "30/m");
    }

    #[test]
    fn a_refused_rate_says_what_to_write() {
        for text in ["30", "30/min", "/m", "1.5/s", "-1/s", "30m", ""] {
            let error = text.parse::<Rate>().unwrap_err();
            assert_eq!(error.reason, format!("`{text}` is not a rate"));
            assert!(error.help.contains("30/m"), "{error:?}");
        }
        for text in ["0/m", "1000001/s", "99999999999/h"] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(error.reason.contains("is not from 1 to 1000000"), "{error:?}");
        }
    }
}
