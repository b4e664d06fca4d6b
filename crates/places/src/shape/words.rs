//! Explains mistakes of type and value in plain words.

use regex::Regex;
use serde_json::Value;

use super::scalar::Scalar;
use crate::template::Template;
use crate::units::UnitError;

/// Returns reason and help for a value that has the right type and is still refused. `raw` is the
/// text in the file; only that may be shown.
pub(super) fn wrong_value(value: &Scalar, schema: &Value, raw: &str) -> Option<(String, String)> {
    match value {
        Scalar::Integer(number) => out_of_range(number.as_i128()?, schema, raw),
        Scalar::Text(text) => wrong_text(text, schema, raw),
        Scalar::Null | Scalar::Boolean(_) | Scalar::Float(_) => None,
    }
}

fn out_of_range(number: i128, schema: &Value, raw: &str) -> Option<(String, String)> {
    let of_format = match schema["format"].as_str() {
        Some("uint32") => Some(u32::MAX.into()),
        _ => None,
    };
    let minimum = schema["minimum"].as_i64().map(i128::from);
    let maximum = schema["maximum"].as_u64().map(i128::from).or(of_format);
    if minimum.is_none_or(|least| least <= number) && maximum.is_none_or(|most| number <= most) {
        return None;
    }
    let range = match (minimum, maximum) {
        (Some(least), Some(most)) => format!("from {least} to {most}"),
        (Some(least), None) => format!("of at least {least}"),
        (None, Some(most)) => format!("of at most {most}"),
        (None, None) => return None,
    };
    Some((format!("{} is out of range", quote(raw)), format!("write a number {range}")))
}

fn wrong_text(text: &str, schema: &Value, raw: &str) -> Option<(String, String)> {
    let choices = choices(schema);
    if !choices.is_empty() && !choices.contains(&text) {
        let help = match super::keys::nearest(text, choices.iter().copied()) {
            Some(near) => format!("did you mean `{near}`? The known values are {}", list(&choices)),
            None => format!("write one of {}", list(&choices)),
        };
        return Some((format!("{} is none of the known values", quote(raw)), help));
    }
    let length = text.chars().count() as u64;
    let least = schema["minLength"].as_u64().unwrap_or(0);
    if length < least {
        return Some(("the text is empty".into(), "write a text".into()));
    }
    if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
        return Some((format!("the text has {length} characters"), format!("write at most {most}")));
    }
    let pattern = schema["pattern"].as_str()?;
    let fits = Regex::new(pattern).is_ok_and(|regex| regex.is_match(text));
    let help = match schema["x-pattern-help"].as_str() {
        Some(help) => help.to_owned(),
        None => format!("write a text that fits {pattern}"),
    };
    (!fits).then(|| (format!("{} is not allowed here", quote(raw)), help))
}

/// Removes the value from the error of a duration or size if it must not be shown.
pub(super) fn without_value(error: UnitError, schema: &Value, shown: Option<&str>) -> UnitError {
    let expected = expected(schema);
    match shown {
        Some(raw) if Template::is_in(raw) => UnitError {
            reason: format!("{} is not {expected}", quote(raw)),
            help: format!("let it stand for {expected}"),
        },
        Some(_) => error,
        None => UnitError { reason: format!("this is not {expected}"), help: format!("write {expected}") },
    }
}

/// Returns reason and help for a value of the wrong type. `shown` is the value, if it may be shown.
pub(super) fn wrong_type(schema: &Value, kind: &str, shown: Option<&str>) -> (String, String) {
    let expected = expected(schema);
    let shown = shown.filter(|text| !text.is_empty());
    let got = shown.map_or_else(|| kind.to_owned(), |text| format!("{kind}, {}", quote(text)));
    let help = match (super::first_type(schema), shown) {
        ("string", Some(text)) if schema["format"] == "span" && kind == "a number" => {
            format!("write {text}s for seconds, {text}m for minutes or {text}h for hours")
        }
        ("string", Some(text)) if !text.contains('"') => format!("put it in quotes: \"{text}\""),
        ("string", None) if kind == "a number" || kind == "a boolean" => "put it in quotes".into(),
        ("array", Some(text)) if schema["items"]["type"] == "string" && !text.contains('"') => {
            format!("write [\"{text}\"]")
        }
        ("array", None) if kind == "a mapping" => "start each entry with `- `".into(),
        ("object", _) if !known_keys(schema).is_empty() => {
            format!("write its keys under it; known are {}", list(&known_keys(schema)))
        }
        ("boolean", Some("yes" | "on" | "Yes" | "On")) => "write true".into(),
        ("boolean", Some("no" | "off" | "No" | "Off")) => "write false".into(),
        ("integer", Some(text)) if Scalar::plain(text).json_type() == "integer" => "remove the quotes".into(),
        _ => format!("write {expected}"),
    };
    (format!("expected {expected}, got {got}"), help)
}

/// Returns the values of an enum. With descriptions schemars writes them as `oneOf` constants.
pub(super) fn choices(schema: &Value) -> Vec<&str> {
    let names = schema["enum"].as_array().into_iter().flatten();
    let described = schema["oneOf"].as_array().into_iter().flatten().map(|choice| &choice["const"]);
    names.chain(described).filter_map(Value::as_str).collect()
}

/// Returns the keys that a mapping may have.
pub(super) fn known_keys(schema: &Value) -> Vec<&str> {
    schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}

fn expected(schema: &Value) -> String {
    let choices = choices(schema);
    if !choices.is_empty() {
        return format!("one of {}", list(&choices));
    }
    match (super::first_type(schema), schema["format"].as_str()) {
        (_, Some("span")) => "a duration such as 30s or 1h 30m",
        (_, Some("byte-count")) => "a size such as 16MiB",
        ("string", _) => "text",
        ("integer", _) => "a whole number",
        ("boolean", _) => "true or false",
        ("array", _) => "a list",
        _ => "a mapping (keys with values)",
    }
    .into()
}

/// `a`, `b` and `c`.
pub(super) fn list(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// Quotes the value as in the file, shortened. A placeholder stays as written and is not expanded.
fn quote(raw: &str) -> String {
    const SHOWN_MAX: usize = 60;
    let origin = if Template::is_in(raw) { "what this stands for: " } else { "" };
    let line = raw.lines().next().unwrap_or_default();
    let short: String = line.chars().take(SHOWN_MAX).collect();
    let rest = if short.len() < raw.trim_end().len() { "…" } else { "" };
    format!("{origin}`{short}{rest}`")
}
