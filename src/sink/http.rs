//! Sends items over HTTP/1.1: one request for each attempt, open for as long as the work takes.
//!
//! The client does nothing by itself that could run an item twice or elsewhere: no redirect, no
//! proxy, no retry. One exception cannot be switched off and is harmless: if a reused connection
//! returns a request before a byte of it was written, hyper's pool sends it on another connection.
//! On a fresh connection the same ending is [`Failure::NotSent`]. Once a byte may have been
//! written, nobody can tell whether the server closed an idle connection or died with the work
//! done, so that is [`Failure::Lost`]. Idle connections are closed early, which makes it rare.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, MaxSizeReached};
use reqwest::{Method, Url};

use super::classify::{self, Classified, Failure, MOST_HEAD_BYTES, Rules, Seen};
use super::{Answer, Request, Response, Sink};

mod body;
mod counted;
mod error;
mod kept;
mod settings;

#[cfg(test)]
mod tests;

pub use crate::connect::http::HeaderSource;
pub use settings::{BuildError, Environment, Replies, Settings};

use self::error::Head;
use crate::connect;
use crate::connect::http::{KEEPALIVE, Watched};
use crate::delivery::Outcome;

/// Sends the requests of one pipeline.
pub struct Client {
    url: Url,
    /// The address without its query, for people and dead letters.
    destination: String,
    timeout: Duration,
    rules: Rules,
    /// The most bytes of an answer that are kept.
    keep: usize,
    /// The most bytes of a reply.
    response_bytes: usize,
    replies: Replies,
    /// Whether any answer has ever arrived.
    has_answered: AtomicBool,
    /// The HTTP client. A new one replaces it when a certificate changes; open requests continue on
    /// the old one.
    connections: Watched<reqwest::Client>,
    headers: Watched<HeaderMap>,
}

impl Client {
    /// Reads all files of the settings once.
    ///
    /// # Errors
    /// If an address, a header or a certificate cannot be used.
    pub fn new(settings: Settings) -> Result<Self, BuildError> {
        let url = settings::url(settings.sink.url.as_deref(), settings.environment.k_sink.as_deref())?;
        let oidc_token = settings.environment.oidc_token.clone();
        let headers = connect::http::headers(
            settings.fixed_headers(&url)?,
            settings.headers.clone(),
            Some(oidc_token),
        )?;
        let timeout = settings.sink.timeout.get();
        let rules = Rules {
            require_outcome: settings.sink.require_outcome,
            reject_on: settings.sink.reject_on.clone(),
        };
        let replies = settings.replies;
        let response_bytes = usize::try_from(settings.sink.response_bytes.get()).unwrap_or(usize::MAX);
        let keep = match replies {
            Replies::Used => response_bytes.max(kept::SNIFFED_BYTES),
            Replies::Ignored => kept::SNIFFED_BYTES,
        };
        let destination = connect::http::shown(&url);
        let connections = connect::http::client(settings.trust(), &url, move || builder(&settings))?;
        let has_answered = AtomicBool::new(false);
        Ok(Client {
            url,
            destination,
            timeout,
            rules,
            keep,
            response_bytes,
            replies,
            has_answered,
            connections,
            headers,
        })
    }

    async fn attempt(&self, request: Request) -> Answer {
        let started = Instant::now();
        let client = self.connections.get();
        let body = request.body.clone();
        let Ok(mut outgoing) = self.request(request) else { return unanswered(&Failure::TooManyHeaders) };
        let head = head_bytes(&outgoing);
        if head > MOST_HEAD_BYTES {
            return unanswered(&Failure::HeadTooLarge(head));
        }
        let unsent = self.is_first_contact().then(|| counted::give(&mut outgoing, body)).flatten();
        match client.execute(outgoing).await {
            Ok(response) => self.receive(response, started).await,
            Err(error) => {
                let is_cut = unsent.is_some_and(|unsent| unsent.load(Ordering::Relaxed) > 0);
                unanswered(&self.failure(&error, is_cut, started))
            }
        }
    }

