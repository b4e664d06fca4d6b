//! The OpenAPI document, made from the types of [`crate::view`] and the table of calls below.

use axum::Json;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::view::{Change, Changed, Item, ItemList, ItemLog, Matched, Pipeline, PipelineList};

/// One call of the interface.
struct Call {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    /// Query parameters.
    query: &'static [&'static str],
    answer: fn(&mut SchemaGenerator) -> Value,
}

const FILTER: [&str; 4] = ["state", "reason", "older", "key"];

const CALLS: [Call; 16] = [
    Call {
        method: "get",
        path: "/api/v1/pipelines",
        summary: "All pipelines",
        query: &["replicas"],
        answer: schema::<PipelineList>,
    },
    Call {
        method: "get",
        path: "/api/v1/pipelines/{name}",
        summary: "One pipeline, with its last hour",
        query: &[],
        answer: schema::<Pipeline>,
    },
    Call {
        method: "get",
        path: "/api/v1/pipelines/{name}/items",
        summary: "The items that a filter selects",
        query: &["state", "reason", "older", "key", "limit", "after", "replicas"],
        answer: schema::<ItemList>,
    },
    Call {
        method: "post",
        path: "/api/v1/pipelines/{name}/items/{action}",
        summary: "Act on the items that a filter selects",
        query: &["state", "reason", "older", "key", "then", "dry_run"],
        answer: schema::<Matched>,
    },
    Call {
        method: "post",
        path: "/api/v1/pipelines/{name}/pause",
        summary: "Start nothing new",
        query: &[],
        answer: schema::<Changed>,
    },
    Call {
        method: "post",
        path: "/api/v1/pipelines/{name}/resume",
        summary: "End a pause or a drain, close the breaker, and start Kafka partitions without offsets",
        query: &["from"],
        answer: schema::<Changed>,
    },
    Call {
        method: "post",
        path: "/api/v1/pipelines/{name}/drain",
        summary: "Finish the running items, take no new ones, and leave the broker",
        query: &[],
        answer: schema::<Changed>,
    },
    Call {
        method: "post",
        path: "/api/v1/pipelines/{name}/limit",
        summary: "Bound the open requests until the next restart",
        query: &["max_in_flight"],
        answer: schema::<Changed>,
    },
    Call {
        method: "post",
        path: "/api/v1/pipelines/{name}/partitions/{topic}/{partition}/pause",
        summary: "Kafka: start nothing new of one partition",
        query: &[],
        answer: schema::<Changed>,
    },
    Call {
        method: "post",
        path: "/api/v1/pipelines/{name}/partitions/{topic}/{partition}/resume",
        summary: "Kafka: end the pause of one partition",
        query: &[],
        answer: schema::<Changed>,
    },
    Call {
        method: "post",
        path: "/api/v1/pipelines/{name}/partitions/{topic}/{partition}/skip",
        summary: "Kafka: settle one record without its work, with a dead letter unless then=drop",
        query: &["offset", "then", "dry_run"],
        answer: schema::<Changed>,
    },
    Call {
        method: "get",
        path: "/api/v1/items/{id}",
        summary: "One item, also a finished one while it is remembered",
        query: &["pipeline", "replicas"],
        answer: schema::<Item>,
    },
    Call {
        method: "get",
        path: "/api/v1/items/{id}/log",
        summary: "The log tail of an item",
        query: &["pipeline", "replicas"],
        answer: schema::<ItemLog>,
    },
    Call {
        method: "post",
        path: "/api/v1/items/{id}/{action}",
        summary: "Act on one item",
        query: &["pipeline", "then", "dry_run"],
        answer: schema::<Matched>,
    },
    Call {
        method: "get",
        path: "/api/v1/events",
        summary: "Every change, as server-sent events of this type",
        query: &[],
        answer: schema::<Change>,
    },
    Call {
        method: "post",
        path: "/api/v1/progress/{token}",
        summary: "The report of a worker on its running attempt",
        query: &[],
        answer: |_| Value::Null,
    },
];

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

/// The document.
pub fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    "/components/schemas".clone_into(settings.definitions_path.to_mut());
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for call in &CALLS {
        let answer = (call.answer)(&mut generator);
        let success = if answer.is_null() {
            json!({ "204": { "description": "taken" } })
        } else {
            let media = if call.path.ends_with("/events") { "text/event-stream" } else { "application/json" };
            json!({ "200": { "description": "success", "content": { media: { "schema": answer } } } })
        };
        let operation = json!({
            "summary": call.summary,
            "parameters": parameters(call),
            "responses": success,
            "security": if call.method == "post" { json!([{ "token": [] }]) } else { json!([{}, { "token": [] }]) },
        });
        let path = paths.entry(call.path).or_insert_with(|| json!({}));
        path[call.method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "longhaul",
            "description": "Pipelines and items of a bridge. docs/api.md explains them.",
            "version": "1",
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(false),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn parameters(call: &Call) -> Vec<Value> {
    let in_path =
        call.path.split(['{', '}']).skip(1).step_by(2).map(
            |name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }),
        );
    let in_query = call.query.iter().map(|name| {
        let kind = match *name {
            "limit" | "max_in_flight" | "offset" => "integer",
            "dry_run" => "boolean",
            _ => "string",
        };
        let is_filter = FILTER.contains(name);
        let description = if is_filter { "A part of the filter" } else { "" };
        json!({ "name": name, "in": "query", "description": description, "schema": { "type": kind } })
    });
    in_path.chain(in_query).collect()
}

pub(super) async fn serve() -> Json<Value> {
    Json(document())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/openapi.json is this document. `longhaul schema --openapi` writes it.
    #[test]
    fn the_document_that_is_checked_in_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
        let found: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(found == document(), "run `longhaul schema --openapi > docs/openapi.json`");
    }
}
