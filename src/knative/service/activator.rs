//! The buffer in front of the replicas: holds each request until a replica has a free slot, then runs it there.
//!
//! As Knative's activator does, it counts a request from its arrival until its end, and answers in the activator's own words. Unlike it,
//! it reads the body at once: Go's server notices that a client has left only after the body was read, and a request that waits in the
//! real activator is dispatched although nobody will take the answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures_util::StreamExt;
use http::StatusCode;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::clock::Clock;
use super::pool::{Pool, ReplicaId, Ticket};
use super::revision::{Counts, Revision};
use super::settings::Settings;
use super::worker::Worker;

/// The state that all requests share, and what runs them.
pub struct Activator {
    settings: Settings,
    worker: Box<dyn Worker>,
    clock: Clock,
    revision: Mutex<Revision<oneshot::Sender<Slot>>>,
    counts: watch::Sender<Counts>,
    /// The next turn may be due earlier than it was.
    changed: Notify,
}

/// A request that counts as load. Dropping it, when the answer is complete or its client is gone, takes it off.
struct Held {
    activator: Arc<Activator>,
    ticket: Ticket,
}

/// A slot of a replica. Dropping it frees the slot.
struct Slot {
    activator: Arc<Activator>,
    replica: ReplicaId,
}

impl Activator {
    pub fn new(settings: Settings, worker: impl Worker) -> Arc<Self> {
        let clock = Clock::start();
        let pool = Pool::new(settings.container_concurrency, settings.cold_start, settings.queue_depth);
        Arc::new(Activator {
            revision: Mutex::new(Revision::new(settings.autoscaling.clone(), pool, clock.now())),
            counts: watch::Sender::default(),
            changed: Notify::new(),
            worker: Box::new(worker),
            clock,
            settings,
        })
    }

    /// Lets time pass for the replicas; runs until it is dropped.
    pub async fn drive(self: Arc<Self>) {
        loop {
            self.turn();
            let next = self.clock.instant(self.revision().next_turn());
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Answers one request.
    pub async fn hold(self: Arc<Self>, request: Request) -> Response {
        let deadline = Instant::now() + self.settings.timeout;
        let (sender, receiver) = oneshot::channel();
        let Some(held) = self.arrive(sender) else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "pending request queue full\n");
        };
        // Whatever drops this future drops the request's place in the queue, its slot and its work with it.
        let work = async {
            let (parts, body) = request.into_parts();
            let body = match axum::body::to_bytes(body, self.settings.body_bytes).await {
                Ok(body) => body,
                Err(error) => {
                    tracing::warn!(%error, "a request body could not be read");
                    return plain(StatusCode::PAYLOAD_TOO_LARGE, "request body too large or broken off\n");
                }
            };
            let Ok(slot) = receiver.await else {
                return plain(StatusCode::INTERNAL_SERVER_ERROR, "");
            };
            let response = self.worker.call(Request::from_parts(parts, Body::from(body))).await;
            until_answered(response, (held, slot))
        };
        match tokio::time::timeout_at(deadline, work).await {
            Ok(response) => response,
            Err(_) => plain(StatusCode::GATEWAY_TIMEOUT, "activator request timeout"),
        }
    }

    pub fn counts(&self) -> watch::Receiver<Counts> {
        self.counts.subscribe()
    }

    fn arrive(self: &Arc<Self>, waiter: oneshot::Sender<Slot>) -> Option<Held> {
        let ticket = self.revision().arrive(self.clock.now(), waiter).ok()?;
        let held = Held { activator: Arc::clone(self), ticket };
        self.turn();
        self.changed.notify_one();
        Some(held)
    }

    /// Does what is due. Slots are handed out after the lock is released: one whose request has just gone comes straight back.
    fn turn(self: &Arc<Self>) {
        let assigned = {
            let mut revision = self.revision();
            let assigned = revision.turn(self.clock.now());
            // Under the lock, so that no older count overtakes a newer one.
            let counts = revision.counts();
            self.counts.send_if_modified(|last| std::mem::replace(last, counts) != counts);
            assigned
        };
        for (waiter, replica) in assigned {
            let slot = Slot { activator: Arc::clone(self), replica };
            drop(waiter.send(slot));
        }
    }

    fn revision(&self) -> MutexGuard<'_, Revision<oneshot::Sender<Slot>>> {
        self.revision.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.activator.revision().leave(self.activator.clock.now(), self.ticket);
        self.activator.turn();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.activator.revision().release(self.replica);
        self.activator.turn();
    }
}

/// Keeps `running` until the body is out. A body of known size is complete in memory: the worker is done.
fn until_answered(response: Response, running: (Held, Slot)) -> Response {
    use axum::body::HttpBody;
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| {
        Body::from_stream(body.into_data_stream().map(move |chunk| {
            let _keep = &running;
            chunk
        }))
    })
}

pub(super) fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
