//! The settings of a Kafka source, and the librdkafka configuration that follows from them.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;

use crate::config::{KafkaSource, Order, Start, Undecodable};
use crate::connect::kafka::Cluster;
use crate::telemetry::Pulse;

/// The bounds of librdkafka's own queue, and of one fetch, in bytes.
const LEAST_FETCH: u64 = 1 << 20;
const MOST_FETCH: u64 = 16 << 20;

/// The settings of one source, with all secrets resolved.
#[derive(Clone)]
pub struct Settings {
    /// Names the thread.
    pub pipeline: String,
    pub cluster: Cluster,
    /// Topic names, or regular expressions that start with `^`.
    pub topics: Vec<String>,
    pub group: String,
    pub order: Order,
    pub start: Start,
    /// The name for static membership; unique in the group.
    pub instance_id: Option<String>,
    pub session_timeout: Duration,
    /// The age from which an unfinished record at the head of its partition is reported.
    pub stuck_head_report_after: Duration,
    /// How long after its first failed attempt such a record is given up; `None` means never.
    pub stuck_head_dead_letter_after: Option<Duration>,
    pub undecodable: Undecodable,
    /// The bound on the memory of the whole pipeline, `limits.held_bytes`. The queues of librdkafka
    /// take a small part of it.
    pub held_bytes: u64,
    /// The pulse that shows that the poll thread works.
    pub pulse: Option<Arc<Pulse>>,
}

impl Settings {
    /// `cluster` has the source's own options with their secrets resolved.
    pub fn new(pipeline: &str, source: &KafkaSource, cluster: Cluster, held_bytes: u64) -> Self {
        Settings {
            pipeline: pipeline.to_owned(),
            cluster,
            topics: source.topics.clone(),
            group: source.group.clone(),
            order: source.order,
            start: source.start,
            instance_id: source.instance_id.clone(),
            session_timeout: source.session_timeout.get(),
            stuck_head_report_after: source.stuck_head.report_after.get(),
            stuck_head_dead_letter_after: source.stuck_head.dead_letter_after.map(|after| after.get()),
            undecodable: source.undecodable,
            held_bytes,
            pulse: None,
        }
    }

    /// Returns the topics that are named and not described by a pattern.
    pub fn plain_topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(String::as_str).filter(|topic| !topic.starts_with('^'))
    }

    pub(super) fn client(&self) -> ClientConfig {
        let session = self.session_timeout.as_millis();
        let fetch = (self.held_bytes / 16).clamp(LEAST_FETCH, MOST_FETCH);
        let defaults = [
            // This is enough for 25,000 small records a second, and not too much to drop at a
            // pause.
            ("queued.min.messages", "1000".to_owned()),
            ("queued.max.messages.kbytes", (fetch >> 10).to_string()),
            ("fetch.queue.backoff.ms", "20".to_owned()),
            ("fetch.message.max.bytes", (fetch.min(1 << 20)).to_string()),
            ("fetch.max.bytes", fetch.to_string()),
            // This also bounds the size of a decompressed batch; a larger one cannot be decoded.
            ("receive.message.max.bytes", (8 * fetch).max(MOST_FETCH).to_string()),
            // A damaged record must not run. The checks cost little beside the work.
            ("check.crcs", "true".to_owned()),
            // How soon a batch that cannot be decoded is asked for again at another offset.
            ("fetch.error.backoff.ms", "100".to_owned()),
            // Kafka's own topics, which a pattern may match.
            (
                "topic.blacklist",
                "^__consumer_offsets$,^__transaction_state$,^__share_group_state$,^__cluster_metadata$"
                    .to_owned(),
            ),
            // The client's own figures for the operator of the brokers: they would cost a request
            // at the start, and memory for each connection.
            ("enable.metrics.push", "false".to_owned()),
            // A new topic is noticed within this time.
            ("topic.metadata.refresh.interval.ms", "5000".to_owned()),
        ];
        let mut owned = vec![
            ("group.id", self.group.clone()),
            // Applies to a committed offset that the log no longer has. The key `start` is for
            // partitions without a committed offset; `latest` here would skip the rest of the log.
            ("auto.offset.reset", "earliest".to_owned()),
            // The source itself commits offsets, with their maps.
            ("enable.auto.commit", "false".to_owned()),
            ("enable.auto.offset.store", "false".to_owned()),
            // The event shows how far the log was read, past markers of transactions and aborted
            // records.
            ("enable.partition.eof", "true".to_owned()),
            // The statistics show whether brokers are up and the group is steady.
            ("statistics.interval.ms", "1000".to_owned()),
        ];
        if !self.uses_consumer_protocol() {
            owned.extend([
                ("session.timeout.ms", session.to_string()),
                // A member notices a rebalance within this time, and all others wait for that.
                ("heartbeat.interval.ms", (session / 3).clamp(1, 1000).to_string()),
                // Partitions are started one by one, which requires a cooperative group.
                ("partition.assignment.strategy", "cooperative-sticky".to_owned()),
            ]);
        }
        if let Some(instance) = &self.instance_id {
            owned.push(("group.instance.id", instance.clone()));
        }
        self.cluster.client(&defaults, &owned)
    }

    /// With `group.protocol: consumer` (KIP-848) the broker decides these settings, and librdkafka
    /// refuses them. It is always cooperative.
    fn uses_consumer_protocol(&self) -> bool {
        let asked = |(name, value): &(String, String)| name == "group.protocol" && value == "consumer";
        self.cluster.options.iter().any(asked)
    }
}
