//! Reads an answer to its end and keeps a bounded part of it.

use bytes::{Bytes, BytesMut};

/// Enough to recognise what Knative appends to a stream that it ends.
const TAIL: usize = 32;

/// What came.
pub(super) struct Received {
    /// The first bytes, as many as were asked for.
    pub start: Bytes,
    /// The last bytes, whether or not they are in `start`.
    pub tail: Vec<u8>,
    /// There was more than `start` has.
    pub truncated: bool,
    /// Why it ended early, where it did.
    pub error: Option<reqwest::Error>,
}

/// Reads to the end within the request's own timeout. What is over the bound is read and dropped: only the end of an
/// answer proves that the worker has finished it, and a connection is reused only after it.
pub(super) async fn read(response: &mut reqwest::Response, keep: usize) -> Received {
    let mut start = Start { first: Bytes::new(), more: BytesMut::new(), keep, truncated: false };
    let mut tail = Vec::new();
    let error = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                remember_tail(&mut tail, &chunk);
                start.push(chunk);
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    let truncated = start.truncated;
    Received { start: start.finish(), tail, truncated, error }
}

/// Most answers come in one piece, which is then kept without a copy.
struct Start {
    first: Bytes,
    more: BytesMut,
    keep: usize,
    truncated: bool,
}

impl Start {
    fn push(&mut self, mut chunk: Bytes) {
        let room = self.keep - self.first.len().max(self.more.len());
        if chunk.len() > room {
            self.truncated = true;
            chunk.truncate(room);
        }
        if chunk.is_empty() {
            return;
        }
        if self.first.is_empty() && self.more.is_empty() {
            self.first = chunk;
            return;
        }
        if self.more.is_empty() {
            self.more.extend_from_slice(&self.first);
            self.first = Bytes::new();
        }
        self.more.extend_from_slice(&chunk);
    }

    fn finish(self) -> Bytes {
        if self.more.is_empty() { self.first } else { self.more.freeze() }
    }
}

fn remember_tail(tail: &mut Vec<u8>, chunk: &[u8]) {
    let fresh = &chunk[chunk.len().saturating_sub(TAIL)..];
    let kept = TAIL - fresh.len();
    let drop = tail.len().saturating_sub(kept);
    tail.drain(..drop);
    tail.extend_from_slice(fresh);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_into_chunks_gives_the_same_start_and_tail() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let whole: Vec<u8> = (0..random.usize(0..200)).map(|_| random.u8(..)).collect();
            let keep = random.usize(0..220);
            let mut start = Start { first: Bytes::new(), more: BytesMut::new(), keep, truncated: false };
            let mut tail = Vec::new();
            let mut rest = &whole[..];
            while !rest.is_empty() {
                let (chunk, others) = rest.split_at(random.usize(1..=rest.len()));
                remember_tail(&mut tail, chunk);
                start.push(Bytes::copy_from_slice(chunk));
                rest = others;
            }
            assert_eq!(start.truncated, whole.len() > keep, "seed {seed}");
            assert_eq!(start.finish(), whole[..whole.len().min(keep)], "seed {seed}");
            assert_eq!(tail, whole[whole.len().saturating_sub(TAIL)..], "seed {seed}");
        }
    }
}
