//! Finds out from the client's errors how far a request came.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use rustls::AlertDescription as Alert;

use super::Failure;

/// Whether the head of the answer had arrived before the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    Missing,
    Complete,
}

/// Returns how far the request came before `error`.
pub(super) fn failure(error: &reqwest::Error, head: Head, started: Instant, timeout: Duration) -> Failure {
    let text = chain(error);
    // This is checked before the kind of the error, which is a connect error with TLS 1.2 and a
    // read error with TLS 1.3.
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
    // This is checked before the timeout: a connect timeout is also a timeout, but has certainly
    // sent nothing.
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

/// Whether the connection returned the request untouched. In hyper's HTTP/1 client only a request
/// that never left the connection's queue is `canceled`; once its first byte is encoded, the error
/// is a different one.
fn was_never_sent(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled))
}

/// Whether the parser rejects the received bytes: hyper reports this for the head, its decoder for
/// the body.
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

/// Returns the alert with which the peer ended TLS.
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

/// Returns the TLS error inside a read or write error, which its `source` skips.
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

/// Joins the causes. The outermost error says only "error sending request" and the address.
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
