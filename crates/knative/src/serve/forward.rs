//! Sends one request to a worker's own port, as a queue-proxy does. Each request has its own
//! connection, which is closed as soon as nobody waits for the answer.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, StatusCode, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::answers;

/// The limit for connecting. A loopback connection that takes longer is never accepted.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The connection to a worker. Dropping it closes it. That tells a worker that nobody waits any
/// more.
pub struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends the request to `port`. The answer's body lives as long as the connection.
///
/// # Errors
/// The answer that the queue-proxy gives instead of the worker. It names the port `shown`, which is
/// the container's.
pub async fn send(port: u16, shown: u16, request: Request) -> Result<(Response, Connection), Response> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => return Err(answers::refused(shown)),
        Err(_) => return Err(bad_gateway(&format!("dial tcp 127.0.0.1:{shown}: i/o timeout"))),
    };
    // Without this option an answer is only milliseconds slower.
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().map_or(0, |address| address.port());
    let explain = |error: &hyper::Error| answer_for(error, local, shown);
    let (mut sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .max_headers(super::MOST_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| explain(&error))?;
    let connection = Connection(tokio::spawn(async move {
        // Its errors arrive with the answer or its body.
        let _ = connection.await;
    }));
    let mut request = outgoing(request);
    let early = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&early);
    hyper::ext::on_informational(&mut request, move |_| note.store(true, Ordering::Relaxed));
    let answer = sender.send_request(request).await;
    let after = |mut response: Response| {
        if early.load(Ordering::Relaxed) {
            // Knative's queue-proxy takes a 1xx for the worker's answer and drops the status that
            // follows, even its own 502; Go then sends 200. A client that acks by the status alone
            // loses work there, and should see that here.
            *response.status_mut() = StatusCode::OK;
        }
        response
    };
    match answer {
        Ok(response) => Ok((after(incoming(response)), connection)),
        Err(error) => Err(after(explain(&error))),
    }
}

/// Changes the request as Go's `httputil.ReverseProxy` does.
fn outgoing(request: Request) -> Request {
    let (mut parts, body) = request.into_parts();
    remove_hop_by_hop(&mut parts.headers);
    parts.headers.insert("k-proxy-request", HeaderValue::from_static("activator"));
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse::<Uri>().unwrap_or_default();
    Request::from_parts(parts, body)
}

fn incoming(response: http::Response<hyper::body::Incoming>) -> Response {
    let (mut parts, body) = response.into_parts();
    remove_hop_by_hop(&mut parts.headers);
    Response::from_parts(parts, Body::new(body))
}

/// Removes the headers of RFC 9110, section 7.6.1.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    let keep_alive = HeaderName::from_static("keep-alive");
    let proxy = HeaderName::from_static("proxy-connection");
    for name in [header::CONNECTION, header::TE, header::TRAILER, header::TRANSFER_ENCODING, header::UPGRADE]
    {
        headers.remove(name);
    }
    headers.remove(keep_alive);
    headers.remove(proxy);
}

/// Returns the answer with the words of Go's errors, which clients of Knative see.
fn answer_for(error: &hyper::Error, local: u16, shown: u16) -> Response {
    use std::error::Error;
    let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    match io.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe) => bad_gateway(&format!(
            "read tcp 127.0.0.1:{local}->127.0.0.1:{shown}: read: connection reset by peer"
        )),
        _ if error.is_incomplete_message() || error.is_canceled() || error.is_closed() => answers::closed(),
        _ if error.is_parse() => {
            bad_gateway("net/http: HTTP/1.x transport connection broken: malformed HTTP response")
        }
        _ => bad_gateway("unexpected EOF"),
    }
}

fn bad_gateway(text: &str) -> Response {
    answers::error(StatusCode::BAD_GATEWAY, text)
}
