//! longhaul turns a RabbitMQ queue or a Kafka topic into long HTTP requests to a Knative Service.

pub mod cli;
pub mod config;
pub mod connect;
pub mod delivery;
pub mod event;
pub mod knative;
pub mod publish;
pub mod sink;
pub mod source;
