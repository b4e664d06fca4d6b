//! The body of an answer that is still running. It keeps the request's slot, and ends when a limit
//! is reached.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use futures_util::Stream;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::answers;
use super::engine::{Held, Slot};
use super::forward::Connection;

/// The times at which a running request is ended.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub arrival: Instant,
    pub whole: Instant,
    /// The limit until the first byte.
    pub start: Option<Instant>,
    /// The limit without a byte, also before the first one.
    pub idle: Option<Duration>,
    /// The text of the answer in that case, if none has begun.
    pub text: &'static str,
}

/// A running request. Dropping it, as happens when the client leaves, ends the work.
pub struct Running {
    body: Option<BodyDataStream>,
    over: Pin<Box<Sleep>>,
    cut: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    limits: Limits,
    /// The order of the fields matters. First the worker learns of the end, then the slot becomes
    /// free, then the request stops counting as load.
    connection: Option<Connection>,
    slot: Option<Slot>,
    held: Option<Held>,
}

impl Limits {
    /// Returns the earliest limit.
    pub fn first(&self) -> Instant {
        let idle = self.idle.map(|idle| self.arrival + idle);
        [self.start, idle].into_iter().flatten().fold(self.whole, Instant::min)
    }
}

impl Running {
    pub fn new(
        body: Body,
        connection: Option<Connection>,
        slot: Option<Slot>,
        held: Held,
        limits: Limits,
    ) -> Self {
        let mut running = Running {
            body: Some(body.into_data_stream()),
            over: Box::pin(tokio::time::sleep_until(limits.whole)),
            cut: slot.as_ref().map(|slot| Box::pin(slot.target.cut().clone().cancelled_owned())),
            limits,
            connection,
            slot,
            held: Some(held),
        };
        running.put_off();
        running
    }

    /// Restarts the idle time after a byte.
    fn put_off(&mut self) {
        if let Some(idle) = self.limits.idle {
            self.over.as_mut().reset(self.limits.whole.min(Instant::now() + idle));
        }
    }

    fn end(&mut self) {
        self.body = None;
        self.cut = None;
        self.connection = None;
        self.slot = None;
        self.held = None;
    }

    /// Returns the text of the answer. The replica notices idleness first, because the last byte
    /// passed it first; the activator notices the end of the whole time.
    fn text(&self) -> &'static str {
        if Instant::now() < self.limits.whole { answers::QUEUE_PROXY_TIMEOUT } else { self.limits.text }
    }
}

impl Stream for Running {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        match Pin::new(body).poll_next(context) {
            Poll::Ready(Some(Ok(bytes))) => {
                self.put_off();
                return Poll::Ready(Some(Ok(bytes)));
            }
            Poll::Ready(Some(Err(error))) => {
                self.end();
                return Poll::Ready(Some(Err(error)));
            }
            Poll::Ready(None) => {
                self.end();
                return Poll::Ready(None);
            }
            Poll::Pending => {}
        }
        if self.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(context).is_ready()) {
            self.end();
            return Poll::Ready(Some(Err(axum::Error::new(std::io::Error::other("the replica is gone")))));
        }
        if self.over.as_mut().poll(context).is_ready() {
            // Sent bytes cannot be taken back. Knative ends such an answer as if it were complete,
            // and only its last line shows the error.
            let text = self.text();
            self.end();
            return Poll::Ready(Some(Ok(Bytes::from_static(text.as_bytes()))));
        }
        Poll::Pending
    }
}
