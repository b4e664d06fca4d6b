use std::collections::BTreeSet;

use longhaul_places::shape::KEYWORDS;
use serde_json::Value;

#[test]
fn the_checked_in_schema_is_fresh() {
    let generated = format!("{:#}\n", super::schema());
    let checked_in = include_str!("../../../config/schema.json");
    assert!(generated == checked_in, "stale: run `cargo run -- schema > config/schema.json`");
}

#[test]
fn the_schema_uses_no_keyword_that_is_not_checked() {
    let mut found = BTreeSet::new();
    keywords(&super::schema(), &mut found);
    let unknown: Vec<_> = found.iter().filter(|keyword| !KEYWORDS.contains(&keyword.as_str())).collect();
    assert!(unknown.is_empty(), "teach the shape module of longhaul-places these: {unknown:?}");
    assert!(found.contains("pattern") && found.contains("oneOf"), "{found:?}");
}

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
