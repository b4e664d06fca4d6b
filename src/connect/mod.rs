//! How a broker or a server is reached: connection, TLS, credentials, options. No policy.

pub mod http;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod rabbitmq;
