//! The HTTP entry point to a queue or topic.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::secret::Secret;
use crate::config::units::ByteCount;

/// Accepts items over HTTP and writes them to the queue or topic of a pipeline, as
/// `longhaul intake` does: 202 after the broker's confirm, and once for each id that is remembered.
/// Without `token`, everybody who reaches the address may enqueue items.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Intake {
    /// Address to listen on, such as `0.0.0.0:8080`.
    pub listen: String,
    /// Bearer token that each item needs, at least 16 characters. A Knative Trigger sends none.
    #[serde(default)]
    pub token: Option<Secret>,
    /// The pipeline whose queue or topic gets the items; needed if there are several.
    #[serde(default)]
    pub pipeline: Option<String>,
    /// The largest backlog: items in the queue, or records that the group has not committed. While
    /// the backlog is this large, each request gets 429. Without this key the backlog has no bound.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub backlog: Option<u64>,
    /// Requests at once, 1 to 10000; further ones are answered with 503.
    #[serde(default = "window")]
    #[schemars(range(min = 1, max = 10_000))]
    pub window: u16,
    /// The longest body, up to 64MiB. `window` times this is the memory that requests may take.
    #[serde(default = "body_bytes")]
    pub body_bytes: ByteCount,
    /// Ids that are remembered, so that a repeated request writes nothing.
    #[serde(default = "remember")]
    #[schemars(range(max = 10_000_000))]
    pub remember: u32,
}

fn window() -> u16 {
    256
}

fn body_bytes() -> ByteCount {
    ByteCount::from_kib(1024)
}

fn remember() -> u32 {
    100_000
}
