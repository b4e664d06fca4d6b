//! From the client's errors to what is known about the request.

use std::error::Error;
use std::time::{Duration, Instant};

use super::Failure;

/// How far the request came before `error`.
pub(super) fn failure(error: reqwest::Error, started: Instant, timeout: Duration) -> Failure {
    let text = chain(&error);
    // First, since a connect timeout is a timeout as well, and one that is known to have sent nothing.
    if error.is_connect() {
        return Failure::NotConnected(text);
    }
    if was_never_sent(&error) {
        return Failure::NotSent(text);
    }
    // The kernel's own timeout (TCP_USER_TIMEOUT) looks the same, so the clock decides.
    if error.is_timeout() && started.elapsed() >= timeout {
        return Failure::TimedOut(timeout);
    }
    Failure::Lost(text)
}

/// Whether the connection gave the request back untouched. In hyper's HTTP/1 client only a request that was never
/// taken out of the connection's queue is `canceled`; as soon as its first byte is encoded, every ending is another.
fn was_never_sent(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled))
}

/// The causes, joined. The outermost says no more than "error sending request" and the address.
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
