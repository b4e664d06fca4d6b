//! Accepts requests: answers probes at once, and runs one item at a time.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use tokio::sync::{oneshot, watch};

use super::event::Event;
use super::item::Runner;
use super::outcome::{Ending, Outcome, not_started, plain};
use super::{InputKind, Phase};

const PROBE: HeaderName = HeaderName::from_static("k-network-probe");
const PROBE_HASH: HeaderName = HeaderName::from_static("k-network-hash");
/// How long the rest of an unneeded body is read. Without that, a client that still writes would
/// get a reset and lose the answer.
const DISCARD: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Requests {
    runner: Arc<Runner>,
    busy: watch::Sender<bool>,
    was_cut: AtomicBool,
}

/// The only place for an item. Dropping this frees it.
struct Place(Arc<Requests>);

impl Drop for Place {
    fn drop(&mut self) {
        // The data of a refused item may still be there.
        let _ = std::fs::remove_file(self.0.runner.folder.data());
        self.0.busy.send_replace(false);
    }
}

impl Requests {
    pub fn new(runner: Arc<Runner>) -> Self {
        Requests { runner, busy: watch::channel(false).0, was_cut: AtomicBool::new(false) }
    }

    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if let Some(value) = request.headers().get(PROBE) {
            return self.probe(value, request.headers().get(PROBE_HASH));
        }
        match *request.method() {
            Method::GET | Method::HEAD => self.health(request.uri().path()),
            Method::POST | Method::PUT => self.item(request).await,
            _ => {
                discard(request.into_body()).await;
                plain(StatusCode::METHOD_NOT_ALLOWED, "items are sent with POST")
            }
        }
    }

    pub fn is_busy(&self) -> bool {
        *self.busy.borrow()
    }

    /// Whether an item was interrupted by a stop.
    pub fn was_cut(&self) -> bool {
        self.was_cut.load(Ordering::Relaxed)
    }

    /// Waits until no item runs.
    pub async fn idle(&self) {
        let mut busy = self.busy.subscribe();
        let _ = busy.wait_for(|busy| !busy).await;
    }

    fn phase(&self) -> Phase {
        *self.runner.phase.borrow()
    }

    /// Answers Knative's probes of the data path, which expect the value and the hash back.
    fn probe(&self, value: &HeaderValue, hash: Option<&HeaderValue>) -> Response<Full<Bytes>> {
        if self.phase() != Phase::Open {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "stopping");
        }
        let mut response = Response::new(Full::new(Bytes::copy_from_slice(value.as_bytes())));
        hash.and_then(|hash| response.headers_mut().insert(PROBE_HASH, hash.clone()));
        response
    }

    /// Answers a health check on any path. A busy worker is alive and ready; a stopping one is only
    /// alive.
    fn health(&self, path: &str) -> Response<Full<Bytes>> {
        let is_liveness = matches!(path, "/livez" | "/healthz");
        if self.phase() == Phase::Open || is_liveness {
            plain(StatusCode::OK, "ok\n")
        } else {
            plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
        }
    }

    async fn item(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Some(place) = self.take_place() else {
            discard(request.into_body()).await;
            return not_started();
        };
        let (parts, body) = request.into_parts();
        let is_structured = Event::is_structured(&parts.headers);
        let mut event = match self.receive(body, is_structured).await {
            Ok(Some(event)) => event,
            Ok(None) => Event::binary(&parts.headers),
            Err(refusal) => return refusal,
        };
        // SIGTERM may have come while the body was read.
        if self.phase() != Phase::Open {
            return not_started();
        }
        let (done, answer) = oneshot::channel();
        // hyper drops this future, and with it `present`, when the client disconnects.
        let (present, gone) = oneshot::channel::<()>();
        let requests = Arc::clone(&self);
        // The item has a task of its own, because it must end in order even if the client has gone.
        tokio::spawn(async move {
            let ending = requests.runner.run(&mut event, gone).await;
            let is_stopping = requests.phase() == Phase::Interrupt;
            if ending.outcome == Outcome::Interrupted && is_stopping {
                requests.was_cut.store(true, Ordering::Relaxed);
            }
            // The place becomes free before the answer is sent, so that the client's next item is
            // not refused. A stop waits for the open connections, and so for the answer.
            drop(place);
            let _ = done.send(ending);
        });
        let answer = answer.await;
        drop(present);
        answer
            .unwrap_or_else(|_| {
                Ending::new(Outcome::Failed, "longhaul worker failed: the task of the item panicked")
            })
            .answer()
    }

    fn take_place(self: &Arc<Self>) -> Option<Place> {
        let is_free =
            self.phase() == Phase::Open && self.busy.send_if_modified(|busy| !std::mem::replace(busy, true));
        is_free.then(|| Place(Arc::clone(self)))
    }

    /// Writes the data into the item's file. Returns the event if the body was structured.
    async fn receive(
        &self,
        body: Incoming,
        is_structured: bool,
    ) -> Result<Option<Event>, Response<Full<Bytes>>> {
        let limit = self.runner.settings.body_bytes;
        let is_none = self.runner.settings.input == InputKind::None && !is_structured;
        if body.size_hint().lower() > limit && !is_none {
            discard(body).await;
            return Err(too_large(limit));
        }
        let failed = |error: io::Error| Ending::new(Outcome::Failed, format!("the data: {error}")).answer();
        if is_none {
            discard(body).await;
            return Ok(None);
        }
        match self.store(body, limit).await.map_err(failed)? {
            Stored::Whole => {}
            Stored::TooLarge(rest) => {
                discard(rest).await;
                return Err(too_large(limit));
            }
        }
        if !is_structured {
            return Ok(None);
        }
        let path = self.runner.folder.data();
        let bytes = std::fs::read(&path).map_err(failed)?;
        let (event, data) =
            Event::structured(&bytes).map_err(|reason| Ending::new(Outcome::Reject, reason).answer())?;
        std::fs::write(&path, data).map_err(failed)?;
        Ok(Some(event))
    }

    async fn store(&self, mut body: Incoming, limit: u64) -> io::Result<Stored> {
        let mut file = self.runner.folder.new_data()?;
        let mut count = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(io::Error::other)?;
            let Some(bytes) = frame.data_ref() else { continue };
            count += bytes.len() as u64;
            if count > limit {
                return Ok(Stored::TooLarge(body));
            }
            file.write_all(bytes)?;
        }
        Ok(Stored::Whole)
    }
}

enum Stored {
    Whole,
    TooLarge(Incoming),
}

fn too_large(limit: u64) -> Response<Full<Bytes>> {
    let reason = format!("the body has more than {limit} bytes (--body-bytes)");
    let mut response = Ending::new(Outcome::Reject, reason).answer();
    *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
    response
}

async fn discard(mut body: Incoming) {
    let all = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = tokio::time::timeout(DISCARD, all).await;
}
