//! The compression of an item's data: AMQP's property `content_encoding`, or a record's header of
//! that name.
//!
//! In binary mode the body of the request is the data, so HTTP's own header has the same meaning.
//! Some clients put a charset (`utf-8`) into the property, which that header must not contain; the
//! value then goes into an extension. In structured mode it always does, because the header would
//! refer to the document.

use super::message::{Message, Origin, Value};

/// The extension for a value that HTTP's header cannot hold.
pub(super) const EXTENSION: &str = "contentencoding";

/// Returns the message's encoding, if it has one.
pub(super) fn of(message: &Message) -> Option<&str> {
    let property = match &message.origin {
        Origin::Rabbitmq(origin) => origin.properties.content_encoding.as_deref(),
        Origin::Kafka(_) => None,
    };
    let header = || message.header("content-encoding").and_then(Value::as_text);
    let text = property.or_else(header)?.trim();
    (!text.is_empty() && !text.eq_ignore_ascii_case("identity")).then_some(text)
}

/// Whether the text lists only codings of HTTP (RFC 9110, section 8.4.1, and IANA's registry).
pub(super) fn is_coding(text: &str) -> bool {
    const CODINGS: [&str; 8] =
        ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress", "identity"];
    let is_known = |coding: &str| CODINGS.iter().any(|known| known.eq_ignore_ascii_case(coding.trim()));
    text.split(',').all(is_known)
}
