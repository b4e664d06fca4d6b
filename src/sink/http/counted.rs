//! A request body that counts the bytes that are not sent yet.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// A body is sent in pieces of this size. One that is not larger is not counted.
const PIECE: usize = 64 * 1024;

struct Counted {
    rest: Bytes,
    unsent: Arc<AtomicUsize>,
}

/// Gives the request this body. Returns the number of bytes that are not taken for sending yet; of
/// a small body nothing is known.
pub(super) fn give(request: &mut reqwest::Request, rest: Bytes) -> Option<Arc<AtomicUsize>> {
    if rest.len() <= PIECE {
        *request.body_mut() = Some(rest.into());
        return None;
    }
    let unsent = Arc::new(AtomicUsize::new(rest.len()));
    *request.body_mut() = Some(reqwest::Body::wrap(Counted { rest, unsent: Arc::clone(&unsent) }));
    Some(unsent)
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        self.unsent.store(self.rest.len(), Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
