//! Kafka.
pub mod metadata;
pub mod tracker;
