//! Reaches a Kafka cluster: one librdkafka configuration for consumers and producers, and
//! librdkafka's log lines in ours.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, ClientContext};

use crate::config::{Secret, canonical_kafka_option};

/// The addresses of a cluster, and the user's librdkafka options with their secrets resolved.
#[derive(Clone, Default)]
pub struct Cluster {
    /// Each `host:port`.
    pub bootstrap_servers: Vec<String>,
    /// `security.protocol`, `sasl.*`, `ssl.*` and everything else that librdkafka knows.
    pub options: Vec<(String, String)>,
    /// Reads the options again, for a password in a file that was replaced.
    pub reread: Option<Reread>,
}

/// Resolves the options again, or returns the reason why that failed.
pub type Reread = Arc<dyn Fn() -> Result<Vec<(String, String)>, String> + Send + Sync>;

impl Cluster {
    /// Makes a cluster whose options can be read again.
    ///
    /// # Errors
    /// Names the option whose variable or file cannot be read.
    pub fn of(servers: &[String], options: &BTreeMap<String, Secret>) -> Result<Cluster, String> {
        let given = options.clone();
        let resolve = move || -> Result<Vec<(String, String)>, String> {
            let one = |(name, value): (&String, &Secret)| match value.resolve() {
                Ok(value) => Ok((name.clone(), value)),
                Err(error) => Err(format!("options.{name}: {error}")),
            };
            given.iter().map(one).collect()
        };
        let options = resolve()?;
        Ok(Cluster { bootstrap_servers: servers.to_vec(), options, reread: Some(Arc::new(resolve)) })
    }

    /// Returns the same cluster with its present options, or with the old ones if they cannot be
    /// read.
    pub fn current(&self) -> Cluster {
        let mut cluster = self.clone();
        match self.reread.as_ref().map(|reread| reread()) {
            Some(Ok(options)) => cluster.options = options,
            Some(Err(error)) => {
                tracing::warn!(error, "Kafka options can't be read again; the old ones are used")
            }
            None => {}
        }
        cluster
    }

    /// The user and the password for SASL PLAIN and SCRAM.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        let find = |wanted: &str| {
            self.options.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
        };
        Some((find("sasl.username")?, find("sasl.password")?))
    }

    /// The configuration of one client. The user's options win over `defaults`; `owned` wins over
    /// both, because the guarantees depend on it.
    pub fn client(&self, defaults: &[(&str, String)], owned: &[(&str, String)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "longhaul");
        config.set("socket.keepalive.enable", "true");
        // A broker that comes back after a restart is found within two seconds instead of ten.
        config.set("reconnect.backoff.max.ms", "2000");
        // librdkafka knows some options by two names, and the winner would be random.
        let is_given = |name: &str| {
            let name = canonical_kafka_option(name);
            self.options.iter().any(|(given, _)| canonical_kafka_option(given) == name)
        };
        for (name, value) in defaults.iter().filter(|(name, _)| !is_given(name)) {
            config.set(*name, value);
        }
        for (name, value) in &self.options {
            let canonical = canonical_kafka_option(name);
            let is_owned = owned.iter().any(|(taken, _)| canonical_kafka_option(taken) == canonical);
            if is_owned || canonical == "metadata.broker.list" {
                tracing::warn!(option = %name, "Kafka option ignored: longhaul sets it itself");
                continue;
            }
            config.set(name, value);
        }
        for (name, value) in owned {
            config.set(*name, value);
        }
        config.set("bootstrap.servers", self.bootstrap_servers.join(","));
        config
    }
}

/// Explains why a client could not be created, without the option's value, which may be a secret.
pub fn creation_error(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, description, name, _) => format!("kafka option {name}: {description}"),
        other => other.to_string(),
    }
}

pub mod notice;
#[allow(unsafe_code)]
pub mod raw;
mod repeats;

/// Logs a line of librdkafka. The owner of the client reports connection failures once for each
/// change, so librdkafka's own lines about each attempt are for debugging only.
pub fn log(level: i32, facility: &str, message: &str) {
    let is_connection = matches!(facility, "FAIL" | "ERROR" | "BRKMAIN");
    let is_told = (3..=6).contains(&level) && !is_connection;
    if is_told && !repeats::is_due(facility, message) {
        return tracing::debug!(target: "librdkafka", facility, "{message}");
    }
    // The severities of syslog.
    match level {
        ..=2 => tracing::error!(target: "librdkafka", facility, "{message}"),
        7.. => tracing::debug!(target: "librdkafka", facility, "{message}"),
        _ if is_connection => tracing::debug!(target: "librdkafka", facility, "{message}"),
        3 | 4 => tracing::warn!(target: "librdkafka", facility, "{message}"),
        5 | 6 => tracing::info!(target: "librdkafka", facility, "{message}"),
    }
}

/// The context of a client whose owner reports its errors: passes librdkafka's lines to our log.
pub struct Logging;

impl ClientContext for Logging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level as i32, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka client reports an error");
    }
}

impl ConsumerContext for Logging {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_win_over_defaults_and_lose_to_what_is_owned() {
        let cluster = Cluster {
            reread: None,
            bootstrap_servers: vec!["a:1".into(), "b:2".into()],
            options: vec![
                ("client.id".into(), "mine".into()),
                ("queued.min.messages".into(), "5".into()),
                ("enable.auto.commit".into(), "true".into()),
                ("bootstrap.servers".into(), "evil:1".into()),
                ("metadata.broker.list".into(), "evil:1".into()),
                ("compression.codec".into(), "lz4".into()),
                ("auto.commit.enable".into(), "true".into()),
            ],
        };
        let config = cluster.client(
            &[("queued.min.messages", "1000".into()), ("compression.type", "none".into())],
            &[("enable.auto.commit", "false".into())],
        );
        assert_eq!(config.get("client.id"), Some("mine"));
        assert_eq!(config.get("queued.min.messages"), Some("5"));
        assert_eq!(config.get("enable.auto.commit"), Some("false"));
        assert_eq!(config.get("bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!((config.get("compression.codec"), config.get("compression.type")), (Some("lz4"), None));
        assert_eq!((config.get("metadata.broker.list"), config.get("auto.commit.enable")), (None, None));
    }

    #[test]
    fn a_refused_option_is_named_without_its_value() {
        let options = vec![("sasl.mechanisms".into(), "secret".into()), ("no.such".into(), "secret".into())];
        let cluster = Cluster { bootstrap_servers: vec!["a:1".into()], options, reread: None };
        let error = cluster.client(&[], &[]).create_native_config().err().unwrap();
        let text = creation_error(&error);
        assert!(text.contains("no.such") && !text.contains("secret"), "{text}");
    }
}
