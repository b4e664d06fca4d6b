//! Reads an answer to its end and keeps a bounded part of it.

use bytes::Bytes;

/// The bytes at the end that are kept, enough to recognise the text that Knative appends to a
/// stream it ends.
const TAIL: usize = 32;

/// The received part of an answer.
pub(super) struct Received {
    /// The first bytes, as many as were requested.
    pub start: Bytes,
    /// The last bytes, even if they are also in `start`.
    pub tail: Vec<u8>,
    /// Whether the body had more than `start`.
    pub truncated: bool,
    /// The reason why it ended early, if it did.
    pub error: Option<reqwest::Error>,
}

/// Reads to the end within the request's own timeout. Bytes above the bound are read and dropped,
/// because only the end of an answer proves that the worker has finished it, and only then can the
/// connection be reused.
pub(super) async fn read(response: &mut reqwest::Response, keep: usize) -> Received {
    let mut start = Start { kept: Vec::new(), keep, truncated: false };
    let mut tail = Vec::new();
    let error = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                remember_tail(&mut tail, &chunk);
                start.push(&chunk);
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    Received { start: start.kept.into(), tail, truncated: start.truncated, error }
}

/// Holds a copy, because a chunk is a part of the connection's buffer and would keep all of it in
/// memory.
struct Start {
    kept: Vec<u8>,
    keep: usize,
    truncated: bool,
}

impl Start {
    fn push(&mut self, chunk: &[u8]) {
        let room = self.keep - self.kept.len();
        self.truncated |= chunk.len() > room;
        self.kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
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
            let mut start = Start { kept: Vec::new(), keep, truncated: false };
            let mut tail = Vec::new();
            let mut rest = &whole[..];
            while !rest.is_empty() {
                let (chunk, others) = rest.split_at(random.usize(1..=rest.len()));
                remember_tail(&mut tail, chunk);
                start.push(chunk);
                rest = others;
            }
            assert_eq!(start.truncated, whole.len() > keep, "seed {seed}");
            assert_eq!(start.kept, whole[..whole.len().min(keep)], "seed {seed}");
            assert_eq!(tail, whole[whole.len().saturating_sub(TAIL)..], "seed {seed}");
        }
    }
}
