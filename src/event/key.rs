//! Converts a Kafka key to the text of an attribute, and back.
//!
//! KafkaSource replaces bytes that are not UTF-8 by U+FFFD, so that different keys (numbers in
//! particular) look alike. Here such a key is written in base64 with a prefix. A key that is text
//! stays the same, as in KafkaSource; if it begins with the prefix it is encoded too, so that
//! different keys never have the same text.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;

const PREFIX: &str = "base64:";

pub(super) fn to_text(key: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(key) {
        Ok(text) if !text.starts_with(PREFIX) => Cow::Borrowed(text),
        _ => Cow::Owned(format!("{PREFIX}{}", BASE64_STANDARD.encode(key))),
    }
}

/// Returns the bytes of a key from the extension `partitionkey` of an event.
pub fn from_text(text: &str) -> Bytes {
    let encoded = text.strip_prefix(PREFIX);
    let decoded = encoded.and_then(|encoded| BASE64_STANDARD.decode(encoded).ok());
    decoded.map_or_else(|| Bytes::copy_from_slice(text.as_bytes()), Bytes::from)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn no_two_keys_have_the_same_text_and_each_comes_back() {
        let mut seen = HashMap::new();
        let numbers = (0..70_000_u32).map(|number| (number.wrapping_mul(61_681)).to_be_bytes().to_vec());
        let texts = ["", "a", "base64:", "base64:/w==", "base64:YmFzZTY0Og==", "\u{fffd}"];
        for key in numbers.chain(texts.map(|text| text.as_bytes().to_vec())) {
            let text = to_text(&key).into_owned();
            assert_eq!(from_text(&text), key, "{text}");
            assert_eq!(seen.insert(text, key), None);
        }
        assert_eq!(to_text(b"customer 7"), "customer 7");
    }
}
