//! The Kafka source and publisher against a real broker, and against librdkafka's mock cluster where a
//! broker has to fail on command.

#![allow(clippy::unwrap_used)]

mod assignment;
mod faults;
mod flow;
mod kill;
mod publishing;
mod records;
mod recovery;
pub mod support;
mod unreachable;
