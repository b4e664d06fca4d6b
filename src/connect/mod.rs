//! How a broker is reached: connection, TLS, credentials, options. No policy.

pub mod rabbitmq;
