//! Changes by people over HTTP: `POST /api/v1/pipelines/NAME/resume`. [`Guard`] decides who may
//! make a change.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::admin::{Guard, Known, accept};
use crate::bridge::Control;
use crate::config::Secret;

/// The number of changes that may wait for a pipeline.
const WAITING: usize = 16;

/// The time that a pipeline has to carry a change out.
const PATIENCE: Duration = Duration::from_secs(10);

/// The routes, and the pipelines that receive the changes.
#[derive(Default)]
pub(super) struct Controls {
    pipelines: HashMap<String, mpsc::Sender<Control>>,
    guard: Guard,
}

/// The answer to a change.
#[derive(Debug, Serialize)]
struct Change {
    pipeline: String,
    changed: bool,
    text: String,
}

impl Controls {
    pub fn new(token: Option<Secret>) -> Self {
        Controls { pipelines: HashMap::new(), guard: Guard::new(token) }
    }

    /// Returns the changes of this pipeline.
    pub fn of(&mut self, pipeline: &str) -> mpsc::Receiver<Control> {
        let (sender, receiver) = mpsc::channel(WAITING);
        self.pipelines.insert(pipeline.to_owned(), sender);
        receiver
    }

    pub fn router(self) -> Router {
        Router::new().route("/api/v1/pipelines/{name}/resume", post(resume)).with_state(Arc::new(self))
    }
}

async fn resume(
    State(controls): State<Arc<Controls>>,
    Path(name): Path<String>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Response, (StatusCode, String)> {
    controls.guard.allows(&headers, from)?;
    let Some(pipeline) = controls.pipelines.get(&name) else {
        let mut names: Vec<&str> = controls.pipelines.keys().map(String::as_str).collect();
        names.sort_unstable();
        let reason = format!("no pipeline has this name; the pipelines are {}\n", names.join(", "));
        return Err((StatusCode::NOT_FOUND, reason));
    };
    let (was_open, answer) = oneshot::channel();
    let asking = async {
        pipeline.send(Control::Resume { was_open }).await.ok()?;
        answer.await.ok()
    };
    let changed = match timeout(PATIENCE, asking).await {
        Ok(Some(was_open)) => was_open,
        Ok(None) => return Err((StatusCode::SERVICE_UNAVAILABLE, "the pipeline has ended\n".to_owned())),
        Err(_) => return Err((StatusCode::GATEWAY_TIMEOUT, "the pipeline does not answer\n".to_owned())),
    };
    let text = if changed {
        format!("pipeline {name}: the breaker was open and is closed now; new items start at once")
    } else {
        format!("pipeline {name}: nothing changed, since the breaker was closed already")
    };
    tracing::info!(pipeline = name, %from, changed, "A person asked to resume the pipeline");
    if accept::choose(&headers, &["text/plain", "application/json"]) == 0 {
        return Ok((Extension(Known), text + "\n").into_response());
    }
    Ok((Extension(Known), Json(Change { pipeline: name, changed, text })).into_response())
}
