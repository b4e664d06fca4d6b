//! The pods of a real cluster, over the Kubernetes API.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::core::Status;
use kube::runtime::watcher;
use kube::{Api, Client, Config};

use super::mark;
use super::plan::{SeenPod, Write, Wrote};
use super::run::{Cluster, Event};
use super::trouble::Failure;
use crate::telemetry::GuardFailure;

/// The label that Knative puts on every pod of a Service. Other pods are not guarded.
const SERVICE: &str = "serving.knative.dev/service";
/// The annotation with the time over which the autoscaler averages. Knative copies it from the
/// revision.
const WINDOW: &str = "autoscaling.knative.dev/window";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after a failed watch; it doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// The pods of Knative Services in one namespace.
#[derive(Clone)]
pub struct Pods {
    api: Api<Pod>,
}

impl Pods {
    /// Reads the address and the credentials of the API server: those of the pod's service account,
    /// or of the file that `KUBECONFIG` names. Opens no connection. Without `namespace` it is the
    /// namespace of the pod, or of the file.
    ///
    /// # Errors
    /// If there are none.
    pub async fn new(namespace: Option<&str>) -> Result<Self, Failure> {
        let mut config = Config::infer().await.map_err(|error| Failure {
            text: format!("no access to a Kubernetes API server: {error}"),
            help: "run the bridge in a pod with a service account, or set KUBECONFIG",
            kind: GuardFailure::NoAccess,
        })?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        let namespace = namespace.map_or_else(|| config.default_namespace.clone(), str::to_owned);
        let client = Client::try_from(config).map_err(|error| failure(&error))?;
        Ok(Pods::over(client, &namespace))
    }

    /// The pods in `namespace`, over this client.
    pub fn over(client: Client, namespace: &str) -> Self {
        Pods { api: Api::namespaced(client, namespace) }
    }
}

impl Cluster for Pods {
    fn watch(&self) -> BoxStream<'static, Result<Event, Failure>> {
        let watch = watcher(self.api.clone(), watcher::Config::default().labels(SERVICE)).boxed();
        let state = Watch { watch, list: Vec::new(), pause: None };
        stream::unfold(state, |mut state| async move {
            let event = state.next().await;
            Some((event, state))
        })
        .boxed()
    }

    async fn write(&self, write: &Write) -> Result<Wrote, Failure> {
        // The API server refuses the write if the pod has another id: 422, because no write can
        // change an id.
        let patch = serde_json::json!({ "metadata": { "uid": write.uid, "annotations": write.annotations } });
        let result =
            self.api.patch_metadata(&write.pod, &PatchParams::default(), &Patch::Merge(&patch)).await;
        match result {
            Ok(_) => Ok(Wrote::Done),
            Err(kube::Error::Api(status)) if is_gone(&status) => Ok(Wrote::Gone),
            Err(error) => Err(failure(&error)),
        }
    }
}

/// The watch with the parts of an unfinished list.
struct Watch {
    watch: BoxStream<'static, watcher::Result<watcher::Event<Pod>>>,
    list: Vec<SeenPod>,
    /// The wait before the next try, after a failure.
    pause: Option<Duration>,
}

impl Watch {
    async fn next(&mut self) -> Result<Event, Failure> {
        if let Some(pause) = self.pause {
            tokio::time::sleep(pause).await;
        }
        loop {
            match self.watch.next().await {
                Some(Ok(event)) => {
                    self.pause = None;
                    match event {
                        watcher::Event::Init => self.list.clear(),
                        watcher::Event::InitApply(pod) => self.list.push(seen(pod)),
                        watcher::Event::InitDone => return Ok(Event::All(std::mem::take(&mut self.list))),
                        watcher::Event::Apply(pod) => return Ok(Event::Seen(seen(pod))),
                        watcher::Event::Delete(pod) => return Ok(Event::Gone(seen(pod))),
                    }
                }
                Some(Err(error)) => {
                    self.pause = Some(self.pause.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LAST_PAUSE)));
                    return Err(match error {
                        watcher::Error::InitialListFailed(error)
                        | watcher::Error::WatchStartFailed(error)
                        | watcher::Error::WatchFailed(error) => failure(&error),
                        other => trouble(GuardFailure::Answered, other.to_string()),
                    });
                }
                None => std::future::pending().await,
            }
        }
    }
}

/// Whether the answer to a write says that this pod does not exist any more.
fn is_gone(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    match status.code {
        404 | 409 => true,
        422 => causes.into_iter().any(|cause| cause.field == "metadata.uid"),
        _ => false,
    }
}

fn failure(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => Failure {
            text: format!("the API server refuses it: {}", status.message),
            help: "give the bridge's service account a Role with get, list, watch and patch on pods in \
                   guard.namespace",
            kind: GuardFailure::Refused,
        },
        kube::Error::Api(status) => trouble(
            GuardFailure::Answered,
            format!("the API server answers {}: {}", status.code, status.message),
        ),
        other => trouble(GuardFailure::Unreachable, with_causes(other)),
    }
}

fn trouble(kind: GuardFailure, text: String) -> Failure {
    Failure { text, help: "check the API server; the guard tries again", kind }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

fn seen(pod: Pod) -> SeenPod {
    let metadata = pod.metadata;
    let status = pod.status.unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    let window = annotations.get(WINDOW).and_then(|text| longhaul_knative::duration::parse(text).ok());
    annotations.retain(|name, _| mark::ALL.contains(&name.as_str()));
    let is_over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    SeenPod {
        name: metadata.name.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
        service: metadata.labels.and_then(|mut labels| labels.remove(SERVICE)).unwrap_or_default(),
        address: status.pod_ip,
        is_stopping: metadata.deletion_timestamp.is_some() || is_over,
        window,
        annotations,
    }
}
