//! An event's headers between attempts. Most items are sent only once, so the headers and the
//! request's map of them must be cheap: only the request has a map, and all values share one piece
//! of memory.

use std::ops::Range;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::binary;
use super::encoder::EncodeError;

/// The most headers that an [`http::HeaderMap`] can hold.
const MOST: usize = 24_576;
/// The most bytes of an event's headers. Servers accept less, usually 8 to 64 KiB. A larger head
/// would take memory that no limit of the configuration counts.
pub(super) const MOST_BYTES: usize = 64 * 1024;
/// The bytes of a header on the wire besides name and value.
const SEPARATORS: usize = 4;
/// Room for the headers that a request gets after the event: those of the attempt, the configured
/// ones, and those of the HTTP client.
const ROOM: usize = 14;

/// Headers of different names, in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub(super) struct Headers(Vec<(HeaderName, HeaderValue)>);

/// Collects headers. The caller must not add a name twice.
#[derive(Debug)]
pub(super) struct Builder {
    names: Vec<(HeaderName, Range<usize>)>,
    values: Vec<u8>,
    /// The size on the wire.
    bytes: usize,
    /// The first header that did not fit.
    beyond: Option<HeaderName>,
}

impl Builder {
    /// Allocates for an event of ordinary size. A larger one costs one more copy.
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

    /// Returns the headers.
    ///
    /// # Errors
    /// A value cannot be sent, or all of them together are too large.
    pub(super) fn build(self) -> Result<Headers, EncodeError> {
        if let Some(name) = self.beyond {
            return Err(EncodeError::HeadTooLarge(name.to_string()));
        }
        // The event may be kept for hours, so it gets no more memory than it fills.
        let values = Bytes::from(self.values.into_boxed_slice());
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

    pub(super) fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// Returns their size on the wire.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.as_str().len() + value.len() + SEPARATORS).sum()
    }

    /// Whether a request can have these headers and `more`.
    pub(super) fn fit_beside(&self, more: usize) -> bool {
        self.0.len() + more <= MOST
    }

    /// Returns the headers of a request. If they do not [fit](Self::fit_beside), only the first
    /// ones.
    pub(super) fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::try_with_capacity(self.0.len() + ROOM).unwrap_or_default();
        for (name, value) in &self.0 {
            let _ = map.try_insert(name.clone(), value.clone());
        }
        map
    }
}
