//! Kafka: brokers, topics, and librdkafka options that can be passed through.

use std::collections::BTreeMap;

use regex::Regex;

use super::{Context, options};
use crate::config::path::Path;
use crate::config::secret::Secret;
use crate::config::types::{KafkaSource, KafkaTarget, Pipeline};
use crate::config::units::Span;

impl Context<'_> {
    pub(super) fn kafka_source(&mut self, source: &KafkaSource, path: &Path) {
        self.built_with_kafka(path);
        self.servers(&source.bootstrap_servers, &path.key("bootstrap_servers"));
        for (index, topic) in source.topics.iter().enumerate() {
            self.topic(topic, &path.key("topics").item(index));
        }
        self.not_empty(&path.key("instance_id"), source.instance_id.as_deref());
        // Below a second a pause of the machine costs the membership; brokers refuse less than 6s by default.
        self.range(
            &path.key("session_timeout"),
            source.session_timeout,
            Span::from_secs(1),
            Span::from_secs(300),
        );
        // A second is how exact the age is.
        let stuck_head = path.key("stuck_head");
        let least = Span::from_secs(1);
        self.range(&stuck_head.key("report_after"), source.stuck_head.report_after, least, Span::MAX);
        if let Some(after) = source.stuck_head.dead_letter_after {
            self.range(&stuck_head.key("dead_letter_after"), after, least, Span::MAX);
        }
        self.options(&source.options, options::CONSUMER, &path.key("options"));
    }

    pub(super) fn kafka_target(&mut self, target: &KafkaTarget, pipeline: &Pipeline, path: &Path) {
        self.built_with_kafka(path);
        let servers = path.key("bootstrap_servers");
        self.servers(&target.bootstrap_servers, &servers);
        let source = &pipeline.source;
        if target.bootstrap_servers.is_empty() && source.rabbitmq.is_some() && source.kafka.is_none() {
            self.report.mistake(
                &servers,
                "the key `bootstrap_servers` is missing: the source is RabbitMQ, so there is no Kafka to take it from",
                "add `bootstrap_servers: [\"host:9092\"]`",
            );
        }
        self.topic_name(&target.topic, &path.key("topic"));
        self.options(&target.options, options::PRODUCER, &path.key("options"));
    }

    fn built_with_kafka(&mut self, path: &Path) {
        if !self.features.kafka {
            let help = "use the released binary, or build with `--features kafka`";
            self.report.mistake(path, "this program was built without Kafka", help);
        }
    }

    /// A list in one text is what `${env:KAFKA_BROKERS}` often is, and librdkafka takes it.
    fn servers(&mut self, servers: &[String], path: &Path) {
        for (index, server) in servers.iter().enumerate() {
            if server.split(',').all(|server| is_host_and_port(server.trim())) {
                continue;
            }
            let reason = match server.contains("://") {
                true => "a broker's address has no `://`",
                false => "this is no `host:port`",
            };
            self.report.mistake(&path.item(index), reason, "write the broker as host:9092");
        }
    }

    fn topic(&mut self, topic: &str, path: &Path) {
        if !topic.starts_with('^') {
            return self.topic_name(topic, path);
        }
        if Regex::new(topic).is_err() {
            let help = "write a POSIX extended regular expression, such as ^orders-[a-z]+$";
            self.report.mistake(path, "this is no regular expression", help);
        }
    }

    /// Kafka's own rule for names (`org.apache.kafka.common.internals.Topic`).
    fn topic_name(&mut self, name: &str, path: &Path) {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > 249 || !name.bytes().all(legal) || name == "." || name == ".." {
            let help = "write 1 to 249 letters, digits, `.`, `_` and `-`; a pattern starts with ^";
            self.report.mistake(path, "this cannot be the name of a topic", help);
        }
    }

    fn options(&mut self, given: &BTreeMap<String, Secret>, owned: &[options::Owned], path: &Path) {
        for (name, value) in given {
            let at = path.key(name);
            if let Some(options::Owned { reason, help, .. }) = owned.iter().find(|option| option.name == name)
            {
                self.report.mistake(&at, *reason, *help);
                continue;
            }
            if self.features.kafka_tls {
                continue;
            }
            let Ok(value) = value.resolve_with(self.env) else { continue };
            if options::needs_tls(name, &value) {
                let help = "use the released binary, or build with `--features kafka-tls`";
                self.report.mistake(&at, "this program was built without TLS and SASL/SCRAM for Kafka", help);
            }
        }
    }
}

pub(super) fn is_host_and_port(server: &str) -> bool {
    let Some((host, port)) = server.rsplit_once(':') else { return false };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    !host.is_empty()
        && !host.contains(|letter: char| letter == '/' || letter.is_whitespace())
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}
