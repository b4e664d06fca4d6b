//! How a Kafka cluster is reached: one librdkafka configuration for consumers and producers, and
//! librdkafka's log lines in ours.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

/// Where a cluster is, and the user's librdkafka options with their secrets resolved.
#[derive(Clone, Default)]
pub struct Cluster {
    /// Each `host:port`.
    pub bootstrap_servers: Vec<String>,
    /// `security.protocol`, `sasl.*`, `ssl.*` and whatever else librdkafka knows.
    pub options: Vec<(String, String)>,
}

impl Cluster {
    /// The configuration of one client. The user's options win over `defaults`; `owned` wins over both,
    /// because what we promise rests on it.
    pub fn client(&self, defaults: &[(&str, String)], owned: &[(&str, String)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "longhaul");
        config.set("socket.keepalive.enable", "true");
        // A broker that comes back after a restart is found within two seconds, not ten.
        config.set("reconnect.backoff.max.ms", "2000");
        for (name, value) in defaults {
            config.set(*name, value);
        }
        for (name, value) in &self.options {
            if owned.iter().any(|(taken, _)| taken == name) || name == "bootstrap.servers" {
                tracing::warn!(option = %name, "kafka option ignored: longhaul sets it itself");
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

/// Why a client could not be created, without the option's value, which may be a secret.
pub fn creation_error(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, description, name, _) => format!("kafka option {name}: {description}"),
        other => other.to_string(),
    }
}

/// Passes a line of librdkafka on. Connection failures are told by whoever owns the client, once for
/// each change and not once for each try, so their lines are for debugging only.
pub fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    use RDKafkaLogLevel::{Alert, Critical, Debug, Emerg, Error, Info, Notice, Warning};
    let is_connection = matches!(facility, "FAIL" | "ERROR" | "BRKMAIN");
    match level {
        Emerg | Alert | Critical => tracing::error!(target: "librdkafka", facility, "{message}"),
        Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
        _ if is_connection => tracing::debug!(target: "librdkafka", facility, "{message}"),
        Error | Warning => tracing::warn!(target: "librdkafka", facility, "{message}"),
        Notice | Info => tracing::info!(target: "librdkafka", facility, "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_win_over_defaults_and_lose_to_what_is_owned() {
        let cluster = Cluster {
            bootstrap_servers: vec!["a:1".into(), "b:2".into()],
            options: vec![
                ("client.id".into(), "mine".into()),
                ("queued.min.messages".into(), "5".into()),
                ("enable.auto.commit".into(), "true".into()),
                ("bootstrap.servers".into(), "evil:1".into()),
            ],
        };
        let config = cluster
            .client(&[("queued.min.messages", "1000".into())], &[("enable.auto.commit", "false".into())]);
        assert_eq!(config.get("client.id"), Some("mine"));
        assert_eq!(config.get("queued.min.messages"), Some("5"));
        assert_eq!(config.get("enable.auto.commit"), Some("false"));
        assert_eq!(config.get("bootstrap.servers"), Some("a:1,b:2"));
    }

    #[test]
    fn a_refused_option_is_named_without_its_value() {
        let options = vec![("sasl.mechanisms".into(), "secret".into()), ("no.such".into(), "secret".into())];
        let cluster = Cluster { bootstrap_servers: vec!["a:1".into()], options };
        let error = cluster.client(&[], &[]).create_native_config().err().unwrap();
        let text = creation_error(&error);
        assert!(text.contains("no.such") && !text.contains("secret"), "{text}");
    }
}
