//! The admin listener. It shows the state of the service, once or at every change.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use futures_util::stream;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::snapshot::Snapshot;

/// Answers until `stop`, which also ends open streams.
pub async fn run(listener: TcpListener, engine: Arc<Engine>, stop: CancellationToken) {
    let view = View { engine, stop: stop.clone() };
    let router = axum::Router::new()
        .route("/replicas", get(replicas))
        // As a bridge answers, so that `longhaul health` works here too.
        .route(
            "/readyz",
            get(async || ([(CONTENT_TYPE, "application/json")], r#"{"ready":true,"reasons":[]}"#)),
        )
        .with_state(view);
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await {
        tracing::error!(%error, "The admin listener ended");
    }
}

#[derive(Clone)]
struct View {
    engine: Arc<Engine>,
    stop: CancellationToken,
}

async fn replicas(State(view): State<View>, headers: HeaderMap) -> Response {
    let accepts = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("text/event-stream"));
    if headers.get_all(ACCEPT).iter().any(accepts) {
        return with_type("text/event-stream", changes(view));
    }
    with_type("application/json", Body::from(json(&view.engine.snapshot())))
}

/// Sends the present state as an event, then an event for each change. If changes come faster than
/// the client reads, it gets only the newest.
fn changes(view: View) -> Body {
    let version = view.engine.version();
    let events = stream::unfold((view, version, None), |(view, mut version, last)| async move {
        loop {
            version.mark_unchanged();
            let now = view.engine.snapshot();
            if last.as_ref() != Some(&now) {
                let event = format!("data: {}\n\n", json(&now));
                return Some((Ok::<_, Infallible>(Bytes::from(event)), (view, version, Some(now))));
            }
            tokio::select! {
                changed = version.changed() => changed.ok()?,
                () = view.stop.cancelled() => return None,
            }
        }
    });
    Body::from_stream(events)
}

fn json(snapshot: &Snapshot) -> String {
    // Serialising cannot fail: the keys are texts and the numbers are finite.
    serde_json::to_string(snapshot).unwrap_or_default()
}

fn with_type(kind: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
