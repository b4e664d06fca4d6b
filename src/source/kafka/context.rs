//! The context of librdkafka's consumer. [`raw::poll`](crate::connect::kafka::raw::poll) serves its
//! events, so only the log and the end of the consumer come here.

use rdkafka::bindings::rd_kafka_resp_err_t as Response;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaResult;
use rdkafka::{ClientContext, TopicPartitionList};

use crate::connect;

pub type Consumer = BaseConsumer<Context>;

pub struct Context;

/// Gives partitions back, as the group's protocol requires.
pub fn unassign(consumer: &Consumer, partitions: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}

impl ConsumerContext for Context {
    /// librdkafka calls this only while the consumer closes, and then waits for the answer without
    /// a limit.
    fn rebalance(&self, consumer: &Consumer, _what: Response, partitions: &mut TopicPartitionList) {
        if let Err(error) = unassign(consumer, partitions) {
            tracing::debug!(%error, "Could not give partitions back while closing");
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        connect::kafka::log(level as i32, facility, message);
    }
}
