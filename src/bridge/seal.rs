//! The seal of a copy: only a process that knows the key can write a copy that counts as one.
//!
//! A copy carries its mark, its content and its attempts. A producer could set the same headers,
//! and its message would then be taken for the bridge's own. So the bridge adds a message
//! authentication code over these values. A message without a valid seal is an ordinary message.

use crate::delivery::{Digest, Identity, Mark, Outline};
use crate::event::{Message, Value, own};
use crate::publish::hops::{code, hex};

/// The key of a pipeline's seals. All replicas have the same one, also after a restart.
#[derive(Clone)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// Derives the key from a secret that producers do not have. `place` names the pipeline and its
    /// queue.
    pub fn derived(secret: &str, place: &str) -> Self {
        let code = code(secret.as_bytes(), &[b"longhaul copy", place.as_bytes()]);
        SealKey(code)
    }

    /// The value of the header `longhaul-seal`.
    pub(super) fn seal(&self, mark: Mark, content: Digest, attempts: u32) -> String {
        hex(&code(&self.0, &[&mark.0, &content.0, &attempts.to_be_bytes()])[..16])
    }

    /// Takes the rights of a copy away from a delivery whose seal is not valid.
    pub(super) fn check(&self, outline: &mut Outline, message: &Message) {
        let Identity::Copy { mark, content } = outline.identity else { return };
        let given = message.own_header(own::SEAL).and_then(Value::as_text).unwrap_or_default();
        // The comparison needs no constant time: a client that can guess here can also enqueue
        // messages.
        if given != self.seal(mark, content, outline.attempts_before) {
            tracing::warn!(delivery = %outline.id, "Message carries the mark of a copy without a valid seal, and runs as a new item");
            outline.identity = Identity::Content(content);
            outline.attempts_before = 0;
            // A message like this one may have been finished by anybody.
            outline.shared = true;
            outline.ask_peers = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_covers_mark_content_attempts_and_key() {
        let key = SealKey::derived("secret", "pipeline queue");
        let (mark, content) = (Mark([1; 16]), Digest([2; 16]));
        let seal = key.seal(mark, content, 3);
        assert_eq!(seal, SealKey::derived("secret", "pipeline queue").seal(mark, content, 3));
        let others = [
            key.seal(Mark([9; 16]), content, 3),
            key.seal(mark, Digest([9; 16]), 3),
            key.seal(mark, content, 4),
            SealKey::derived("other", "pipeline queue").seal(mark, content, 3),
            SealKey::derived("secret", "other queue").seal(mark, content, 3),
        ];
        assert!(!others.contains(&seal));
    }
}
