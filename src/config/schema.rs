//! The JSON Schema of the configuration file, made from the types.

use schemars::Schema;
use serde_json::{Value, json};

use super::types::Config;

/// JSON Schema (2020-12) of the whole file.
///
/// `config/schema.json` holds it for editors: `longhaul schema > config/schema.json`.
pub fn schema() -> Value {
    schemars::schema_for!(Config).into()
}

/// Exactly one broker.
pub(super) fn one_broker(schema: &mut Schema) {
    exactly_one(schema, &["rabbitmq", "kafka"]);
}

/// Exactly one broker or service.
pub(super) fn one_target(schema: &mut Schema) {
    exactly_one(schema, &["rabbitmq", "kafka", "http"]);
}

/// Either a queue, through the default exchange, or an exchange.
pub(super) fn one_destination(schema: &mut Schema) {
    exactly_one(schema, &["queue", "exchange"]);
}

/// Either a name or a list.
pub(super) fn one_discovery(schema: &mut Schema) {
    exactly_one(schema, &["dns", "addresses"]);
}

fn exactly_one(schema: &mut Schema, keys: &[&str]) {
    let alternatives = keys.iter().map(|key| json!({ "required": [key] })).collect();
    schema.insert("oneOf".into(), Value::Array(alternatives));
}

#[cfg(test)]
mod tests;
