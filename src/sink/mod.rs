//! Sends items to the service: one request for each attempt, held open for as long as the work
//! takes.

use std::future::Future;
use std::pin::Pin;

use ::http::HeaderMap;
use bytes::Bytes;

use crate::delivery::Outcome;

pub mod classify;
pub mod http;

/// Sends an attempt and returns its ending. It never fails: every ending is an [`Answer`].
pub trait Sink: Send + Sync + 'static {
    /// Dropping the future closes the connection, which is how an attempt is cut short.
    fn send(&self, request: Request) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>>;

    /// Returns the address of the requests, without any secret, for logs and for
    /// `knativeerrordest`.
    fn destination(&self) -> &str;
}

/// One attempt, ready for the wire.
#[derive(Clone, Debug)]
pub struct Request {
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The end of a request.
#[derive(Clone, Debug)]
pub struct Answer {
    pub outcome: Outcome,
    /// The status code, if there was an answer.
    pub status: Option<u16>,
    /// One line for people: the worker's `Longhaul-Reason`, or the error.
    pub detail: String,
    /// The kept part of the answer, if there was one. If it may be a reply, these are the event's
    /// headers and the body, bounded by `sink.response_bytes`; else a few headers and the first
    /// KiB.
    pub response: Option<Response>,
}

/// The kept part of the worker's answer.
#[derive(Clone, Debug)]
pub struct Response {
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Whether the body was longer than the bound and was cut there.
    pub truncated: bool,
}
