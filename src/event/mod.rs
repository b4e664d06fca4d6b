//! From a broker's message to a CloudEvent on the wire.

mod message;

pub use message::{KafkaOrigin, Message, Origin, Properties, RabbitmqOrigin, Value};
