//! Compares the tree with the JSON Schema, finds every mistake of shape, and keeps the correct
//! values.
//!
//! The validators on crates.io take twenty seconds to build. They report
//! `not valid under any of the schemas` at a JSON pointer, but a person needs the line, the likely
//! key and the text to write. The schema that schemars makes of our types uses few keywords, and a
//! test fails if it uses one that is not known here.

use serde_json::{Map, Value};

use crate::path::{self, Path};
use crate::report::Report;
use crate::template::{Env, Template};
use crate::units::{ByteCount, Rate, Span, UnitError};
use crate::yaml::{Content, Entry, Node};

mod keys;
mod scalar;
mod stray_secrets;
mod words;

pub use keys::nearest;
pub use scalar::Scalar;

/// The keywords of JSON Schema that this module checks, and those that only describe. `format` and
/// `x-…` are our own. A schema with any other keyword would be checked only in part, so compare
/// yours with this list in a test.
pub const KEYWORDS: [&str; 25] = [
    "$schema",
    "$defs",
    "$ref",
    "title",
    "description",
    "default",
    "examples",
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "oneOf",
    "anyOf",
    "const",
    "enum",
    "format",
    "minimum",
    "maximum",
    "minItems",
    "minLength",
    "maxLength",
    "pattern",
    "x-pattern-help",
    "minProperties",
];

/// Returns the tree as JSON from which the types of the configuration can always be read. A wrong
/// value is reported and left out. A required value that is wrong or missing is replaced by an
/// empty one, and its path is marked as spoilt in `report`. Placeholders are expanded, but not in
/// secrets, which only have to resolve.
pub fn check(root: &Node, schema: &Value, env: Env<'_>, report: &mut Report) -> Value {
    let mut walk = Walk { schema, env, report };
    let path = Path::default();
    walk.report.locate(&path, None, root.range);
    stray_secrets::hide(root, walk.report);
    walk.value(root, schema, &path).unwrap_or_else(|| walk.stand_in(schema))
}

struct Walk<'a> {
    schema: &'a Value,
    env: Env<'a>,
    report: &'a mut Report,
}

impl<'a> Walk<'a> {
    /// Returns the value as JSON. If it is wrong, reports that and returns `None`.
    fn value(&mut self, node: &Node, schema: &'a Value, path: &Path) -> Option<Value> {
        let schema = self.resolve(schema);
        let is_misplaced_text = schema["type"] == "object" && matches!(node.content, Content::Scalar { .. });
        if is_secret(schema) || is_misplaced_text {
            self.report.hide(node.range);
        }
        match &node.content {
            Content::Map(entries) if schema["type"] == "object" => {
                Some(self.object(node, entries, schema, path))
            }
            Content::List(items) if schema["type"] == "array" => Some(self.list(node, items, schema, path)),
            Content::Scalar { text, plain } => self.scalar(node, text, *plain, schema, path),
            Content::Map(entries) if is_any(schema) => {
                let pair = |entry: &Entry| {
                    Some((entry.key.clone(), self.value(&entry.value, schema, &path.key(&entry.key))?))
                };
                Some(Value::Object(entries.iter().filter_map(pair).collect()))
            }
            Content::List(items) if is_any(schema) => {
                let item = |(index, item)| self.value(item, schema, &path.item(index));
                Some(Value::Array(items.iter().enumerate().filter_map(item).collect()))
            }
            Content::Map(_) | Content::List(_) => {
                // Its parts have no schema, so any of them may be a secret, for example if
                // `headers:` is a list.
                self.report.hide(node.range);
                let kind = if matches!(node.content, Content::Map(_)) { "a mapping" } else { "a list" };
                self.wrong_type(node, schema, kind, None, path)
            }
        }
    }

    fn object(&mut self, node: &Node, entries: &[Entry], schema: &'a Value, path: &Path) -> Value {
        let mut object = Map::new();
        for Entry { key, key_range, value } in entries {
            let inner = path.key(key);
            if path::shown(key) != *key {
                self.report.hide(*key_range);
            }
            let Some(inner_schema) = keys::schema_of(schema, key) else {
                self.unknown_key(schema, entries, key, *key_range, path);
                self.report.hide(value.range);
                continue;
            };
            if !keys::is_required(schema, key) && self.is_left_out(value, inner_schema) {
                continue;
            }
            self.report.locate(&inner, Some(*key_range), value.range);
            if let Some(json) = self.value(value, inner_schema, &inner) {
                object.insert(key.clone(), json);
            }
        }
        self.exactly_one(node, schema, entries, path);
        for key in keys::required(schema).filter(|key| !object.contains_key(*key)).collect::<Vec<_>>() {
            if !entries.iter().any(|entry| entry.key == key) {
                self.missing_key(node, key, path);
            }
            object.insert(key.to_owned(), self.stand_in(&schema["properties"][key]));
        }
        Value::Object(object)
    }

