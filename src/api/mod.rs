//! The HTTP interface to pipelines and items: reads, actions, events and the reports of workers.
//!
//! Paths and types are API (docs/api.md, `/api/v1/openapi.json`). Every request is passed to the
//! pipeline's own task, which answers it between two items: there is one owner of the state, and no
//! lock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tower_service::Service as _;

use crate::admin::{Guard, Known, accept};
use crate::bridge::Control;
use crate::config::Secret;
use crate::peers::{Call, Called, Method, Peers};
use crate::progress::Registry;

mod act;
mod checked;
mod events;
pub mod openapi;
mod read;
mod replicas;
mod report;

/// The number of requests that may wait for a pipeline.
const WAITING: usize = 64;

/// The time that a pipeline has to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer to another replica, in bytes.
const ANSWER_MAX: usize = 1 << 20;

/// Connections that read events at once.
const READERS_MAX: usize = 32;

/// The pipelines, and the rights of callers.
pub struct Api {
    pipelines: Vec<(String, mpsc::Sender<Control>)>,
    change: Guard,
    read: Option<Guard>,
    reports: Arc<Registry>,
    readers: Arc<Semaphore>,
    /// The name of this replica, for people.
    replica: String,
    /// The other replicas, if there may be any.
    peers: Option<Arc<Peers>>,
}

/// Answers requests that came to another replica, which has checked the rights of the caller.
pub struct Local(Router, String);

/// Marks a request that another replica passed on. Only [`Local`] can set it.
#[derive(Clone, Copy)]
struct FromReplica;

/// An answer that is not a success, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    status: StatusCode,
    error: String,
    help: String,
}

impl Failure {
    /// The caller must change the request, as `help` says.
    fn bad_request(error: impl Into<String>, help: &str) -> Self {
        Failure { status: StatusCode::BAD_REQUEST, error: error.into(), help: help.to_owned() }
    }
}

#[derive(Serialize)]
struct FailureBody<'a> {
    error: &'a str,
    help: &'a str,
}

/// The sender of a request: its headers and its address.
struct Caller {
    headers: HeaderMap,
    from: SocketAddr,
    /// Another replica passed the request on, and has checked the rights.
    is_replica: bool,
}

impl Api {
    /// `read_token` protects the reads, which are open without it. `reports` has the addresses of
    /// the running attempts.
    pub fn new(token: Option<Secret>, read_token: Option<Secret>, reports: Arc<Registry>) -> Self {
        // The right to change something includes the right to read.
        let read = read_token.map(|read| Guard::new(Some(read)).or(token.clone()));
        Api {
            pipelines: Vec::new(),
            change: Guard::new(token),
            read,
            reports,
            readers: Arc::new(Semaphore::new(READERS_MAX)),
            replica: String::new(),
            peers: None,
        }
    }

    /// The name of this replica, and the other ones.
    pub fn among(self, replica: String, peers: Option<Arc<Peers>>) -> Self {
        Api { replica, peers, ..self }
    }

    /// The answering side for requests that came to another replica.
    pub fn local(self: Arc<Self>) -> Local {
        let replica = self.replica.clone();
        Local(self.router(), replica)
    }

    /// Returns the requests to this pipeline.
    pub fn of(&mut self, pipeline: &str) -> mpsc::Receiver<Control> {
        let (sender, receiver) = mpsc::channel(WAITING);
        self.pipelines.push((pipeline.to_owned(), sender));
        receiver
    }

    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/api/v1/openapi.json", get(openapi::serve))
            .route("/api/v1/events", get(events::stream))
            .route("/api/v1/pipelines", get(read::pipelines))
            .route("/api/v1/pipelines/{name}", get(read::pipeline))
            .route("/api/v1/pipelines/{name}/items", get(read::items))
            .route("/api/v1/pipelines/{name}/items/{action}", post(act::on_items))
            .route(
                "/api/v1/pipelines/{name}/partitions/{topic}/{partition}/{action}",
                post(act::on_partition),
            )
            .route("/api/v1/pipelines/{name}/{action}", post(act::on_pipeline))
            .route("/api/v1/items/{id}", get(read::item))
            .route("/api/v1/items/{id}/log", get(read::log))
            .route("/api/v1/items/{id}/{action}", post(act::on_item))
            .route("/api/v1/progress/{token}", post(report::take).get(report::checkpoint))
            .with_state(self)
    }

    /// # Errors
    /// If the caller may not read.
    fn may_read(&self, caller: &Caller) -> Result<(), Failure> {
        match &self.read {
            _ if caller.is_replica => Ok(()),
            Some(guard) => guard.allows(&caller.headers, caller.from).map_err(refused),
            None => Ok(()),
        }
    }

    /// # Errors
    /// If the caller may not change anything.
    fn may_change(&self, caller: &Caller) -> Result<(), Failure> {
        if caller.is_replica {
            return Ok(());
        }
        self.change.allows(&caller.headers, caller.from).map_err(refused)
    }

    /// Whether the caller proved that it is an operator. An open read proves nothing.
    fn knows(&self, caller: &Caller) -> bool {
        let guards = self.read.iter().chain([&self.change]);
        guards.into_iter().any(|guard| guard.allows(&caller.headers, caller.from).is_ok())
    }

    fn pipeline(&self, name: &str) -> Result<&mpsc::Sender<Control>, Failure> {
        let found = self.pipelines.iter().find(|(known, _)| known == name);
        found.map(|(_, pipeline)| pipeline).ok_or_else(|| {
            let names: Vec<&str> = self.pipelines.iter().map(|(name, _)| name.as_str()).collect();
            Failure {
                status: StatusCode::NOT_FOUND,
                error: format!("no pipeline has the name {name:?}"),
                help: format!("the pipelines are {}", names.join(", ")),
            }
        })
    }

    /// The pipelines that a request is about: the named one, or all.
    fn of_request(&self, name: Option<&str>) -> Result<Vec<&mpsc::Sender<Control>>, Failure> {
        match name {
            Some(name) => Ok(vec![self.pipeline(name)?]),
            None => Ok(self.pipelines.iter().map(|(_, pipeline)| pipeline).collect()),
        }
    }
}

