//! An API server with only pods: list, watch and merge patch.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::broadcast;

#[derive(Clone)]
pub struct Fake {
    inner: Arc<Inner>,
    address: std::net::SocketAddr,
}

struct Inner {
    pods: Mutex<BTreeMap<String, Value>>,
    version: Mutex<u64>,
    refusal: Mutex<Option<u16>>,
    /// Every change, with its version. A watch begins after the version that it names.
    history: Mutex<Vec<(u64, String)>>,
    changes: broadcast::Sender<String>,
}

impl Fake {
    pub async fn start() -> Self {
        let inner = Arc::new(Inner {
            pods: Mutex::default(),
            version: Mutex::new(1),
            refusal: Mutex::default(),
            history: Mutex::default(),
            changes: broadcast::channel(64).0,
        });
        let router = axum::Router::new()
            .route("/api/v1/namespaces/default/pods", get(read))
            .route("/api/v1/namespaces/default/pods/{name}", patch(change))
            .with_state(inner.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Fake { inner, address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn add(&self, name: &str, service: &str) {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": format!("uid-of-{name}"),
                "labels": { "serving.knative.dev/service": service },
                "annotations": { "example.com/of-the-user": "kept" },
            },
        });
        self.inner.keep(name, pod, "ADDED");
    }

    pub fn annotation(&self, pod: &str, name: &str) -> Option<String> {
        let pods = self.inner.pods.lock().unwrap();
        Some(pods.get(pod)?["metadata"]["annotations"].get(name)?.as_str()?.to_owned())
    }

    pub fn delete(&self, name: &str) {
        let pod = self.inner.pods.lock().unwrap()[name].clone();
        self.inner.keep(name, pod, "DELETED");
        self.inner.pods.lock().unwrap().remove(name);
    }

    /// Answers every request with this status.
    pub fn refuse(&self, status: Option<u16>) {
        *self.inner.refusal.lock().unwrap() = status;
    }
}

impl Inner {
    fn keep(&self, name: &str, mut pod: Value, kind: &str) -> Value {
        let mut version = self.version.lock().unwrap();
        *version += 1;
        pod["metadata"]["resourceVersion"] = Value::String(version.to_string());
        self.pods.lock().unwrap().insert(name.to_owned(), pod.clone());
        let line = json!({ "type": kind, "object": pod.clone() }).to_string() + "\n";
        let mut history = self.history.lock().unwrap();
        history.push((*version, line.clone()));
        // Without a watch nobody listens.
        let _ = self.changes.send(line);
        pod
    }

    fn refusal(&self) -> Option<Response> {
        let code = (*self.refusal.lock().unwrap())?;
        Some(status(code, "refused by the fake"))
    }
}

fn status(code: u16, message: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message,
        "reason": "Fake",
    });
    (StatusCode::from_u16(code).unwrap(), axum::Json(body)).into_response()
}

/// The answer to a write that is not valid.
fn invalid(field: &str, message: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 422, "message": message,
        "reason": "Invalid",
        "details": { "causes": [{ "reason": "FieldValueInvalid", "message": message, "field": field }] },
    });
    (StatusCode::UNPROCESSABLE_ENTITY, axum::Json(body)).into_response()
}

async fn read(State(inner): State<Arc<Inner>>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    if let Some(refusal) = inner.refusal() {
        return refusal;
    }
    assert_eq!(query.get("labelSelector").map(String::as_str), Some("serving.knative.dev/service"));
    if query.contains_key("watch") {
        let after: u64 = query["resourceVersion"].parse().unwrap();
        let history = inner.history.lock().unwrap();
        let changes = inner.changes.subscribe();
        let missed: Vec<String> =
            history.iter().filter(|(version, _)| *version > after).map(|(_, line)| line.clone()).collect();
        let live = stream::unfold(changes, |mut changes| async move {
            let line = changes.recv().await.ok()?;
            Some((line, changes))
        });
        let lines = stream::iter(missed).chain(live).map(|line| Ok::<_, Infallible>(Bytes::from(line)));
        return Body::from_stream(lines).into_response();
    }
    let version = inner.version.lock().unwrap().to_string();
    let items: Vec<Value> = inner.pods.lock().unwrap().values().cloned().collect();
    axum::Json(json!({
        "kind": "PodList", "apiVersion": "v1", "metadata": { "resourceVersion": version }, "items": items,
    }))
    .into_response()
}

async fn change(State(inner): State<Arc<Inner>>, Path(name): Path<String>, body: Bytes) -> Response {
    if let Some(refusal) = inner.refusal() {
        return refusal;
    }
    let patch: Value = serde_json::from_slice(&body).unwrap();
    let Some(mut pod) = inner.pods.lock().unwrap().get(&name).cloned() else {
        return status(404, "no such pod");
    };
    if patch["metadata"]["uid"] != pod["metadata"]["uid"] {
        return invalid("metadata.uid", "field is immutable");
    }
    let cost = &patch["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"];
    if cost.as_str().is_some_and(|cost| cost.parse::<i32>().is_err()) {
        return invalid("metadata.annotations", "must be a 32bit integer");
    }
    for (annotation, value) in patch["metadata"]["annotations"].as_object().unwrap() {
        let annotations = pod["metadata"]["annotations"].as_object_mut().unwrap();
        if value.is_null() {
            annotations.remove(annotation);
        } else {
            annotations.insert(annotation.clone(), value.clone());
        }
    }
    axum::Json(inner.keep(&name, pod, "MODIFIED")).into_response()
}