    fn list(&mut self, node: &Node, items: &[Node], schema: &'a Value, path: &Path) -> Value {
        if (items.len() as u64) < schema["minItems"].as_u64().unwrap_or(0) {
            self.report.shape(node.range.start, path, "the list is empty", "write at least one entry");
        }
        let mut list = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let inner = path.item(index);
            self.report.locate(&inner, None, item.range);
            let json = self.value(item, &schema["items"], &inner);
            // A wrong item is replaced instead of left out, so that the paths of later items stay
            // right.
            list.push(json.unwrap_or_else(|| self.stand_in(&schema["items"])));
        }
        Value::Array(list)
    }

    fn scalar(
        &mut self,
        node: &Node,
        text: &str,
        plain: bool,
        schema: &'a Value,
        path: &Path,
    ) -> Option<Value> {
        let expanded = self.expand(node, text, path)?;
        // An expanded placeholder is a number only if text is not allowed here: a token of digits
        // is text.
        let keeps_text = !plain || (Template::is_in(text) && allows(schema, "string"));
        let value = if keeps_text { Scalar::Text(expanded) } else { Scalar::plain(&expanded) };
        // Text instead of a mapping may be a mapping without spaces after its colons, with secrets
        // in it.
        let is_hidden = is_secret(schema) || schema["type"] == "object" || self.report.hides(node.range);
        // Only the text of the file is shown: an expanded placeholder may be a secret in any place.
        let shown = (!is_hidden).then_some(text);
        if !is_any(schema) && (value.is_null() || !allows(schema, value.json_type())) {
            return self.wrong_type(node, schema, value.kind(), shown.filter(|_| !value.is_null()), path);
        }
        if let Some((reason, help)) = words::wrong_value(&value, schema, shown.unwrap_or("…")) {
            return self.wrong(node, path, reason, help);
        }
        let unit = match schema["format"].as_str() {
            Some("span") => value.as_text().and_then(|text| text.parse::<Span>().err()),
            Some("rate") => value.as_text().and_then(|text| text.parse::<Rate>().err()),
            Some("byte-count") => value.as_text().and_then(|text| text.parse::<ByteCount>().err()),
            _ => None,
        };
        if let Some(error) = unit {
            let UnitError { reason, help } = words::without_value(error, schema, shown);
            return self.wrong(node, path, reason, help);
        }
        if is_secret(schema) { Some(secret_json(&value, text)) } else { Some(value.into_json()) }
    }

    /// Returns the text with its placeholders expanded. Reports one that cannot be expanded.
    fn expand(&mut self, node: &Node, text: &str, path: &Path) -> Option<String> {
        if !Template::is_in(text) {
            return Some(text.to_owned());
        }
        let template = match text.parse::<Template>() {
            Ok(template) => template,
            Err(error) => {
                let help = "write ${env:NAME} or ${file:/path}, and $${ for a plain ${";
                return self.wrong(node, path, error.to_string(), help.into());
            }
        };
        match template.resolve(self.env) {
            Ok(expanded) => Some(expanded),
            Err(error) => self.wrong(node, path, error.to_string(), error.help()),
        }
    }

    fn wrong_type(
        &mut self,
        node: &Node,
        schema: &Value,
        kind: &str,
        shown: Option<&str>,
        path: &Path,
    ) -> Option<Value> {
        let (reason, help) = words::wrong_type(schema, kind, shown);
        self.wrong(node, path, reason, help)
    }

    fn wrong<T>(&mut self, node: &Node, path: &Path, reason: String, help: String) -> Option<T> {
        self.report.shape(node.range.start, path, reason, help);
        None
    }

    /// Whether a key counts as not given. A mapping or list without a value does, because that is
    /// the result of commenting out all lines under the key. Elsewhere `null` must be written: an
    /// empty `token:` must not mean "no token".
    fn is_left_out(&self, node: &Node, schema: &'a Value) -> bool {
        let Content::Scalar { text, plain: true } = &node.content else { return false };
        let resolved = self.resolve(schema);
        let is_container = matches!(first_type(resolved), "object" | "array");
        Scalar::plain(text).is_null() && (is_container || (!text.is_empty() && allows(resolved, "null")))
    }

    /// Follows a `$ref`, and takes the first schema of an `anyOf` with null: an optional key with
    /// null counts as left out.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let mut schema = schema;
        loop {
            if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
                schema = &self.schema["$defs"][name];
            } else if let Some(first) = schema["anyOf"].get(0) {
                schema = first;
            } else {
                return schema;
            }
        }
    }

    /// Returns the smallest value from which the type can be read.
    fn stand_in(&self, schema: &'a Value) -> Value {
        let schema = self.resolve(schema);
        if let Some(choice) = words::choices(schema).first() {
            return (*choice).into();
        }
        match first_type(schema) {
            "object" => {
                let pair = |key: &'a str| (key.to_owned(), self.stand_in(&schema["properties"][key]));
                Value::Object(keys::required(schema).map(pair).collect())
            }
            "array" => Value::Array(Vec::new()),
            "integer" => schema.get("minimum").cloned().unwrap_or_else(|| 0.into()),
            "boolean" => false.into(),
            _ => "".into(),
        }
    }
}

/// Numbers and booleans of options stay as they are; text stays unexpanded.
fn secret_json(value: &Scalar, text: &str) -> Value {
    match value {
        Scalar::Integer(_) | Scalar::Boolean(_) if !Template::is_in(text) => value.clone().into_json(),
        _ => text.into(),
    }
}

/// Whether the schema allows a type of JSON Schema.
fn allows(schema: &Value, name: &str) -> bool {
    schema["type"] == name
        || schema["type"].as_array().is_some_and(|types| types.iter().any(|kind| kind == name))
        || (name == "string" && !words::choices(schema).is_empty())
}

fn first_type(schema: &Value) -> &str {
    schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or_default()
}

fn is_null(node: &Node) -> bool {
    matches!(&node.content, Content::Scalar { text, plain: true } if Scalar::plain(text).is_null())
}

fn is_secret(schema: &Value) -> bool {
    schema["format"] == "secret"
}

/// Whether the schema is `true`, which allows any JSON.
fn is_any(schema: &Value) -> bool {
    schema.as_bool() == Some(true)
}
