//! Checks for keys that are unknown, missing, or exclude each other.

use serde_json::Value;

use super::{Walk, is_null, words};
use crate::path::{self, Path};
use crate::yaml::{Entry, Node, Range};

/// Returns the schema of a key's value; `None` if the key is unknown.
pub(super) fn schema_of<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    let others = &schema["additionalProperties"];
    schema["properties"].get(key).or_else(|| (others.is_object() || others == true).then_some(others))
}

pub(super) fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

pub(super) fn is_required(schema: &Value, key: &str) -> bool {
    required(schema).any(|name| name == key)
}

/// Returns the keys of which exactly one must be given, written as `oneOf` with `required`.
fn alternatives(schema: &Value) -> Vec<&str> {
    let choices = schema["oneOf"].as_array().into_iter().flatten();
    choices.filter_map(|choice| choice["required"][0].as_str()).collect()
}

/// Returns the name that was probably meant. `maxInFlight` and `max-in-flight` give
/// `max_in_flight`.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.replace(['_', '-'], "").to_lowercase();
    let wanted = plain(name);
    let distance = |candidate: &&str| strsim::osa_distance(&wanted, &plain(candidate));
    known.min_by_key(distance).filter(|candidate| distance(candidate) <= 1 + wanted.chars().count() / 5)
}

impl Walk<'_> {
    pub(super) fn unknown_key(
        &mut self,
        schema: &Value,
        entries: &[Entry],
        key: &str,
        at: Range,
        path: &Path,
    ) {
        let inner = path.key(key);
        let known = words::known_keys(schema);
        let free = known.iter().copied().filter(|name| !entries.iter().any(|entry| entry.key == *name));
        let help = match nearest(key, free) {
            _ if key.contains(':') => "put a space behind the `:`".into(),
            Some(near) => {
                // The typing error explains the missing key, so that is not reported too.
                self.report.spoil(&path.key(near));
                format!("did you mean `{near}`?")
            }
            None if key == "<<" => {
                "YAML 1.2 has no merge keys; write the keys out, or use an alias for a whole value".into()
            }
            None => format!("known here are {}", words::list(&known)),
        };
        self.report.shape(at.start, &inner, format!("unknown key `{}`", path::shown(key)), help);
    }

    pub(super) fn missing_key(&mut self, node: &Node, key: &str, path: &Path) {
        let inner = path.key(key);
        if self.report.is_given(&inner) {
            return;
        }
        let place = if path.is_root() { "at the top of the file".into() } else { format!("in {path}") };
        self.report.shape(
            node.range.start,
            &inner,
            format!("the key `{key}` is missing"),
            format!("add `{key}:` {place}"),
        );
    }

    pub(super) fn exactly_one(&mut self, node: &Node, schema: &Value, entries: &[Entry], path: &Path) {
        let alternatives = alternatives(schema);
        if alternatives.is_empty() {
            return;
        }
        let given: Vec<_> = entries
            .iter()
            .filter(|entry| alternatives.contains(&entry.key.as_str()) && !is_null(&entry.value))
            .collect();
        let names = words::list(&alternatives).replace(" and ", " or ");
        match given.as_slice() {
            [] => {
                // If there is an unknown key, it was probably meant as one of these and is already
                // reported.
                if entries.iter().all(|entry| schema_of(schema, &entry.key).is_some()) {
                    let reason = format!("one of {names} must be given");
                    self.report.shape(node.range.start, path, reason, format!("add {names}"));
                }
            }
            [_] => {}
            [_, second, ..] => {
                let reason = format!("only one of {names} may be given");
                self.report.at(second.key_range.start, path, reason, "remove one of the two");
            }
        }
    }
}
