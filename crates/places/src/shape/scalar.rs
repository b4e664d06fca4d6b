//! The kinds of scalars, by the core schema of YAML 1.2.2, section 10.3.2. There `yes`, `no`, `on`
//! and `off` are text.

use serde_json::{Number, Value};

#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    Null,
    Boolean(bool),
    Integer(Number),
    Float(f64),
    Text(String),
}

impl Scalar {
    /// Reads text that is written without quotes.
    pub fn plain(text: &str) -> Scalar {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
            "true" | "True" | "TRUE" => Scalar::Boolean(true),
            "false" | "False" | "FALSE" => Scalar::Boolean(false),
            _ => number(text).unwrap_or_else(|| Scalar::Text(text.to_owned())),
        }
    }

    pub fn is_null(&self) -> bool {
        *self == Scalar::Null
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Scalar::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the name of the type in JSON Schema.
    pub fn json_type(&self) -> &'static str {
        match self {
            Scalar::Null => "null",
            Scalar::Boolean(_) => "boolean",
            Scalar::Integer(_) => "integer",
            Scalar::Float(_) => "number",
            Scalar::Text(_) => "string",
        }
    }

    /// Returns the name of the kind for a person.
    pub fn kind(&self) -> &'static str {
        match self {
            Scalar::Null => "nothing",
            Scalar::Boolean(_) => "a boolean",
            Scalar::Integer(_) | Scalar::Float(_) => "a number",
            Scalar::Text(_) => "text",
        }
    }

    pub fn into_json(self) -> Value {
        match self {
            Scalar::Null => Value::Null,
            Scalar::Boolean(value) => value.into(),
            Scalar::Integer(number) => Value::Number(number),
            Scalar::Float(number) => number.into(),
            Scalar::Text(text) => text.into(),
        }
    }
}

fn number(text: &str) -> Option<Scalar> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok().map(|number| Scalar::Integer(number.into()));
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return u64::from_str_radix(digits, 8).ok().map(|number| Scalar::Integer(number.into()));
    }
    let unsigned = text.trim_start_matches(['-', '+']);
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    if let Ok(number) = text.parse::<u64>() {
        return Some(Scalar::Integer(number.into()));
    }
    if let Ok(number) = text.parse::<i64>() {
        return Some(Scalar::Integer(number.into()));
    }
    text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Scalar::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_core_schema_makes_numbers_and_booleans() {
        let integer = |number: i64| Scalar::Integer(number.into());
        for (text, expected) in [
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("True", Scalar::Boolean(true)),
            ("12", integer(12)),
            ("-3", integer(-3)),
            ("+3", integer(3)),
            ("007", integer(7)),
            ("0x1F", integer(31)),
            ("0o17", integer(15)),
            ("1.5e3", Scalar::Float(1500.0)),
        ] {
            assert_eq!(Scalar::plain(text), expected, "{text}");
        }
        for text in ["yes", "off", "30s", "1_000", "0b1", "nan", "inf", "-", ".", "1.2.3", "+", "--1"] {
            assert_eq!(Scalar::plain(text), Scalar::Text(text.into()), "{text}");
        }
    }
}
