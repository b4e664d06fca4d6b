//! Health and metrics over HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::telemetry::{Metrics, Status};

mod accept;
pub mod bearer;
mod health;

/// What the endpoints show.
pub struct View {
    pub metrics: Arc<Metrics>,
    pub pipelines: Vec<Arc<Status>>,
}

/// A bound admin server. Binding comes first, so that a port in use fails before any work is taken.
pub struct Server {
    listener: TcpListener,
}

impl Server {
    /// # Errors
    /// When the address can't be bound.
    pub async fn bind(address: &str) -> io::Result<Self> {
        Ok(Server { listener: TcpListener::bind(address).await? })
    }

    /// # Errors
    /// When the operating system can't tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop` is cancelled; `more` is what else is served here.
    pub async fn run(self, view: View, more: Router, stop: CancellationToken) {
        let service = router(view).merge(more).into_make_service_with_connect_info::<SocketAddr>();
        let served = axum::serve(self.listener, service).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "The admin server ended; health checks will fail");
        }
    }
}

fn router(view: View) -> Router {
    Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(view))
}

async fn metrics(State(view): State<Arc<View>>) -> Response {
    match view.metrics.render() {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
                .into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
