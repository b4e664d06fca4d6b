//! Decides what the ending of a request means for the item. No other code decides this.
//!
//! Knative's components answer in place of the worker without marking it: their statuses are
//! ordinary, and only their bodies tell them apart. The texts below come from the activator,
//! queue-proxy and Envoy. An answer with `Longhaul-Outcome` is always the worker's, whatever its
//! body says.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{CONTENT_LENGTH, HeaderMap, LOCATION, RETRY_AFTER, SERVER};

use crate::delivery::Outcome;

#[cfg(test)]
mod tests;

/// The worker's verdict: `done`, `retry`, `reject` or `interrupted`.
pub const OUTCOME_HEADER: &str = "longhaul-outcome";
/// The worker's reason for its verdict, for people.
pub const REASON_HEADER: &str = "longhaul-reason";
/// The checkpoint of the worker for the next attempt, percent-encoded.
pub const CHECKPOINT_HEADER: &str = "longhaul-checkpoint";

/// The longest `Retry-After` that counts, so that no arithmetic on it can overflow. The core has
/// its own limit, `retry.backoff_max`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// The most characters of a body in a detail line.
const EXCERPT: usize = 200;

/// The most characters of an error in a detail line.
const ERROR_CHARS: usize = 500;

/// The most bytes of a request's head, the configured headers included.
pub const MOST_HEAD_BYTES: usize = 64 * 1024;

/// An outcome, and one line with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classified {
    pub outcome: Outcome,
    pub detail: String,
}

/// The configuration's rules for answers.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// `sink.require_outcome`: an answer without the worker's header is not the worker's.
    pub require_outcome: bool,
    /// `sink.reject_on`: statuses with which the worker rejects an item.
    pub reject_on: Vec<u16>,
}

/// The part of an answer that was read.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub status: StatusCode,
    pub headers: &'a HeaderMap,
    /// The kept start of the body.
    pub body: &'a [u8],
    /// The last bytes of the body, even if its middle was not kept.
    pub tail: &'a [u8],
    /// The reason why the body is incomplete, if it is.
    pub cut: Option<&'a Failure>,
}

/// A request without an answer, or with an incomplete one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection was made: name resolution, connecting or the TLS handshake failed.
    #[error("no connection: {0}")]
    NotConnected(String),
    /// The connection closed before the first byte of the request was written.
    #[error("closed before the request was sent: {0}")]
    NotSent(String),
    /// The peer sent a fatal TLS alert before the first byte of an answer. With TLS 1.3 a client
    /// sends its request before the peer has judged the handshake.
    #[error("the peer ended TLS before any answer: {0}")]
    Alert(String),
    /// The same, because the peer refuses our certificate or requires one.
    #[error("the peer refused the client certificate (sink.tls.cert_file): {0}")]
    CertificateRefused(String),
    /// `sink.timeout` passed.
    #[error("no end of the answer within {0:?} (sink.timeout)")]
    TimedOut(Duration),
    /// The connection broke after the request was sent, or may have been sent.
    #[error("connection lost: {0}")]
    Lost(String),
    /// An answer came, and the parser rejected it.
    #[error("the service answered, but the answer is not valid HTTP: {0}")]
    Unreadable(String),
    /// The item cannot be put into a request.
    #[error("the item has more headers than a request can have")]
    TooManyHeaders,
    #[error("the head of the request would have {0} bytes, and {MOST_HEAD_BYTES} are allowed")]
    HeadTooLarge(usize),
}

/// Classifies a request that had no answer.
pub fn failure(failure: &Failure) -> Classified {
    let outcome = match failure {
        Failure::NotConnected(_) | Failure::NotSent(_) | Failure::Alert(_) => {
            Outcome::NotStarted { retry_after: None }
        }
        Failure::CertificateRefused(_) => Outcome::Misconfigured,
        Failure::TimedOut(_) | Failure::Lost(_) => Outcome::Unknown,
        Failure::Unreadable(_) => Outcome::Unreadable,
        Failure::TooManyHeaders | Failure::HeadTooLarge(_) => Outcome::Rejected,
    };
    Classified { outcome, detail: one_line(&failure.to_string()) }
}

