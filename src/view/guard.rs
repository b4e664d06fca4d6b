//! The guard of busy pods, for people.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The guard of busy pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Guard {
    /// The number of pods that carry a mark of this bridge.
    pub marked: usize,
    /// The pods of the service that are being deleted.
    pub stopping: Vec<StoppingPod>,
    /// Why marks cannot be written now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A pod that is being deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoppingPod {
    pub name: String,
    /// When the bridge saw the deletion first.
    pub since: String,
}
