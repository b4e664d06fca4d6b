//! What a Kafka source needs to know, and the librdkafka configuration that follows from it.

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::config::{KafkaSource, Order, Start};
use crate::connect::kafka::Cluster;

/// The settings of one source, with all secrets resolved.
#[derive(Clone)]
pub struct Settings {
    /// Names the thread.
    pub pipeline: String,
    pub cluster: Cluster,
    /// Names, or regular expressions that start with `^`.
    pub topics: Vec<String>,
    pub group: String,
    pub order: Order,
    pub start: Start,
    /// Static membership; must be unique in the group.
    pub instance_id: Option<String>,
    pub session_timeout: Duration,
    /// The age from which an unfinished record at the head of its partition is told of.
    pub stuck_head_report_after: Duration,
    /// The age from which it is given up, if it ever is.
    pub stuck_head_dead_letter_after: Option<Duration>,
}

impl Settings {
    /// `options` are the source's own with their secrets resolved.
    pub fn new(pipeline: &str, source: &KafkaSource, options: Vec<(String, String)>) -> Self {
        Settings {
            pipeline: pipeline.to_owned(),
            cluster: Cluster { bootstrap_servers: source.bootstrap_servers.clone(), options },
            topics: source.topics.clone(),
            group: source.group.clone(),
            order: source.order,
            start: source.start,
            instance_id: source.instance_id.clone(),
            session_timeout: source.session_timeout.get(),
            stuck_head_report_after: source.stuck_head.report_after.get(),
            stuck_head_dead_letter_after: source.stuck_head.dead_letter_after.map(|after| after.get()),
        }
    }

    pub(super) fn client(&self) -> ClientConfig {
        let session = self.session_timeout.as_millis();
        let defaults = [
            // Enough to keep 25,000 small records a second flowing, little enough to throw away at a pause.
            ("queued.min.messages", "1000".to_owned()),
            ("queued.max.messages.kbytes", "16384".to_owned()),
            ("fetch.queue.backoff.ms", "20".to_owned()),
            ("fetch.message.max.bytes", (1 << 20).to_string()),
            // Also how long a topic that appears is not noticed.
            ("topic.metadata.refresh.interval.ms", "5000".to_owned()),
        ];
        let mut owned = vec![
            ("group.id", self.group.clone()),
            // For a committed offset that the log does not have any more. What `start` says is for partitions
            // without one, and with `latest` here whatever is left of the log would be skipped.
            ("auto.offset.reset", "earliest".to_owned()),
            // Offsets are committed by hand, with their maps.
            ("enable.auto.commit", "false".to_owned()),
            ("enable.auto.offset.store", "false".to_owned()),
            ("enable.partition.eof", "false".to_owned()),
            // Tells whether brokers are up.
            ("statistics.interval.ms", "1000".to_owned()),
        ];
        if !self.uses_consumer_protocol() {
            owned.extend([
                ("session.timeout.ms", session.to_string()),
                // Also how long a member does not hear of a rebalance, which all others wait for.
                ("heartbeat.interval.ms", (session / 3).clamp(1, 1000).to_string()),
                // Partitions are started one by one, which only a cooperative group allows.
                ("partition.assignment.strategy", "cooperative-sticky".to_owned()),
            ]);
        }
        if let Some(instance) = &self.instance_id {
            owned.push(("group.instance.id", instance.clone()));
        }
        self.cluster.client(&defaults, &owned)
    }

    /// With `group.protocol: consumer` (KIP-848) the broker decides what is owned otherwise, and
    /// librdkafka refuses to be told. It is always cooperative.
    fn uses_consumer_protocol(&self) -> bool {
        let asked = |(name, value): &(String, String)| name == "group.protocol" && value == "consumer";
        self.cluster.options.iter().any(asked)
    }
}