impl Local {
    /// Answers a request as if it had come here, but passes it on to nobody.
    pub async fn answer(&self, call: Call) -> Called {
        let method = match call.method {
            Method::Get => axum::http::Method::GET,
            Method::Post => axum::http::Method::POST,
        };
        let replica = self.1.clone();
        let failed = |status: StatusCode| Called {
            replica: replica.clone(),
            status: status.as_u16(),
            body: String::new(),
        };
        let is_meant =
            ["/api/v1/pipelines", "/api/v1/items"].iter().any(|path| call.target.starts_with(path));
        let request = axum::http::Request::builder().method(method).uri(call.target);
        let request = request.header("accept", "application/json").extension(FromReplica);
        let Ok(request) = request.body(Body::empty()) else { return failed(StatusCode::BAD_REQUEST) };
        if !is_meant {
            return failed(StatusCode::NOT_FOUND);
        }
        // A router is always ready, and has no error of its own.
        let Ok(response) = self.0.clone().call(request).await;
        let status = response.status().as_u16();
        match to_bytes(response.into_body(), ANSWER_MAX).await.map(|body| String::from_utf8(body.into())) {
            Ok(Ok(body)) => Called { replica, status, body },
            _ => failed(StatusCode::INSUFFICIENT_STORAGE),
        }
    }
}

/// The answer of a pipeline; `None` from one that has ended, so that the others can be read.
fn unless_ended<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Err(Failure { status: StatusCode::SERVICE_UNAVAILABLE, .. }) => Ok(None),
        other => other.map(Some),
    }
}

/// Passes a request to a pipeline and waits for its answer.
async fn ask<T>(
    pipeline: &mpsc::Sender<Control>,
    request: impl FnOnce(oneshot::Sender<T>) -> Control,
) -> Result<T, Failure> {
    ask_within(PATIENCE, pipeline, request).await
}

/// Like [`ask`], for a request that may take longer.
async fn ask_within<T>(
    patience: Duration,
    pipeline: &mpsc::Sender<Control>,
    request: impl FnOnce(oneshot::Sender<T>) -> Control,
) -> Result<T, Failure> {
    let (answer, answered) = oneshot::channel();
    let asking = async {
        pipeline.send(request(answer)).await.ok()?;
        answered.await.ok()
    };
    let failure = |status, error: &str| Failure {
        status,
        error: error.to_owned(),
        help: "see /readyz and the log for the reason".to_owned(),
    };
    match timeout(patience, asking).await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(failure(StatusCode::SERVICE_UNAVAILABLE, "the pipeline has ended")),
        Err(_) => Err(failure(StatusCode::GATEWAY_TIMEOUT, "the pipeline does not answer")),
    }
}

fn refused((status, reason): (StatusCode, String)) -> Failure {
    let help = "see `admin` in the bridge's configuration".to_owned();
    Failure { status, error: reason.trim_end().to_owned(), help }
}

impl Caller {
    /// The answer as JSON, or as text for a caller that prefers text, such as curl.
    fn answer(&self, body: &impl Serialize, text: impl FnOnce() -> String) -> Response {
        if self.prefers_json() { Json(body).into_response() } else { (text() + "\n").into_response() }
    }

    /// The answer to a read: JSON, or the failure.
    fn json<T: Serialize>(&self, read: Result<T, Failure>) -> Response {
        match read {
            Ok(body) => Json(body).into_response(),
            Err(failure) => self.failure(&failure),
        }
    }

    fn prefers_json(&self) -> bool {
        accept::choose(&self.headers, &["text/plain", "application/json"]) == 1
    }

    fn failure(&self, failure: &Failure) -> Response {
        let Failure { status, error, help } = failure;
        if self.prefers_json() {
            return (*status, Json(FailureBody { error, help })).into_response();
        }
        (*status, format!("{error}\n  help: {help}\n")).into_response()
    }

    /// The answer of a call that proved its rights.
    fn known(response: Response) -> Response {
        (axum::Extension(Known), response).into_response()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let from = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let from = from.map_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)), |ConnectInfo(from)| *from);
        let is_replica = parts.extensions.get::<FromReplica>().is_some();
        Ok(Caller { headers: parts.headers.clone(), from, is_replica })
    }
}
