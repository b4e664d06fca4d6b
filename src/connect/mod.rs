//! Reaches brokers and servers: connection, TLS, credentials, options. It has no policy.

pub mod http;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod rabbitmq;
