//! The other replicas of this bridge.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::schema::one_discovery;
use crate::config::secret::Secret;
use crate::config::units::Span;

/// The other replicas of this bridge: a name that has the addresses of all, or the addresses. Each answers at its admin
/// server, ready or not.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = one_discovery)]
pub struct Peers {
    /// `host:port` of all replicas, this one included: a headless Service with `publishNotReadyAddresses`, since the
    /// replica to ask is often one that is draining.
    #[serde(default)]
    pub dns: Option<String>,
    /// Addresses of the replicas' admin servers, such as `http://10.0.0.7:9090`; this one may be among them.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub addresses: Vec<String>,
    /// Bearer token that all replicas share; `admin.token` by default.
    #[serde(default)]
    pub token: Option<Secret>,
    /// How long another replica may take to answer, 100ms to 30s. One that does not is taken for one that has nothing. One
    /// that has the item, and first has to find out whether its own session is alive, is given 12 s more.
    #[serde(default = "timeout")]
    pub timeout: Span,
}

fn timeout() -> Span {
    Span::from_secs(2)
}
