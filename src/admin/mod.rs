//! Health and metrics over HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::telemetry::{Exposition, Metrics, Status};

pub mod accept;
mod bearer;
mod connections;
pub mod guard;
mod health;
mod page;
mod tls;

pub use bearer::shows as shows_token;
pub use connections::{Bounds, Known, STRANGERS, Times, serve};
pub use guard::Guard;
pub use tls::Tls;

const NOTHING_HERE: &str =
    "nothing is here\n  help: the paths are /, /livez, /readyz, /metrics and /api/v1/… (docs/api.md)\n";
const OTHER_METHOD: &str =
    "this path has another method\n  help: reads are GET, changes are POST (docs/api.md)\n";

/// The data that the endpoints show.
pub struct View {
    pub metrics: Arc<Metrics>,
    pub pipelines: Vec<Arc<Status>>,
}

/// A bound admin server. Binding comes first, so that a port in use fails before an item is taken.
pub struct Server {
    listener: TcpListener,
    tls: Option<Tls>,
    known: usize,
}

impl Server {
    /// Binds the address. `known` is the number of connections for other replicas and operators.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn bind(address: &str, tls: Option<Tls>, known: usize) -> io::Result<Self> {
        Ok(Server { listener: TcpListener::bind(address).await?, tls, known })
    }

    /// Returns the bound address.
    ///
    /// # Errors
    /// If the operating system does not tell it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop` is cancelled. `more` are routes of other modules.
    pub async fn run(self, view: View, more: Router, stop: CancellationToken) {
        let app = router(view)
            .merge(more)
            .fallback(async || (StatusCode::NOT_FOUND, NOTHING_HERE))
            .method_not_allowed_fallback(async || (StatusCode::METHOD_NOT_ALLOWED, OTHER_METHOD));
        connections::serve(self.listener, self.tls, app, Bounds::admin(self.known), stop).await;
    }
}

fn router(view: View) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(view))
}

async fn metrics(State(view): State<Arc<View>>, headers: HeaderMap) -> Response {
    let format = match accept::choose(&headers, &["text/plain", "application/openmetrics-text"]) {
        0 => Exposition::Prometheus,
        _ => Exposition::OpenMetrics,
    };
    match view.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], format.of(text)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
