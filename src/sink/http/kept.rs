//! The kept part of an answer. Thousands of items may wait for their next attempt, each with its
//! last answer.
//!
//! Everything is copied, because a header of an answer is a part of the connection's buffer and
//! would keep all of it in memory.

use bytes::Bytes;
use http::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, SERVER,
    WWW_AUTHENTICATE,
};

use super::Response;
use super::body::Received;
use super::classify::{CHECKPOINT_HEADER, OUTCOME_HEADER, REASON_HEADER};

/// The most bytes of a body that are kept to recognise the answers of Knative's components.
pub(super) const SNIFFED_BYTES: usize = 4 * 1024;

/// The most bytes of a body in a dead letter.
const SHOWN_BYTES: usize = 1024;

/// The most bytes of one header in a dead letter.
const VALUE_BYTES: usize = 1024;

/// The most bytes of a checkpoint: each of its 4 KiB may take three characters.
const CHECKPOINT_BYTES: usize = 12 * 1024;

/// The most bytes of a reply's headers.
const REPLY_HEAD_BYTES: usize = 64 * 1024;

/// Returns the kept part of an answer that is not a reply: enough for a person and for the next
/// attempt.
pub(super) fn excerpt(headers: &HeaderMap, received: &Received) -> Response {
    let names = [CONTENT_TYPE, RETRY_AFTER, LOCATION, SERVER, WWW_AUTHENTICATE]
        .into_iter()
        .chain([OUTCOME_HEADER, REASON_HEADER].map(HeaderName::from_static));
    let mut kept = HeaderMap::new();
    for name in names {
        if let Some(value) = headers.get(&name).filter(|value| value.len() <= VALUE_BYTES) {
            kept.insert(name, copy(value));
        }
    }
    let checkpoint = HeaderName::from_static(CHECKPOINT_HEADER);
    if let Some(value) = headers.get(&checkpoint).filter(|value| value.len() <= CHECKPOINT_BYTES) {
        kept.insert(checkpoint, copy(value));
    }
    let body = &received.start[..received.start.len().min(SHOWN_BYTES)];
    let truncated = received.truncated || body.len() < received.start.len();
    Response { headers: kept, body: Bytes::copy_from_slice(body), truncated }
}

/// Returns the kept part of an answer that may be published: the event. If its headers do not fit,
/// it counts as truncated.
pub(super) fn reply(headers: &HeaderMap, received: Received, most: usize) -> Response {
    let is_kept = |name: &HeaderName| {
        [CONTENT_TYPE, CONTENT_ENCODING].contains(name)
            || ["ce-", "longhaul-"].iter().any(|prefix| name.as_str().starts_with(prefix))
    };
    let (mut kept, mut bytes, mut truncated) = (HeaderMap::new(), 0, received.truncated);
    for (name, value) in headers.iter().filter(|(name, _)| is_kept(name)) {
        bytes += name.as_str().len() + value.len();
        if bytes > REPLY_HEAD_BYTES {
            truncated = true;
            kept.clear();
            break;
        }
        kept.append(name.clone(), copy(value));
    }
    if kept.is_empty() {
        // These headers show that it was meant as a reply.
        for name in [CONTENT_TYPE, HeaderName::from_static("ce-specversion")] {
            if let Some(value) = headers.get(&name).filter(|value| value.len() <= VALUE_BYTES) {
                kept.insert(name, copy(value));
            }
        }
    }
    let mut body = received.start;
    if body.len() > most {
        truncated = true;
        body.truncate(most);
    }
    Response { headers: kept, body, truncated }
}

fn copy(value: &HeaderValue) -> HeaderValue {
    // A part of a valid value is valid too.
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or(HeaderValue::from_static(""))
}