    /// Whether the service has never answered over TLS.
    fn is_first_contact(&self) -> bool {
        self.url.scheme() == "https" && !self.has_answered.load(Ordering::Relaxed)
    }

    /// Classifies an error. If a peer refuses the client's certificate while a large body is being
    /// written, it closes the connection, and its alert is lost. So a request that is cut there did
    /// not reach a service that has never answered over TLS. `is_cut` is true if a part of the body
    /// was certainly not sent.
    fn failure(&self, error: &reqwest::Error, is_cut: bool, started: Instant) -> Failure {
        let failure = error::failure(error, Head::Missing, started, self.timeout);
        let is_cut = is_cut || error::was_not_written(error);
        match failure {
            Failure::Lost(text) if self.is_first_contact() && is_cut => {
                Failure::Alert(format!("{text} (does it accept the client certificate, sink.tls.cert_file?)"))
            }
            failure => failure,
        }
    }

    fn request(&self, request: Request) -> Result<reqwest::Request, MaxSizeReached> {
        let mut outgoing = reqwest::Request::new(Method::POST, self.url.clone());
        let mut headers = request.headers;
        for (name, value) in self.headers.get().iter() {
            headers.try_insert(name.clone(), value.clone())?;
        }
        // hyper leaves out the length of an empty body, and some servers answer 411 to a POST
        // without one. If Host and the length are missing, hyper also enlarges its copy of the map,
        // which lives as long as the request.
        headers.try_insert(CONTENT_LENGTH, HeaderValue::from(request.body.len()))?;
        // reqwest adds Accept and User-Agent, and panics if the map is full. A map of the usual
        // size is not, and keeps its memory for as long as the request.
        if headers.len() > 64 {
            headers.try_reserve(8)?;
        }
        *outgoing.headers_mut() = headers;
        *outgoing.body_mut() = Some(request.body.into());
        Ok(outgoing)
    }

    async fn receive(&self, mut response: reqwest::Response, started: Instant) -> Answer {
        self.has_answered.store(true, Ordering::Relaxed);
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let received = body::read(&mut response, self.keep).await;
        let cut =
            received.error.as_ref().map(|error| error::failure(error, Head::Complete, started, self.timeout));
        let seen = Seen {
            status,
            headers: &headers,
            body: &received.start,
            tail: &received.tail,
            cut: cut.as_ref(),
        };
        let Classified { outcome, detail } = classify::answer(&seen, &self.rules, SystemTime::now());
        let response = match (outcome, self.replies) {
            (Outcome::Done, Replies::Used) => kept::reply(&headers, received, self.response_bytes),
            _ => kept::excerpt(&headers, &received),
        };
        Answer { outcome, status: Some(status.as_u16()), detail, response: Some(response) }
    }
}

impl Sink for Client {
    fn send(&self, request: Request) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        Box::pin(self.attempt(request))
    }

    fn destination(&self) -> &str {
        &self.destination
    }
}

fn head_bytes(request: &reqwest::Request) -> usize {
    let line = request.url().as_str().len() + "POST  HTTP/1.1\r\n".len();
    let header = |(name, value): (&http::HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    line + request.headers().iter().map(header).sum::<usize>()
}

fn unanswered(failure: &Failure) -> Answer {
    let Classified { outcome, detail } = classify::failure(failure);
    Answer { outcome, status: None, detail, response: None }
}

fn builder(settings: &Settings) -> reqwest::ClientBuilder {
    let user_timeout = settings.sink.tcp_user_timeout.get();
    let probes = user_timeout.as_secs().div_ceil(KEEPALIVE.as_secs()).clamp(1, 120);
    connect::http::builder()
        .connect_timeout(settings.sink.connect_timeout.get())
        .timeout(settings.sink.timeout.get())
        .tcp_keepalive_retries(u32::try_from(probes).unwrap_or(1))
        .tcp_user_timeout(user_timeout)
        // The pool keeps one connection per slot. With fewer, most requests would open a new one.
        .pool_max_idle_per_host(settings.max_in_flight)
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Client").field("url", &self.destination).finish_non_exhaustive()
    }
}
