//! Changes that a person asks for at the admin server: `POST /api/v1/pipelines/NAME/resume`.
//!
//! Each needs the bearer token of `admin.token`; where none is set, only programs of this machine may ask.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::sync::mpsc;

use crate::admin::bearer;
use crate::bridge::Control;
use crate::config::Secret;

/// Changes that may wait for a pipeline.
const WAITING: usize = 16;

/// The routes, and where they lead.
#[derive(Default)]
pub(super) struct Controls {
    pipelines: HashMap<String, mpsc::Sender<Control>>,
    token: Option<Secret>,
}

impl Controls {
    pub fn new(token: Option<Secret>) -> Self {
        Controls { pipelines: HashMap::new(), token }
    }

    /// Where this pipeline hears what is asked of it.
    pub fn of(&mut self, pipeline: &str) -> mpsc::Receiver<Control> {
        let (sender, receiver) = mpsc::channel(WAITING);
        self.pipelines.insert(pipeline.to_owned(), sender);
        receiver
    }

    pub fn router(self) -> Router {
        Router::new().route("/api/v1/pipelines/{name}/resume", post(resume)).with_state(Arc::new(self))
    }

    fn allows(&self, headers: &HeaderMap, from: SocketAddr) -> Result<(), (StatusCode, String)> {
        let Some(token) = &self.token else {
            let refused = "no admin.token is set, so only programs of this machine may change anything\n";
            let local = from.ip().to_canonical().is_loopback();
            return if local { Ok(()) } else { Err((StatusCode::FORBIDDEN, refused.to_owned())) };
        };
        let token = token.resolve().map_err(|error| {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("admin.token can't be read: {error}\n"))
        })?;
        if bearer::shows(headers, &token) {
            return Ok(());
        }
        Err((StatusCode::UNAUTHORIZED, "send the token of admin.token: Authorization: Bearer …\n".to_owned()))
    }
}

async fn resume(
    State(controls): State<Arc<Controls>>,
    Path(name): Path<String>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<String, (StatusCode, String)> {
    controls.allows(&headers, from)?;
    let Some(pipeline) = controls.pipelines.get(&name) else {
        let mut names: Vec<&str> = controls.pipelines.keys().map(String::as_str).collect();
        names.sort_unstable();
        return Err((
            StatusCode::NOT_FOUND,
            format!("no pipeline {name} here; there is {}\n", names.join(", ")),
        ));
    };
    let gone = |_| (StatusCode::SERVICE_UNAVAILABLE, "the pipeline has ended\n".to_owned());
    pipeline.send(Control::Resume).await.map_err(gone)?;
    Ok("resumed\n".to_owned())
}
