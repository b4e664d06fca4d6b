//! The end of an item, and the answer that reports it.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::str::FromStr;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// Queue-proxy refuses requests with this text, and the bridge takes it for *not started*.
pub const BUSY: &str = "pending request queue full";

const REASON_CHARS: usize = 300;

/// The class of an item's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Reject,
    Retry,
    Interrupted,
    /// The command ended with an exit code without a meaning, a signal or a limit. The bridge
    /// treats it as `retry`.
    Failed,
}

/// The end of an item, with everything that the answer needs.
#[derive(Debug)]
pub struct Ending {
    pub outcome: Outcome,
    /// Empty for [`Outcome::Done`].
    pub reason: String,
    /// JSON for a reply, or the last output for a failure.
    pub body: Body,
    pub checkpoint: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    Empty,
    Json(Vec<u8>),
    Text(Vec<u8>),
}

/// The outcome of each exit code. Codes without an entry mean [`Outcome::Failed`].
#[derive(Clone, Debug)]
pub struct ExitCodes(BTreeMap<i32, Outcome>);

impl Outcome {
    fn status(self) -> StatusCode {
        match self {
            Outcome::Done => StatusCode::OK,
            Outcome::Reject => StatusCode::UNPROCESSABLE_ENTITY,
            Outcome::Retry | Outcome::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
            Outcome::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Reject => "reject",
            Outcome::Retry => "retry",
            Outcome::Interrupted => "interrupted",
            Outcome::Failed => "failed",
        }
    }

    /// Returns the value of `Longhaul-Outcome`. The header has no value `failed`.
    fn header(self) -> &'static str {
        if self == Outcome::Failed { Outcome::Retry.name() } else { self.name() }
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Outcome::Done, Outcome::Reject, Outcome::Retry, Outcome::Interrupted, Outcome::Failed];
        all.into_iter()
            .find(|outcome| outcome.name() == text)
            .ok_or_else(|| format!("`{text}` is not one of done, reject, retry, interrupted, failed"))
    }
}

impl ExitCodes {
    /// Returns the defaults with `changes`, each written as `CODE=OUTCOME`.
    pub fn new(changes: &[(i32, Outcome)]) -> Self {
        let defaults =
            [(0, Outcome::Done), (65, Outcome::Reject), (75, Outcome::Retry), (99, Outcome::Interrupted)];
        ExitCodes(defaults.into_iter().chain(changes.iter().copied()).collect())
    }

    /// Returns the outcome and its reason.
    pub fn outcome(&self, status: ExitStatus) -> (Outcome, String) {
        match status.code() {
            Some(code) => {
                let outcome = self.0.get(&code).copied().unwrap_or(Outcome::Failed);
                (outcome, if outcome == Outcome::Done { String::new() } else { format!("exit code {code}") })
            }
            None => (Outcome::Failed, signal_reason(status)),
        }
    }
}

fn signal_reason(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else { return "the command ended in an unknown way".to_owned() };
    let name = match signal {
        2 => " (SIGINT)",
        6 => " (SIGABRT)",
        9 => " (SIGKILL; the kernel sends it when memory runs out)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        24 => " (SIGXCPU)",
        _ => "",
    };
    format!("killed by signal {signal}{name}")
}

impl Ending {
    pub fn new(outcome: Outcome, reason: impl Into<String>) -> Self {
        Ending { outcome, reason: reason.into(), body: Body::Empty, checkpoint: None }
    }

    pub fn answer(self) -> Response<Full<Bytes>> {
        let (kind, body) = match self.body {
            Body::Empty if self.outcome == Outcome::Done => (None, Vec::new()),
            Body::Empty => (Some("text/plain; charset=utf-8"), self.reason.clone().into_bytes()),
            Body::Json(body) => (Some("application/json"), body),
            Body::Text(body) => (Some("text/plain; charset=utf-8"), body),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.outcome.status();
        let headers = response.headers_mut();
        if let Some(kind) = kind {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        let name = HeaderName::from_static("longhaul-outcome");
        headers.insert(name, HeaderValue::from_static(self.outcome.header()));
        if !self.reason.is_empty() {
            let value = HeaderValue::from_str(&header_text(&self.reason));
            value.ok().and_then(|value| headers.insert(HeaderName::from_static("longhaul-reason"), value));
        }
        if let Some(checkpoint) = self.checkpoint.as_deref().map(encode) {
            let value = HeaderValue::from_str(&checkpoint);
            let name = HeaderName::from_static("longhaul-checkpoint");
            value.ok().and_then(|value| headers.insert(name, value));
        }
        response
    }
}

/// Returns the answer to an item that was not started.
pub fn not_started() -> Response<Full<Bytes>> {
    plain(StatusCode::SERVICE_UNAVAILABLE, BUSY)
}

pub fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Applies the percent-encoding of CloudEvents in HTTP headers.
fn encode(text: &str) -> String {
    const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');
    utf8_percent_encode(text, ENCODED).to_string()
}

/// Reduces a text to printable ASCII in one line.
fn header_text(text: &str) -> String {
    let shown = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.trim().chars().take(REASON_CHARS).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_has_the_configured_outcome() {
        let codes = ExitCodes::new(&[(3, Outcome::Reject), (75, Outcome::Failed)]);
        for (code, outcome) in [
            (0, Outcome::Done),
            (1, Outcome::Failed),
            (3, Outcome::Reject),
            (65, Outcome::Reject),
            (75, Outcome::Failed),
            (99, Outcome::Interrupted),
        ] {
            assert_eq!(codes.outcome(ExitStatus::from_raw(code << 8)).0, outcome, "{code}");
        }
        let (outcome, reason) = codes.outcome(ExitStatus::from_raw(9));
        assert_eq!(outcome, Outcome::Failed);
        assert!(reason.starts_with("killed by signal 9 (SIGKILL"), "{reason}");
    }

    #[test]
    fn a_checkpoint_and_a_reason_are_valid_headers() {
        let mut ending = Ending::new(Outcome::Interrupted, "stopped\nby ü");
        ending.checkpoint = Some("row 17 ü\n".to_owned());
        let response = ending.answer();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["longhaul-outcome"], "interrupted");
        assert_eq!(response.headers()["longhaul-reason"], "stopped?by ?");
        assert_eq!(response.headers()["longhaul-checkpoint"], "row%2017%20%C3%BC%0A");
    }
}
