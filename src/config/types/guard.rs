//! The marks on busy pods.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::Span;

/// Keeps Kubernetes from stopping pods in which items run, by annotations that a pod carries only
/// while it is busy: `controller.kubernetes.io/pod-deletion-cost`, `karpenter.sh/do-not-disrupt`
/// and `cluster-autoscaler.kubernetes.io/safe-to-evict`. Without this key the bridge asks nothing
/// of Kubernetes. The bridge's service account needs a Role with get, list, watch and patch on pods
/// in the namespace; without it items are delivered as before.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// The namespace of the Knative Services. Default: the namespace of the bridge.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    #[schemars(extend("x-pattern-help" = "use 1 to 63 lower-case letters, digits and `-`, with no `-` at the ends"))]
    pub namespace: Option<String>,
    /// A pod is marked once its item has run this long, 0s to 1h. Shorter items cost no request to
    /// the API server. Default: a sixth of the Service's `autoscaling.knative.dev/window`, which is
    /// 10s without that annotation.
    pub after: Option<Span>,
}
