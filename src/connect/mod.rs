//! How a broker is reached: connection, TLS, credentials, options. No policy.

#[cfg(feature = "kafka")]
pub mod kafka;
pub mod rabbitmq;
