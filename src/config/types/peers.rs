//! The other replicas of this bridge.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::schema::one_discovery;
use crate::config::secret::Secret;
use crate::config::types::Tls;
use crate::config::units::Span;

/// The other replicas of this bridge: one DNS name with the addresses of all, or a list of
/// addresses. Each replica answers on its admin server, even while it is not ready. Questions and
/// answers carry a code (HMAC-SHA256) that only the token can produce; the token itself is never
/// sent. The clocks of all replicas must agree within a minute.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = one_discovery)]
pub struct Peers {
    /// `host:port` of all replicas, this one included: a headless Service with
    /// `publishNotReadyAddresses`, since the replica to ask often drains.
    #[serde(default)]
    pub dns: Option<String>,
    /// Addresses of the replicas' admin servers, such as `http://10.0.0.7:9090`, or `https://…` if
    /// `admin.tls` is set there. This replica may be among them.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub addresses: Vec<String>,
    /// The secret that all replicas share, at least 16 characters. Default: `admin.token`.
    #[serde(default)]
    pub token: Option<Secret>,
    /// How long another replica may take to answer, 100ms to 30s. After that it counts as having
    /// nothing. A replica that has the item, but must first check whether its own session is alive,
    /// gets 12 s more.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// Certificates for `https://`. If this is set, the addresses of `dns` are asked over TLS, and
    /// each replica's certificate must be valid for that name.
    #[serde(default)]
    pub tls: Tls,
}

fn timeout() -> Span {
    Span::from_secs(2)
}
