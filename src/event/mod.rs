//! Converts a broker's message to a CloudEvent on the wire.
//!
//! An item is encoded once ([`Encoder::encode`]); each attempt then costs two header values
//! ([`EncodedEvent::for_attempt`]). Messages that already are CloudEvents keep their own
//! attributes. All others get the attributes that Knative's own sources would give them, so that a
//! workload can move unchanged.
//!
//! An event in this module always has two parts: a [`cloudevents::Event`] with attributes and
//! without data, and the data as [`Bytes`](bytes::Bytes) in the broker's own buffer. The SDK alone
//! would copy the data into a `Vec` and consume the event at each conversion.

mod binary;
mod decode;
mod encoded;
mod encoder;
mod encoding;
mod extension;
mod headers;
pub mod key;
mod media_type;
mod message;
pub mod own;
mod structured;
mod time;
mod trace;
mod wrap;

#[cfg(test)]
mod tests;

pub use binary::attribute_headers;
pub use decode::{DecodeError, Defect, Parts, decode, decode_response, is_structured, response_attributes};
pub use encoded::{AttemptExtensions, EncodedEvent, Redelivered};
pub use encoder::{EncodeError, Encoder, Settings, SettingsError};
pub use extension::{NameError, Overrides, OverridesError};
pub use message::{Exact, KafkaOrigin, MAX_DEPTH, Message, Origin, Properties, RabbitmqOrigin, Value};
pub use trace::TraceContext;
