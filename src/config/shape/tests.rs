use std::collections::BTreeSet;

use serde_json::Value;

use crate::config::schema;

/// Checked, or mere description. `format` and `x-…` are ours.
const KNOWN: [&str; 25] = [
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

fn keywords(schema: &Value, found: &mut BTreeSet<String>) {
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        found.insert(keyword.clone());
        match keyword.as_str() {
            "properties" | "$defs" => {
                value.as_object().into_iter().flatten().for_each(|(_, it)| keywords(it, found))
            }
            "items" | "additionalProperties" => keywords(value, found),
            "oneOf" | "anyOf" => value.as_array().into_iter().flatten().for_each(|it| keywords(it, found)),
            _ => {}
        }
    }
}

#[test]
fn the_schema_uses_no_keyword_that_is_not_checked() {
    let mut found = BTreeSet::new();
    keywords(&schema(), &mut found);
    let unknown: Vec<_> = found.iter().filter(|keyword| !KNOWN.contains(&keyword.as_str())).collect();
    assert!(unknown.is_empty(), "teach shape.rs these: {unknown:?}");
    assert!(found.contains("pattern") && found.contains("oneOf"), "{found:?}");
}
