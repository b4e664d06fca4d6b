//! Tests the Kafka source and publisher against a real broker, and against librdkafka's mock
//! cluster if a broker has to fail on command.

#![allow(clippy::unwrap_used)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures, and what was left out")]

mod acl;
mod assignment;
mod chaos;
mod faults;
mod flow;
mod generated;
mod identity;
mod kill;
mod lost;
mod odd_logs;
mod problems;
mod publishing;
mod records;
mod recovery;
mod release;
mod replaced;
mod secured;
pub mod support;
#[cfg(feature = "kafka-tls")]
mod tls;
mod transactions;
pub mod undecodable;
mod unreachable;
