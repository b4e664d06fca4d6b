//! The answers that Knative's components give instead of the worker, with the same bytes. They
//! follow Go's `http.Error`; those of timeouts follow `pkg/http/handler/timeout.go` of Knative
//! Serving.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{CONTENT_TYPE, HeaderName, USER_AGENT};
use http::{HeaderValue, StatusCode};

/// The text of the activator's 504 after `timeoutSeconds`. Requests pass the activator while the
/// replicas have less spare capacity than `target-burst-capacity`.
pub const ACTIVATOR_TIMEOUT: &str = "activator request timeout";
/// The text of the queue-proxy's 504, for a request that did not pass the activator.
pub const QUEUE_PROXY_TIMEOUT: &str = "request timeout";

/// Returns the answer of `http.Error`: the text with a line end, and a header that stops browsers
/// from guessing the type.
pub fn error(status: StatusCode, text: &str) -> Response {
    let mut response = with_text(status, format!("{text}\n"));
    let nosniff = HeaderName::from_static("x-content-type-options");
    response.headers_mut().insert(nosniff, HeaderValue::from_static("nosniff"));
    response
}

/// Returns a 504. `timeout.go` writes the text without a line end.
pub fn timeout(text: &'static str) -> Response {
    with_text(StatusCode::GATEWAY_TIMEOUT, text.into())
}

/// Returns the queue-proxy's answer if `containerConcurrency` requests run and its queue is full.
pub fn queue_full() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, "pending request queue full")
}

/// Returns the queue-proxy's answer if no process listens on the container's port, to which it
/// connects over the loopback interface.
pub fn refused(port: u16) -> Response {
    let text = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    error(StatusCode::BAD_GATEWAY, &text)
}

/// Returns the answer of the queue-proxy or the activator if the component behind it closed the
/// connection before it answered.
pub fn closed() -> Response {
    error(StatusCode::BAD_GATEWAY, "EOF")
}

/// Answers a request that carries the headers of a probe of Knative or of a kubelet, as the
/// activator does, so the worker does not see it. Returns `None` for every other request.
pub fn probe(request: &Request) -> Option<Response> {
    let header =
        |name: &str| request.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    if header(USER_AGENT.as_str()).is_some_and(|agent| agent.starts_with("kube-probe/")) {
        return Some(Response::new(Body::empty()));
    }
    // Go does not tell an empty header from a missing one.
    let kind = header("k-network-probe").filter(|value| !value.is_empty())?;
    let hash = header("k-network-hash").filter(|value| !value.is_empty());
    Some(match (&*kind, hash) {
        // The network controller asks whether a route leads here; the hash names the route.
        ("probe", None) => error(
            StatusCode::BAD_REQUEST,
            "a probe request must contain a non-empty \"K-Network-Hash\" header",
        ),
        ("probe", Some(hash)) => {
            let mut response = Response::new(Body::empty());
            if let Ok(hash) = HeaderValue::from_str(&hash) {
                response.headers_mut().insert("k-network-hash", hash);
            }
            response
        }
        // The autoscaler asks whether a request reaches the activator.
        ("activator", _) => with_text(StatusCode::OK, "activator".into()),
        _ => error(StatusCode::BAD_REQUEST, &format!("unexpected probe header value: {kind:?}")),
    })
}

fn with_text(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
