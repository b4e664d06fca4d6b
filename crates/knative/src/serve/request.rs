//! Handles one request, from its arrival to the last byte of its answer.
//!
//! As in Knative it counts as load from beginning to end, and every time limit runs from its
//! arrival, also while it waits for a replica. Unlike in Knative, a waiting request is dropped as
//! soon as its client leaves. Go's server notices a lost client only after the body was read, so
//! the real activator sends work to a replica for which nobody waits. Here the body is read early,
//! up to a bound.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use futures_util::StreamExt;
use tokio::time::Instant;

use super::answers;
use super::body::{Limits, Running};
use super::chaos::Fault;
use super::engine::{Engine, Held, Slot, Way};
use super::forward::{self, Connection};
use super::replica::Target;

/// How many bytes of a body are read before its request runs; the rest follows then.
const READ_AHEAD_BYTES: usize = 4 << 20;

/// Closes the client's connection without an answer: a fault asked for that, or the service ended
/// before the request ran.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut on purpose")]
pub struct Cut;

/// The head of an answer, and the values that its body needs.
pub struct Started {
    pub response: Response,
    pub connection: Option<Connection>,
    pub slot: Option<Slot>,
}

/// Answers one request.
///
/// # Errors
/// A fault asked for no answer, or the service ended before the request ran.
pub async fn hold(engine: Arc<Engine>, request: Request) -> Result<Response, Cut> {
    if let Some(answer) = answers::probe(&request) {
        return Ok(answer);
    }
    let Ok((held, slot)) = engine.arrive(item(&request)) else {
        return Ok(answers::queue_full());
    };
    let limits = limits(&engine, &held);
    // Dropping this future also drops the request's place in the queue, its slot and its work.
    let work = async {
        let waiting = async { (read_ahead(request).await, slot.await) };
        let (request, slot) = tokio::select! {
            biased;
            waited = waiting => waited,
            () = engine.over().cancelled() => return Err(Cut),
        };
        match slot {
            Ok(slot) => run(&engine, request, slot).await,
            Err(_) => Ok(Started { response: answers::closed(), connection: None, slot: None }),
        }
    };
    match tokio::time::timeout_at(limits.first(), work).await {
        Ok(answer) => answer.map(|answer| until_sent(answer, held, limits)),
        Err(_) => Ok(answers::timeout(limits.text)),
    }
}

async fn run(engine: &Arc<Engine>, request: Request, slot: Slot) -> Result<Started, Cut> {
    let port = engine.settings.service.port;
    let fault = engine.settings.chaos.fault();
    if fault == Some(Fault::Refuse) {
        return Ok(Started { response: answers::refused(port), connection: None, slot: Some(slot) });
    }
    let cut = slot.target.cut().clone();
    let kill = async {
        match fault {
            Some(Fault::KillAfter(wait)) => engine.clock.sleep(wait).await,
            _ => std::future::pending().await,
        }
        slot.target.kill();
        std::future::pending().await
    };
    let answer = async {
        match &slot.target {
            Target::BuiltIn { worker, .. } => (worker.call(request).await, None),
            Target::Process { port: own, .. } => match forward::send(*own, port, request).await {
                Ok((response, connection)) => (response, Some(connection)),
                Err(response) => (response, None),
            },
        }
    };
    let (response, connection) = tokio::select! {
        answer = answer => answer,
        // The replica is gone, and with it everything that it ran.
        () = cut.cancelled() => (answers::closed(), None),
        () = kill => (answers::closed(), None),
    };
    if fault == Some(Fault::Reset) {
        return Err(Cut);
    }
    Ok(Started { response, connection, slot: Some(slot) })
}

/// Keeps everything that the request holds until the last byte of the answer is sent.
fn until_sent(answer: Started, held: Held, limits: Limits) -> Response {
    use axum::body::HttpBody;
    let Started { mut response, connection, slot } = answer;
    if let Some(length) = response.body().size_hint().exact() {
        // A stream has no length, so the header is set here.
        response.headers_mut().entry(http::header::CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    response.map(|body| {
        if body.is_end_stream() {
            return body;
        }
        Body::from_stream(Running::new(body, connection, slot, held, limits))
    })
}

fn limits(engine: &Engine, held: &Held) -> Limits {
    let arrival = Instant::now();
    let timeouts = engine.settings.service.timeouts;
    let outside = |span: Duration| held.outside(span);
    Limits {
        whole: arrival + outside(timeouts.request),
        start: timeouts.response_start.map(|span| arrival + outside(span)),
        idle: timeouts.idle.map(outside),
        arrival,
        text: match held.way {
            // The activator's clock started first, so the activator answers first.
            Way::Activator => answers::ACTIVATOR_TIMEOUT,
            Way::Direct => answers::QUEUE_PROXY_TIMEOUT,
        },
    }
}

async fn read_ahead(request: Request) -> Request {
    let (parts, body) = request.into_parts();
    let mut rest = body.into_data_stream();
    let mut read: Vec<Result<Bytes, axum::Error>> = Vec::new();
    let mut bytes = 0;
    while bytes < READ_AHEAD_BYTES {
        match rest.next().await {
            None => {
                let whole: Result<Vec<Bytes>, _> = read.into_iter().collect();
                let body = match whole {
                    Ok(chunks) => Body::from(chunks.concat()),
                    Err(error) => Body::from_stream(futures_util::stream::iter([Err::<Bytes, _>(error)])),
                };
                return Request::from_parts(parts, body);
            }
            Some(chunk) => {
                bytes += chunk.as_ref().map_or(READ_AHEAD_BYTES, Bytes::len);
                read.push(chunk);
            }
        }
    }
    let body = Body::from_stream(futures_util::stream::iter(read).chain(rest));
    Request::from_parts(parts, body)
}

/// Returns the request's name for a person.
fn item(request: &Request) -> String {
    let id = request.headers().get("ce-id").map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
    id.unwrap_or_else(|| format!("{} {}", request.method(), request.uri().path()))
}
