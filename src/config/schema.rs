//! The JSON Schema of the configuration file, made from the types.

use schemars::Schema;
use serde_json::{Value, json};

use super::types::Config;

/// Returns the JSON Schema (2020-12) of the whole file.
///
/// `config/schema.json` is a copy for editors: `longhaul schema > config/schema.json`.
pub fn schema() -> Value {
    schemars::schema_for!(Config).into()
}

/// Requires exactly one broker.
pub(super) fn one_broker(schema: &mut Schema) {
    exactly_one(schema, &["rabbitmq", "kafka"]);
}

/// Requires exactly one broker or service.
pub(super) fn one_target(schema: &mut Schema) {
    exactly_one(schema, &["rabbitmq", "kafka", "http"]);
}

/// Requires either `queue` (through the default exchange) or `exchange`.
pub(super) fn one_destination(schema: &mut Schema) {
    exactly_one(schema, &["queue", "exchange"]);
}

/// Requires either a DNS name or a list of addresses.
pub(super) fn one_discovery(schema: &mut Schema) {
    exactly_one(schema, &["dns", "addresses"]);
}

fn exactly_one(schema: &mut Schema, keys: &[&str]) {
    let alternatives = keys.iter().map(|key| json!({ "required": [key] })).collect();
    schema.insert("oneOf".into(), Value::Array(alternatives));
}

#[cfg(test)]
mod tests;
