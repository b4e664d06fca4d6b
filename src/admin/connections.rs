//! The connections of a port, bounded in number, size and time: the admin port and the intake.
//!
//! Anybody in the network can connect. A connection that has shown nothing yet, or that only waits,
//! is a stranger's. Their number is bounded; for a new one the oldest idle connection makes room,
//! or else the oldest one whose request has been arriving for too long ([`Times::slow`]).
//! So a probe always gets its answer, and idle connections take no descriptors from deliveries. A
//! connection whose request is being answered is not closed. One that gave an answer with [`Known`]
//! belongs to another replica or to an operator, and is not a stranger's.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use super::tls::Tls;

/// The most connections that only wait, or that read or write slowly.
pub const STRANGERS: usize = 64;

/// The largest request head. hyper answers a longer one with 431.
const HEAD_BYTES: usize = 16 * 1024;

/// The largest request body of a route of the admin port.
const BODY_BYTES: usize = 128 * 1024;

/// The bounds of a port.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The name of the port, for log lines.
    pub port: &'static str,
    /// Connections that only wait, or that read or write slowly.
    pub strangers: usize,
    /// Connections beside those.
    pub known: usize,
    pub body_bytes: usize,
    pub times: Times,
}

/// The limits of time.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The longest wait for a request head, its first byte included. So it also limits idleness.
    pub head: Duration,
    pub body: Duration,
    /// How long a new connection cannot be closed for another, so that its request can arrive. With
    /// [`STRANGERS`] it allows 3,200 new connections per second.
    pub grace: Duration,
    /// How long a connection cannot be closed for another while its request arrives, counted from
    /// the end of the head.
    pub slow: Duration,
}

impl Bounds {
    /// The bounds of the admin port, with `known` connections of other replicas and operators.
    pub(super) fn admin(known: usize) -> Self {
        let times = Times::default();
        Bounds { port: "admin", strangers: STRANGERS, known, body_bytes: BODY_BYTES, times }
    }
}

impl Default for Times {
    fn default() -> Self {
        let head = Duration::from_secs(10);
        let grace = Duration::from_millis(20);
        Times { head, body: head, grace, slow: grace }
    }
}

/// The pause after the operating system refused a connection, for example without a free
/// descriptor.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// An extension of a response: the request proved that it came from another replica or an operator.
#[derive(Clone, Copy, Debug)]
pub struct Known;

/// All open connections.
struct Connections {
    table: Mutex<BTreeMap<u64, Connection>>,
    /// The room for further connections of all kinds.
    free: Arc<Semaphore>,
    bounds: Bounds,
}

struct Connection {
    opened: Instant,
    state: State,
    is_known: bool,
    close: CancellationToken,
}

/// The part of a request that a connection has reached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No head of a request has arrived since the last answer.
    Idle,
    /// The body arrives since this time.
    Arriving(Instant),
    /// The request is being answered.
    Busy,
}

/// The entry of one connection in the table. It is removed when the connection ends.
struct Entry {
    connections: Arc<Connections>,
    id: u64,
    _permit: OwnedSemaphorePermit,
}

/// Serves until `stop` is cancelled, and then ends the begun requests.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let free = Arc::new(Semaphore::new(bounds.strangers + bounds.known));
    let connections = Arc::new(Connections { table: Mutex::default(), free, bounds });
    let mut tasks = JoinSet::new();
    let mut next_id = 0;
    loop {
        let accepted = tokio::select! {
            accepted = connections.accept(&listener) => accepted,
            () = stop.cancelled() => break,
        };
        while tasks.try_join_next().is_some() {}
        let (stream, from, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, port = bounds.port, "A connection could not be taken");
                sleep(REFUSED_PAUSE).await;
                continue;
            }
        };
        let close = CancellationToken::new();
        let entry = connections.enter(next_id, close.clone(), permit);
        next_id += 1;
        let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
        tasks.spawn(async move {
            let entry = Arc::new(entry);
            // A connection that makes room for another is closed at once.
            tokio::select! {
                () = connection(stream, from, tls, router, entry, stop) => {}
                () = close.cancelled() => {}
            }
        });
    }
    // A client learns at once that nobody listens. Each connection finishes its request; the caller
    // bounds the time.
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

