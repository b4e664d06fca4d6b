//! How far a request came, as the client's errors tell it.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use rustls::AlertDescription as Alert;

use super::Failure;

/// Whether the head of the answer was there before the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    Missing,
    Complete,
}

/// How far the request came before `error`.
pub(super) fn failure(error: &reqwest::Error, head: Head, started: Instant, timeout: Duration) -> Failure {
    let text = chain(error);
    // Before the kind of the error: with TLS 1.2 it is one of connecting, with TLS 1.3 one of
    // reading.
    if head == Head::Missing
        && let Some(alert) = alert(error)
    {
        return if is_about_certificates(alert) {
            Failure::CertificateRefused(text)
        } else if error.is_connect() {
            Failure::NotConnected(text)
        } else {
            Failure::Alert(text)
        };
    }
    // Before the timeout: a connect timeout is a timeout as well, and it is known to have sent
    // nothing.
    if error.is_connect() {
        return Failure::NotConnected(text);
    }
    if was_never_sent(error) {
        return Failure::NotSent(text);
    }
    // The kernel's own timeout (TCP_USER_TIMEOUT) looks the same, so the clock decides.
    if error.is_timeout() && started.elapsed() >= timeout {
        return Failure::TimedOut(timeout);
    }
    if is_invalid_http(error) {
        return Failure::Unreadable(text);
    }
    Failure::Lost(text)
}

/// Whether the connection gave the request back untouched. In hyper's HTTP/1 client only a request
/// that was never taken out of the connection's queue is `canceled`; as soon as its first byte is
/// encoded, every ending is another.
fn was_never_sent(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled))
}

/// Whether bytes came that the parser rejects: in the head as hyper's own error, in the body as one
/// of its decoder.
fn is_invalid_http(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| {
        let in_head = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse);
        let in_body = cause.downcast_ref::<io::Error>().is_some_and(|error| {
            let is_invalid = matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
            is_invalid && tls(error).is_none()
        });
        in_head || in_body
    })
}

/// Whether the connection broke before the whole request was written.
pub(super) fn was_not_written(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| {
        let is_pipe = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        // hyper has no method that tells an error of writing from one of reading.
        cause.downcast_ref::<io::Error>().is_some_and(is_pipe)
            || (cause.is::<hyper::Error>() && cause.to_string().contains("writing a body"))
    })
}

/// The alert by which the peer ended TLS.
fn alert(error: &reqwest::Error) -> Option<Alert> {
    causes(error).find_map(|cause| {
        let error = cause.downcast_ref::<rustls::Error>();
        let error = error.or_else(|| cause.downcast_ref::<io::Error>().and_then(tls))?;
        match error {
            rustls::Error::AlertReceived(alert) => Some(*alert),
            _ => None,
        }
    })
}

/// The error of TLS in an error of reading or writing, whose `source` passes it over.
fn tls(error: &io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    inner.downcast_ref::<rustls::Error>().or_else(|| inner.downcast_ref::<io::Error>().and_then(tls))
}

fn is_about_certificates(alert: Alert) -> bool {
    matches!(
        alert,
        Alert::CertificateRequired
            | Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
    )
}

/// The causes, joined. The outermost error says only "error sending request" and the address.
fn chain(error: &reqwest::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    for cause in causes(error) {
        let text = cause.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
    }
    if texts.is_empty() { "no cause given".to_owned() } else { texts.join(": ") }
}

fn causes<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}
