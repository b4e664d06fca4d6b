//! `longhaul intake`, and `intake:` of a running bridge: accepts items over HTTP, writes each one
//! to a queue or topic, and answers 202 after the confirm.
//!
//! A 202 to a request without `Longhaul-Repeat` means that the item was written exactly once, as
//! long as this process remembers its id and no other request repeated it. If a write may have
//! succeeded without a confirm, the answer says so, and the client decides. A request with
//! `Longhaul-Repeat: true` writes such an item again; after its 202 the item may exist twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Failure, Place};
use crate::admin::{self, Bounds, Times};
use crate::config::Secret;
use crate::publish::{Outgoing, PublishErrorKind, Publisher};
use crate::telemetry::IntakeCounts;

mod backlog;
mod known;
mod message;

use known::{Entry, Known};

/// The header with which a client repeats an item that is in doubt.
const REPEAT: &str = "longhaul-repeat";
/// The value of the header `Retry-After`, in seconds.
const RETRY_AFTER: &str = "5";
/// Connections beside those of the items that are written.
const PROBES: usize = 16;
/// The time in which the body of a request must arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The time in which the body of a request may arrive although other connections want its room.
const BODY_FIRST: Duration = Duration::from_secs(1);

pub struct Settings {
    pub to: Place,
    /// The consumer group whose lag is the backlog of a topic.
    pub group: Option<String>,
    /// The backlog at which requests are answered with 429; `None` sets no limit.
    pub backlog_max: Option<u64>,
    /// The largest number of requests that are handled at the same time.
    pub window: usize,
    pub body_bytes: usize,
    /// The number of item ids that are remembered.
    pub remember: usize,
    /// The bearer token that each item needs. It is read for each request, so that a file may
    /// change.
    pub token: Option<Secret>,
    pub counts: IntakeCounts,
}

struct Intake {
    publisher: Arc<dyn Publisher>,
    settings: Settings,
    known: Known,
    window: Semaphore,
    /// The backlog at the last successful count. It is 0 before the first count, and always 0 if
    /// `settings.backlog_max` sets no limit.
    counted_backlog: AtomicU64,
    /// Items that were written since the last successful count began.
    written_since_count: AtomicU64,
}

/// Serves requests until `stop` is cancelled, and then finishes the requests that have begun.
///
/// # Errors
/// Returns an error if the publisher or the client that counts cannot be created.
pub async fn run(settings: Settings, listener: TcpListener, stop: CancellationToken) -> Result<(), Failure> {
    let publisher = settings.to.publisher()?;
    let intake = Arc::new(Intake {
        publisher,
        known: Known::new(settings.remember),
        window: Semaphore::new(settings.window),
        counted_backlog: AtomicU64::new(0),
        written_since_count: AtomicU64::new(0),
        settings,
    });
    let app = Router::new().fallback(answer).with_state(Arc::clone(&intake));
    let bounds = bounds(&intake.settings);
    tokio::select! {
        () = admin::serve(listener, None, app, bounds, stop) => Ok(()),
        failed = backlog::watch(&intake) => failed,
    }
}

/// The bounds of the port. A client that sends its body slowly makes room for others. Probes have
/// room beside the items of a full window.
fn bounds(settings: &Settings) -> Bounds {
    let times = Times { body: BODY_TIMEOUT, slow: BODY_FIRST, ..Times::default() };
    let (strangers, body_bytes) = (settings.window + PROBES, settings.body_bytes);
    Bounds { port: "intake", strangers, known: 0, body_bytes, times }
}

async fn answer(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    let path = request.uri().path();
    match *request.method() {
        Method::GET if path == "/livez" => (StatusCode::OK, "ok\n").into_response(),
        Method::GET if path == "/readyz" => match intake.publisher.probe().await {
            Ok(()) => (StatusCode::OK, "ok\n").into_response(),
            Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, &error.what),
        },
        Method::POST => {
            let answer = match intake.allows(request.headers()) {
                true => intake.accept(request).await,
                false => no_token(),
            };
            intake.settings.counts.answered(answer.status().as_u16());
            answer
        }
        _ => {
            let refused = text(StatusCode::METHOD_NOT_ALLOWED, "POST an item, or a CloudEvent");
            ([(header::ALLOW, "POST")], refused).into_response()
        }
    }
}

impl Intake {
    /// A token that cannot be read allows nobody.
    fn allows(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.settings.token else { return true };
        match token.resolve() {
            Ok(token) => admin::shows_token(headers, &token),
            Err(error) => {
                tracing::warn!(%error, help = error.help(), "Token of the intake cannot be read; no item is accepted");
                false
            }
        }
    }