async fn connection(
    stream: TcpStream,
    from: SocketAddr,
    tls: Option<Tls>,
    router: Router,
    entry: Arc<Entry>,
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => answer(stream, from, router, entry, stop).await,
        Some(tls) => match timeout(entry.connections.bounds.times.head, tls.accept(stream)).await {
            Ok(Ok(stream)) => answer(stream, from, router, entry, stop).await,
            Ok(Err(error)) => tracing::debug!(%from, %error, "A TLS handshake failed"),
            Err(_) => {}
        },
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    from: SocketAddr,
    router: Router,
    entry: Arc<Entry>,
    stop: CancellationToken,
) {
    let Bounds { port, times, .. } = entry.connections.bounds;
    let service = service_fn(move |request| {
        let (router, entry) = (router.clone(), entry.clone());
        async move { Ok::<_, Infallible>(respond(request, from, router, &entry).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(times.head)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%from, %error, port, "A connection ended");
    }
}

/// Reads the whole request before its route runs, so that no route has to bound it.
async fn respond(
    request: hyper::Request<Incoming>,
    from: SocketAddr,
    mut router: Router,
    entry: &Entry,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let Bounds { body_bytes, times, .. } = entry.connections.bounds;
    entry.change(|connection| connection.state = State::Arriving(Instant::now()));
    let body = match timeout(times.body, to_bytes(Body::new(body), body_bytes)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            return (StatusCode::PAYLOAD_TOO_LARGE, "the body is too long, or was cut\n").into_response();
        }
        Err(_) => return (StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time\n").into_response(),
    };
    parts.extensions.insert(ConnectInfo(from));
    entry.change(|connection| connection.state = State::Busy);
    let Ok(response) = router.call(Request::from_parts(parts, Body::from(body))).await;
    let is_known = response.extensions().get::<Known>().is_some();
    entry.change(|connection| {
        connection.state = State::Idle;
        connection.is_known |= is_known;
    });
    response
}

impl Connections {
    /// Accepts a new connection, once it has a permit.
    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let (stream, from) = listener.accept().await?;
        loop {
            if let Some(permit) = self.room() {
                return Ok((stream, from, permit));
            }
            sleep(self.bounds.times.grace / 10).await;
        }
    }

    /// Returns a permit for one more connection. If none is free, tells one connection to make
    /// room.
    fn room(&self) -> Option<OwnedSemaphorePermit> {
        let table = self.table();
        // Entries are in the order of their opening.
        let staying = || table.values().filter(|connection| !connection.close.is_cancelled());
        let strangers = || staying().filter(|connection| !connection.is_known);
        let mut oldest = [
            strangers().find(|connection| connection.is_idle(self.bounds.times)),
            strangers().find(|connection| connection.is_slow(self.bounds.times)),
            staying().find(|connection| connection.is_idle(self.bounds.times)),
        ]
        .into_iter()
        .flatten();
        let waiting = strangers().filter(|connection| connection.state != State::Busy).count();
        if waiting >= self.bounds.strangers {
            oldest.next().filter(|connection| !connection.is_known)?.close.cancel();
        }
        let permit = self.free.clone().try_acquire_owned().ok();
        // A connection that was told to close gives its permit back soon. Closing a known one
        // instead would cost an operator the event stream.
        let is_leaving = || table.values().any(|connection| connection.close.is_cancelled());
        if permit.is_none() && !is_leaving() {
            oldest.next()?.close.cancel();
        }
        permit
    }

    fn enter(self: &Arc<Self>, id: u64, close: CancellationToken, permit: OwnedSemaphorePermit) -> Entry {
        let connection = Connection { opened: Instant::now(), state: State::Idle, is_known: false, close };
        self.table().insert(id, connection);
        Entry { connections: self.clone(), id, _permit: permit }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<u64, Connection>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Whether it can be closed without the loss of a request.
    fn is_idle(&self, times: Times) -> bool {
        self.state == State::Idle && self.opened.elapsed() >= times.grace
    }

    fn is_slow(&self, times: Times) -> bool {
        matches!(self.state, State::Arriving(since) if since.elapsed() >= times.slow)
    }
}

impl Entry {
    fn change(&self, how: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.connections.table().get_mut(&self.id) {
            how(connection);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.table().remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
