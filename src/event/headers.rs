//! An event's headers as they are kept between attempts. An item is mostly sent once, so making them and the request's
//! map of them has to cost little: there is one map, the request's, and all values share one piece of memory.

use std::ops::Range;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};

/// What an [`http::HeaderMap`] can hold.
const MOST: usize = 24_576;
/// Room for what is added to a request after the event: two headers of the attempt, the configured ones, and those of
/// the HTTP client.
const ROOM: usize = 12;

/// Headers of different names, in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub(super) struct Headers(Vec<(HeaderName, HeaderValue)>);

/// Collects headers; whoever adds them adds no name twice.
#[derive(Debug)]
pub(super) struct Builder {
    names: Vec<(HeaderName, Range<usize>)>,
    values: Vec<u8>,
}

impl Builder {
    /// For an event of ordinary size. A larger one costs a copy, no more.
    pub(super) fn new() -> Self {
        Builder { names: Vec::with_capacity(16), values: Vec::with_capacity(512) }
    }

    /// Adds a header whose value is made of `pieces`.
    pub(super) fn add<'a>(&mut self, name: HeaderName, pieces: impl IntoIterator<Item = &'a str>) {
        let start = self.values.len();
        pieces.into_iter().for_each(|piece| self.values.extend_from_slice(piece.as_bytes()));
        self.names.push((name, start..self.values.len()));
    }

    /// # Errors
    /// When one of the values can't be sent.
    pub(super) fn build(self) -> Result<Headers, InvalidHeaderValue> {
        let values = Bytes::from(self.values);
        let header = |(name, range)| Ok((name, HeaderValue::from_maybe_shared(values.slice(range))?));
        self.names.into_iter().map(header).collect::<Result<_, _>>().map(Headers)
    }
}

impl Headers {
    pub(super) fn push(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push((name, value));
    }

    /// Whether a request can have these and `more`.
    pub(super) fn fit_beside(&self, more: usize) -> bool {
        self.0.len() + more <= MOST
    }

    /// The headers of a request, if they [fit](Self::fit_beside); else those that do.
    pub(super) fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::try_with_capacity(self.0.len() + ROOM).unwrap_or_default();
        for (name, value) in &self.0 {
            let _ = map.try_insert(name.clone(), value.clone());
        }
        map
    }
}