/// Classifies an answer. A `Retry-After` with a date counts from `now`.
pub fn answer(seen: &Seen<'_>, rules: &Rules, now: SystemTime) -> Classified {
    let code = seen.status.as_u16();
    match seen.cut {
        None => {}
        Some(failure @ Failure::Unreadable(_)) => {
            let detail = one_line(&format!("{code}: {failure}"));
            return Classified { outcome: Outcome::Unreadable, detail };
        }
        Some(failure) => return unknown(one_line(&format!("{code}: the answer was cut short: {failure}"))),
    }
    let retry_after = retry_after(seen.headers, now);
    let detail = detail(seen);
    // This comes before any look at the body, because a worker may write any text there.
    let mut words: Vec<String> = seen
        .headers
        .get_all(OUTCOME_HEADER)
        .iter()
        .map(|word| String::from_utf8_lossy(word.as_bytes()).trim().to_ascii_lowercase())
        .collect();
    words.dedup();
    if !words.is_empty() {
        // Two different fields are joined, which gives no known verdict.
        let word = words.join(", ");
        return by_worker(&word, seen.status, retry_after, detail);
    }
    if ends_in_timeout(seen) {
        return unknown("the answer was streamed and Knative's timeout ended it".to_owned());
    }
    if seen.status.is_informational() {
        let detail = format!("{code}: the service changed the protocol, which nobody asked for");
        return Classified { outcome: Outcome::Unreadable, detail };
    }
    let empty_error = seen.status == StatusCode::INTERNAL_SERVER_ERROR && seen.body.trim_ascii().is_empty();
    let is_listed = rules.reject_on.contains(&code) && !rules.require_outcome;
    let outcome = match by_intermediary(seen) {
        Some(Intermediary::NotStarted) => Outcome::NotStarted { retry_after },
        Some(Intermediary::Unknown) => Outcome::Unknown,
        Some(Intermediary::Refused) => Outcome::Rejected,
        Some(Intermediary::Misconfigured) => return misconfigured(seen, detail),
        None if is_listed => Outcome::Rejected,
        None if concerns_the_configuration(seen.status) => return misconfigured(seen, detail),
        // The activator and queue-proxy answer this if their breaker failed before the worker was
        // reached.
        None if rules.require_outcome && empty_error => Outcome::NotStarted { retry_after },
        None if rules.require_outcome => {
            return unknown(format!("no Longhaul-Outcome in the answer; {detail}"));
        }
        None => by_status(seen.status, retry_after),
    };
    Classified { outcome, detail }
}

/// Whether the status means refused credentials or a redirect: every item would get the same
/// answer.
fn concerns_the_configuration(status: StatusCode) -> bool {
    status.is_redirection() || matches!(status.as_u16(), 401 | 403 | 407)
}

/// Explains the answer, with the address of a redirect, which is often the right `sink.url`.
fn misconfigured(seen: &Seen<'_>, detail: String) -> Classified {
    let location = seen.headers.get(LOCATION).filter(|_| seen.status.is_redirection());
    let detail = match location {
        Some(location) => {
            let place =
                location.as_bytes().split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
            format!("{detail} to {}", excerpt(place))
        }
        None => detail,
    };
    Classified { outcome: Outcome::Misconfigured, detail }
}

/// Reads the worker's header, which wins over its status. But `done` with a status that is not a
/// success is a contradiction: probably the header was set first and the handler failed later.
fn by_worker(word: &str, status: StatusCode, retry_after: Option<Duration>, detail: String) -> Classified {
    let outcome = match word {
        "done" => by_status(status, retry_after),
        "retry" => Outcome::Failed { retry_after },
        "reject" => Outcome::Rejected,
        "interrupted" => Outcome::Interrupted,
        _ => {
            let word = excerpt(word.as_bytes());
            let detail = format!(
                "Longhaul-Outcome is {word:?}, expected done, retry, reject or interrupted; {detail}"
            );
            return Classified { outcome: Outcome::Failed { retry_after }, detail };
        }
    };
    Classified { outcome, detail }
}

