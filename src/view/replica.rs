//! The replicas behind an answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A replica that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replica {
    /// Its name: pod or machine, and port. Its address if it gave no answer.
    pub replica: String,
    /// The reason why it gave no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
