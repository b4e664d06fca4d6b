//! The part of an answer that is kept. Thousands of items may wait for their next attempt, each
//! with its last answer.
//!
//! Everything is copied: a header of an answer is a part of the connection's buffer, and would keep
//! all of that.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use super::Response;
use super::body::Received;
use super::classify::{OUTCOME_HEADER, REASON_HEADER};

/// Enough of a body to recognise the answers of Knative's parts.
pub(super) const SNIFFED_BYTES: usize = 4 * 1024;

/// Bytes of a body that a dead letter shows.
const SHOWN_BYTES: usize = 1024;

/// Bytes of one header that a dead letter shows.
const VALUE_BYTES: usize = 1024;

/// Bytes of the headers of a reply.
const REPLY_HEAD_BYTES: usize = 64 * 1024;

/// The kept part of an answer that is not a reply: enough for a person and for the next attempt.
pub(super) fn excerpt(headers: &HeaderMap, received: &Received) -> Response {
    let names = [CONTENT_TYPE, RETRY_AFTER]
        .into_iter()
        .chain([OUTCOME_HEADER, REASON_HEADER].map(HeaderName::from_static));
    let mut kept = HeaderMap::new();
    for name in names {
        if let Some(value) = headers.get(&name).filter(|value| value.len() <= VALUE_BYTES) {
            kept.insert(name, copy(value));
        }
    }
    let body = &received.start[..received.start.len().min(SHOWN_BYTES)];
    let truncated = received.truncated || body.len() < received.start.len();
    Response { headers: kept, body: Bytes::copy_from_slice(body), truncated }
}

/// The kept part of an answer that may be published: the event. If its headers do not fit, it
/// counts as truncated.
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
        // Enough to tell that it was meant as a reply.
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
    // The bytes of a valid value are valid.
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or(HeaderValue::from_static(""))
}
