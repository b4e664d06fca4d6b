//! The guard: keeps Kubernetes from stopping the pods in which items run.
//!
//! Knative scales a Service down through its ReplicaSet, which removes any pod, also a busy one.
//! Node autoscalers drain nodes without a look at requests. Both read annotations of pods. So the
//! guard marks each pod whose item has run for a while, and removes the mark when the pod is idle.
//! While many busy pods wait for their marks, it marks idle pods as the first ones to remove.
//!
//! * [`mark`]: the annotations. [`plan`]: the pure decision which of them must change.
//! * [`lookout`]: the running requests and the stopping pods, shared with the pipelines.
//! * [`run`]: the loop. `kube`: the API server, in builds with the feature `guard`.
//! * [`http`] and [`stat`]: asking queue-proxies, for workers that do not report their pods.
//! * [`trouble`]: the API server is away or refuses. Delivery never depends on it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub mod http;
pub mod lookout;
pub mod mark;
pub mod plan;
pub mod run;
pub mod stat;
pub mod trouble;

#[cfg(feature = "guard")]
pub mod kube;

pub use lookout::{Lookout, Post, Shown, Ticket};

use crate::telemetry::GuardMetrics;

impl run::Measure for http::QueueProxies {
    async fn ask(&self, pods: Vec<(String, String)>) -> Vec<(String, bool)> {
        http::QueueProxies::ask(self, pods).await
    }
}

/// Guards the pods in the namespace until `stop`. Without the feature `guard` nothing happens.
pub async fn guard(
    namespace: Option<String>,
    after: Option<Duration>,
    lookout: Arc<Lookout>,
    metrics: GuardMetrics,
    stop: CancellationToken,
) {
    #[cfg(feature = "guard")]
    if let Some((pods, proxies)) = connect(namespace.as_deref(), &lookout, &metrics, &stop).await {
        let name = std::env::var("HOSTNAME").unwrap_or_else(|_| "longhaul".to_owned());
        let holder = format!("{name}/{}", uuid::Uuid::new_v4().simple());
        run::run(run::Settings { holder, after, metrics }, pods, proxies, lookout, stop).await;
    }
    #[cfg(not(feature = "guard"))]
    drop((namespace, after, lookout, metrics, stop));
}

/// Waits for credentials. Returns `None` at `stop`.
#[cfg(feature = "guard")]
async fn connect(
    namespace: Option<&str>,
    lookout: &Lookout,
    metrics: &GuardMetrics,
    stop: &CancellationToken,
) -> Option<(kube::Pods, http::QueueProxies)> {
    use tokio::time::Instant;

    use crate::telemetry::GuardFailure;

    let mut trouble = trouble::Trouble::default();
    let proxies = match http::QueueProxies::new() {
        Ok(proxies) => proxies,
        Err(error) => {
            let failure = trouble::Failure {
                text: error.to_string(),
                help: "restart the bridge",
                kind: GuardFailure::NoAccess,
            };
            metrics.failed(failure.kind);
            trouble.raise(Instant::now(), failure);
            return None;
        }
    };
    loop {
        match kube::Pods::new(namespace).await {
            Ok(pods) => return Some((pods, proxies)),
            Err(failure) => {
                metrics.failed(failure.kind);
                trouble.raise(Instant::now(), failure);
            }
        }
        lookout.show(0, trouble.text(Instant::now()));
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(30)) => {}
            () = stop.cancelled() => return None,
        }
    }
}

/// The name of the Knative Service behind an address such as `hello.default.svc.cluster.local`: its
/// first part. Addresses of one part, and IP addresses, tell no service.
pub fn service_of(host: &str) -> Option<String> {
    let host = host.split(':').next().unwrap_or_default();
    let is_address = host.parse::<std::net::IpAddr>().is_ok() || host.starts_with('[');
    let (first, rest) = host.split_once('.')?;
    (!is_address && !first.is_empty() && !rest.is_empty()).then(|| first.to_owned())
}

#[cfg(test)]
mod tests {
    use super::service_of;

    #[test]
    fn the_service_is_the_first_part_of_a_name() {
        assert_eq!(service_of("hello.default.svc.cluster.local:80").as_deref(), Some("hello"));
        assert_eq!(service_of("hello.default.example.com").as_deref(), Some("hello"));
        for other in ["10.0.0.7:8080", "[::1]:80", "localhost", "", "."] {
            assert_eq!(service_of(other), None, "{other}");
        }
    }
}