/// Reads a status as Knative Eventing's data plane does.
fn by_status(status: StatusCode, retry_after: Option<Duration>) -> Outcome {
    match status.as_u16() {
        200..=299 => Outcome::Done,
        404 | 408 | 409 | 429 => Outcome::Failed { retry_after },
        100..=199 | 300..=499 => Outcome::Rejected,
        _ => Outcome::Failed { retry_after },
    }
}

/// The meaning of an answer from a component between us and the worker.
enum Intermediary {
    NotStarted,
    Unknown,
    /// It took the request for a probe, and would do so at every attempt.
    Refused,
    /// The request is plain HTTP, and the port expects TLS.
    Misconfigured,
}

fn by_intermediary(seen: &Seen<'_>) -> Option<Intermediary> {
    let body = seen.body.trim_ascii();
    let starts = |texts: &[&str]| texts.iter().any(|text| body.starts_with(text.as_bytes()));
    match seen.status.as_u16() {
        400 if starts(&["unexpected probe header value", "a probe request must contain"]) => {
            Some(Intermediary::Refused)
        }
        400 if contains(body, b"HTTP request to an HTTPS server")
            || contains(body, b"plain HTTP request was sent to HTTPS port") =>
        {
            Some(Intermediary::Misconfigured)
        }
        404 if starts(&["Error getting active endpoint"]) => Some(Intermediary::NotStarted),
        404 if body.is_empty() && is_envoys_own(seen.headers) => Some(Intermediary::NotStarted),
        502 if starts(&["dial tcp", "timed out dialing"]) => Some(Intermediary::NotStarted),
        503 if starts(&["pending request queue full", "no healthy upstream"]) => {
            Some(Intermediary::NotStarted)
        }
        503 if starts(&["upstream connect error"]) && contains(body, b"connection failure") => {
            Some(Intermediary::NotStarted)
        }
        503 if starts(&["upstream connect error"]) => Some(Intermediary::Unknown),
        502 | 504 => Some(Intermediary::Unknown),
        _ => None,
    }
}

/// Whether Envoy made the answer itself. It signs everything that passes through it, but only a
/// worker's answer has the time that the worker took.
fn is_envoys_own(headers: &HeaderMap) -> bool {
    let signed = headers.get(SERVER).is_some_and(|server| server.as_bytes().eq_ignore_ascii_case(b"envoy"));
    signed && !headers.contains_key("x-envoy-upstream-service-time")
}

/// Whether Knative cut the answer. A streamed 2xx that exceeds a timeout of the revision ends
/// cleanly, with this text after the worker's. A body with a length cannot end so.
fn ends_in_timeout(seen: &Seen<'_>) -> bool {
    let streamed = !seen.headers.contains_key(CONTENT_LENGTH);
    streamed && seen.status.is_success() && seen.tail.trim_ascii_end().ends_with(b"request timeout")
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window == text)
}

/// Reads `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3). A date in the past means
/// now.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// Returns the worker's reason, or the status and the start of the body, on one line.
fn detail(seen: &Seen<'_>) -> String {
    if let Some(reason) = seen.headers.get(REASON_HEADER) {
        return excerpt(reason.as_bytes());
    }
    let body = if seen.status.is_success() { String::new() } else { excerpt(seen.body) };
    match (body.is_empty(), seen.status.canonical_reason()) {
        (false, _) => format!("{}: {body}", seen.status.as_u16()),
        (true, Some(reason)) => format!("{} {reason}", seen.status.as_u16()),
        (true, None) => seen.status.as_u16().to_string(),
    }
}

fn excerpt(bytes: &[u8]) -> String {
    // A character has at most four bytes, so these are enough.
    let start = &bytes[..bytes.len().min(4 * EXCERPT)];
    words(&String::from_utf8_lossy(start), EXCERPT)
}

/// Puts an error on one line; errors may quote bytes of the peer.
fn one_line(text: &str) -> String {
    words(text, ERROR_CHARS)
}

/// Joins the words of a text with single spaces and without control characters.
fn words(text: &str, most: usize) -> String {
    text.split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .flat_map(|word| [" ", word])
        .flat_map(str::chars)
        .skip(1)
        .take(most)
        .collect()
}

fn unknown(detail: String) -> Classified {
    Classified { outcome: Outcome::Unknown, detail }
}