    async fn accept(&self, request: Request) -> Response {
        if self.is_full() {
            return later(StatusCode::TOO_MANY_REQUESTS, "the backlog is at its limit");
        }
        let Ok(_permit) = self.window.try_acquire() else {
            return later(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once");
        };
        let (parts, body) = request.into_parts();
        let limit = self.settings.body_bytes;
        let Ok(body) = to_bytes(body, limit).await else {
            let reason = format!("the body has more than {limit} bytes");
            return text(StatusCode::PAYLOAD_TOO_LARGE, &reason);
        };
        let digest = digest(&parts.headers, &body);
        let item = match message::read(&parts.headers, body, self.settings.to.broker()) {
            Ok(item) => item,
            Err(reason) => return text(StatusCode::BAD_REQUEST, &reason),
        };
        let source = value(&parts.headers, "ce-source").unwrap_or_default();
        let key = format!("{source}\0{}", item.id);
        let repeats = parts.headers.get(REPEAT).is_some_and(|value| value == "true");
        self.write(&key, &item.id, item.outgoing, digest, repeats).await
    }

    /// Writes the item, unless it is known. The source and the id of an event together are its key.
    async fn write(
        &self,
        key: &str,
        id: &str,
        outgoing: Outgoing,
        digest: [u8; 32],
        repeats: bool,
    ) -> Response {
        // Requests with the same id are handled one after the other.
        let _turn = self.known.turn(key).await;
        let before = self.known.get(key);
        match before {
            Some(Entry { digest: its, .. }) if its != digest => {
                return text(StatusCode::CONFLICT, "another item has this id");
            }
            Some(Entry { is_doubtful: false, .. }) => return accepted_answer(id, true),
            Some(Entry { is_doubtful: true, .. }) if !repeats => {
                return doubtful_answer(id, StatusCode::CONFLICT);
            }
            _ => {}
        }
        // A client that leaves ends this request at once, and the item may be written all the same.
        self.known.set(key, Entry { digest, is_doubtful: true });
        match self.publisher.publish(outgoing).await {
            Ok(()) => {
                self.written_since_count.fetch_add(1, Ordering::Relaxed);
                self.known.set(key, Entry { digest, is_doubtful: false });
                accepted_answer(id, false)
            }
            Err(error) => {
                tracing::warn!(id, error = error.what, "Item not accepted");
                let is_in_doubt = error.kind == PublishErrorKind::Transient && !error.is_unwritten;
                if !is_in_doubt && before.is_none() {
                    self.known.forget(key);
                }
                match error.kind {
                    PublishErrorKind::TooLarge => text(StatusCode::PAYLOAD_TOO_LARGE, &error.what),
                    PublishErrorKind::Impossible => text(StatusCode::UNPROCESSABLE_ENTITY, &error.what),
                    PublishErrorKind::Transient if error.is_unwritten => {
                        later(StatusCode::SERVICE_UNAVAILABLE, &error.what)
                    }
                    PublishErrorKind::Transient => doubtful_answer(id, StatusCode::BAD_GATEWAY),
                }
            }
        }
    }

    fn is_full(&self) -> bool {
        let counted = self.counted_backlog.load(Ordering::Relaxed);
        let backlog = counted.saturating_add(self.written_since_count.load(Ordering::Relaxed));
        self.settings.backlog_max.is_some_and(|limit| backlog >= limit)
    }
}

fn accepted_answer(id: &str, is_known: bool) -> Response {
    let location = format!("/api/v1/items/{}", utf8_percent_encode(id, NON_ALPHANUMERIC));
    let body = serde_json::json!({ "id": id, "known": is_known });
    let headers = [(header::LOCATION, location), (header::CONTENT_TYPE, "application/json".to_owned())];
    (StatusCode::ACCEPTED, headers, format!("{body}\n")).into_response()
}

fn doubtful_answer(id: &str, status: StatusCode) -> Response {
    let body = serde_json::json!({
        "id": id,
        "error": "the write was not confirmed, so the item may be there; with the header Longhaul-Repeat: true it is \
                  written again, and may then be there twice",
    });
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

fn no_token() -> Response {
    let refused = text(StatusCode::UNAUTHORIZED, "send the token of the intake: Authorization: Bearer TOKEN");
    ([(header::WWW_AUTHENTICATE, "Bearer")], refused).into_response()
}

fn later(status: StatusCode, reason: &str) -> Response {
    ([(header::RETRY_AFTER, RETRY_AFTER)], text(status, reason)).into_response()
}

fn text(status: StatusCode, reason: &str) -> Response {
    let body = serde_json::json!({ "error": reason });
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

/// The digest of everything that makes two requests the same item: the body, its type, and the
/// attributes of the event.
fn digest(headers: &HeaderMap, body: &[u8]) -> [u8; 32] {
    let is_part = |name: &str| name.starts_with("ce-") || name == "content-type";
    let mut parts: Vec<(&str, &[u8])> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .filter(|(name, _)| is_part(name))
        .collect();
    parts.sort_unstable();
    let mut digest = Sha256::new();
    for piece in parts.iter().flat_map(|(name, value)| [name.as_bytes(), *value]).chain([body]) {
        digest.update((piece.len() as u64).to_be_bytes());
        digest.update(piece);
    }
    digest.finalize().into()
}

/// The first value of a header as text.
fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
}
