//! An event's headers as they are kept between attempts. An item is mostly sent once, so making
//! them and the request's map of them has to cost little: there is one map, the request's, and all
//! values share one piece of memory.

use std::ops::Range;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::binary;
use super::encoder::EncodeError;

/// Headers that an [`http::HeaderMap`] can hold.
const MOST: usize = 24_576;
/// Bytes of an event's head. Servers accept less, mostly 8 to 64 KiB, and a larger one would occupy
/// memory that no limit of the configuration counts.
pub(super) const MOST_BYTES: usize = 64 * 1024;
/// What a header takes on the wire besides name and value.
const SEPARATORS: usize = 4;
/// Room for the headers that a request gets after the event: two of the attempt, the configured
/// ones, and those of the HTTP client.
const ROOM: usize = 12;

/// Headers of different names, in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub(super) struct Headers(Vec<(HeaderName, HeaderValue)>);

/// Collects headers; the caller adds no name twice.
#[derive(Debug)]
pub(super) struct Builder {
    names: Vec<(HeaderName, Range<usize>)>,
    values: Vec<u8>,
    /// On the wire.
    bytes: usize,
    /// The header that was one too many.
    beyond: Option<HeaderName>,
}

impl Builder {
    /// For an event of ordinary size. A larger one costs a copy, no more.
    pub(super) fn new() -> Self {
        Builder { names: Vec::with_capacity(16), values: Vec::with_capacity(512), bytes: 0, beyond: None }
    }

    /// Adds a header whose value is made of `pieces`. Nothing is added once the head is too large.
    pub(super) fn add<'a>(&mut self, name: HeaderName, pieces: impl IntoIterator<Item = &'a str>) {
        if self.beyond.is_some() {
            return;
        }
        let start = self.values.len();
        self.bytes += name.as_str().len() + SEPARATORS;
        for piece in pieces {
            self.bytes += piece.len();
            if self.bytes > MOST_BYTES {
                self.beyond = Some(name);
                return;
            }
            self.values.extend_from_slice(piece.as_bytes());
        }
        self.names.push((name, start..self.values.len()));
    }

    /// # Errors
    /// When one of the values can't be sent, or all of them are too large.
    pub(super) fn build(self) -> Result<Headers, EncodeError> {
        if let Some(name) = self.beyond {
            return Err(EncodeError::HeadTooLarge(name.to_string()));
        }
        let values = Bytes::from(self.values);
        let header = |(name, range)| Ok((name, HeaderValue::from_maybe_shared(values.slice(range))?));
        let headers: Result<_, http::header::InvalidHeaderValue> =
            self.names.into_iter().map(header).collect();
        Ok(Headers(headers.map_err(binary::other)?))
    }
}

impl Headers {
    pub(super) fn push(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push((name, value));
    }

    /// What they take on the wire.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.as_str().len() + value.len() + SEPARATORS).sum()
    }

    /// Whether a request can have these headers and `more`.
    pub(super) fn fit_beside(&self, more: usize) -> bool {
        self.0.len() + more <= MOST
    }

    /// The headers of a request, if they [fit](Self::fit_beside); else only the first ones that do.
    pub(super) fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::try_with_capacity(self.0.len() + ROOM).unwrap_or_default();
        for (name, value) in &self.0 {
            let _ = map.try_insert(name.clone(), value.clone());
        }
        map
    }
}
