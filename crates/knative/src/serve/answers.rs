//! The answers that Knative's components give instead of the worker, exact to the byte (Go's
//! `http.Error`, `pkg/http/handler/timeout.go`).

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{CONTENT_TYPE, HeaderName, USER_AGENT};
use http::{HeaderValue, StatusCode};

/// The activator's answer. Requests pass the activator while burst capacity is short.
pub const ACTIVATOR_TIMEOUT: &str = "activator request timeout";
/// The queue-proxy's answer to a request that bypassed the activator.
pub const REPLICA_TIMEOUT: &str = "request timeout";

/// Works like `http.Error`: the text with a line end, and a header that stops browsers from
/// guessing the type.
pub fn error(status: StatusCode, text: &str) -> Response {
    let mut response = with_text(status, format!("{text}\n"));
    let nosniff = HeaderName::from_static("x-content-type-options");
    response.headers_mut().insert(nosniff, HeaderValue::from_static("nosniff"));
    response
}

/// Returns a 504, without a line end.
pub fn timeout(text: &'static str) -> Response {
    with_text(StatusCode::GATEWAY_TIMEOUT, text.into())
}

pub fn queue_full() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, "pending request queue full")
}

/// Returns the queue-proxy's answer if nothing listens on the worker's port. `port` is the
/// container's.
pub fn refused(port: u16) -> Response {
    let text = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    error(StatusCode::BAD_GATEWAY, &text)
}

/// Returns the answer if the worker or the whole replica closed the connection without one.
pub fn closed() -> Response {
    error(StatusCode::BAD_GATEWAY, "EOF")
}

/// Answers probes of Knative and of kubelets. The activator itself answers them with 200, and no
/// worker sees them, so a client that sends their headers gets the same.
pub fn probe(request: &Request) -> Option<Response> {
    let header =
        |name: &str| request.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    if header(USER_AGENT.as_str()).is_some_and(|agent| agent.starts_with("kube-probe/")) {
        return Some(Response::new(Body::empty()));
    }
    let probe = header("k-network-probe").filter(|value| !value.is_empty())?;
    Some(match (&*probe, header("k-network-hash")) {
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
        ("activator", _) => with_text(StatusCode::OK, "activator".into()),
        _ => error(StatusCode::BAD_REQUEST, &format!("unexpected probe header value: {probe:?}")),
    })
}

fn with_text(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
