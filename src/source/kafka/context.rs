//! What librdkafka calls back. Callbacks run inside `poll`, on the poll thread, with no access to its
//! state; so each only leaves a [`Notice`], and the loop acts on it as soon as `poll` has returned.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::bindings::rd_kafka_resp_err_t as Response;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientContext, TopicPartitionList};

use super::raw::{self, Entry};
use crate::connect;

pub type Consumer = BaseConsumer<Context>;

/// Something that happened inside `poll`.
#[derive(Debug)]
pub enum Notice {
    /// The group gave us partitions. They start once their maps are read.
    Assigned(Vec<Entry>),
    /// The group takes partitions back; when `lost`, others may have them already.
    Revoked { partitions: Vec<Entry>, lost: bool },
    /// How a commit ended: as a whole, and for each partition.
    Committed { partitions: Vec<Entry>, error: Option<RDKafkaErrorCode> },
    /// Whether any broker connection is up.
    Reachable(bool),
    /// librdkafka's own words about something that went wrong.
    Failed { code: RDKafkaErrorCode, reason: String },
}

/// The mailbox between the callbacks and the loop.
#[derive(Default)]
pub struct Context {
    notices: Mutex<VecDeque<Notice>>,
    closing: AtomicBool,
}

/// The part of librdkafka's statistics that is read: nothing else says that a broker is back.
#[derive(serde::Deserialize)]
struct Statistics {
    brokers: HashMap<String, Broker>,
}

#[derive(serde::Deserialize)]
struct Broker {
    state: String,
}

impl Context {
    pub fn take(&self) -> Option<Notice> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// From here on nobody takes notices: rebalances are answered inside the callback, since a consumer
    /// that closes waits for the answer for ever.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    fn leave(&self, notice: Notice) {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).push_back(notice);
    }
}

/// Gives partitions back, in the way that the group's protocol asks for.
pub fn unassign(consumer: &Consumer, partitions: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &Consumer, what: Response, partitions: &mut TopicPartitionList) {
        if self.closing.load(Ordering::Relaxed) {
            if let Err(error) = unassign(consumer, partitions) {
                tracing::debug!(%error, "could not give partitions back while closing");
            }
            return;
        }
        let partitions = raw::entries(partitions);
        match what {
            Response::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.leave(Notice::Assigned(partitions)),
            _ => self.leave(Notice::Revoked { partitions, lost: consumer.assignment_lost() }),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, partitions: &TopicPartitionList) {
        let error = result.err().and_then(|error| error.rdkafka_error_code());
        self.leave(Notice::Committed { partitions: raw::entries(partitions), error });
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        connect::kafka::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.leave(Notice::Failed { code, reason: reason.to_owned() });
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice::<Statistics>(statistics) {
            Ok(read) => {
                self.leave(Notice::Reachable(read.brokers.values().any(|broker| broker.state == "UP")));
            }
            Err(error) => tracing::debug!(%error, "librdkafka's statistics are unreadable"),
        }
    }
}
