//! The targets of dead letters and replies.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KafkaSource, RabbitmqSource, Tls};
use crate::config::schema::{one_broker, one_destination, one_target};
use crate::config::secret::{OptionValue, Secret};
use crate::config::units::Span;

/// Exactly one place to write to.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = one_target)]
pub struct Target {
    /// A RabbitMQ queue or exchange.
    pub rabbitmq: Option<RabbitmqTarget>,
    /// A Kafka topic.
    pub kafka: Option<KafkaTarget>,
    /// A service, as in Knative's deadLetterSink.
    pub http: Option<HttpTarget>,
}

/// A service that takes the CloudEvent of an item that failed for good, with `knativeerrordest`,
/// `knativeerrorcode` and `knativeerrordata`. Only an answer of 2xx confirms it; everything else is
/// sent again until it does.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpTarget {
    /// Address to POST to.
    pub url: String,
    /// `Host` header, when `url` is the address of the ingress.
    #[serde(default)]
    pub host: Option<String>,
    /// How long one write may take in all, 1s to 10m.
    #[serde(default = "http_timeout")]
    pub timeout: Span,
    /// Headers added to every request. Files named in them are read again when they change. The
    /// sink's headers, and the token that SinkBinding mounts for the sink, are not sent here.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Certificates for `https://`, beside those of `K_CA_CERTS` and of the cluster's trust
    /// bundles.
    #[serde(default)]
    pub tls: Tls,
}

/// A RabbitMQ queue (by name, through the default exchange) or an exchange with a routing key.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = one_destination)]
pub struct RabbitmqTarget {
    /// AMQP URI. Default: the source's, if the source is RabbitMQ.
    pub url: Option<Secret>,
    /// Name of an existing queue.
    #[schemars(length(min = 1, max = 255))]
    pub queue: Option<String>,
    /// Name of an existing exchange, instead of `queue`.
    #[schemars(length(min = 1, max = 255))]
    pub exchange: Option<String>,
    /// Routing key; goes with `exchange`.
    #[schemars(length(max = 255))]
    pub routing_key: Option<String>,
    /// Certificates for `amqps://`.
    #[serde(default)]
    pub tls: Tls,
}

/// A Kafka topic.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaTarget {
    /// Brokers to ask first, each `host:port`. Default: the source's, if the source is Kafka.
    #[serde(default)]
    pub bootstrap_servers: Vec<String>,
    /// Name of an existing topic.
    #[schemars(length(min = 1))]
    pub topic: String,
    /// Further librdkafka options, passed through as they are.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, OptionValue>")]
    pub options: BTreeMap<String, Secret>,
}

/// Where the worker's answers go: exactly one place.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = one_broker)]
pub struct Reply {
    /// A RabbitMQ queue or exchange.
    pub rabbitmq: Option<RabbitmqTarget>,
    /// A Kafka topic.
    pub kafka: Option<KafkaTarget>,
    /// Wraps an answer that is not a CloudEvent into one with longhaul's own attributes, and
    /// publishes it too.
    #[serde(default)]
    pub wrap: bool,
}

impl RabbitmqTarget {
    /// Returns the address of the target's broker, and its certificates. A target without `url` is
    /// in the broker of the pipeline's source. Returns `None` if the source is not RabbitMQ then.
    pub fn broker<'a>(&'a self, source: Option<&'a RabbitmqSource>) -> Option<(&'a Secret, &'a Tls)> {
        match &self.url {
            Some(url) => Some((url, &self.tls)),
            None => source.map(|source| (&source.url, &source.tls)),
        }
    }
}

impl KafkaTarget {
    /// Returns the servers of the target's cluster. A target without servers is in the cluster of
    /// the pipeline's source.
    pub fn servers<'a>(&'a self, source: Option<&'a KafkaSource>) -> &'a [String] {
        self.cluster_of(source).map_or(&self.bootstrap_servers, |source| &source.bootstrap_servers)
    }

    /// Returns the librdkafka options for the target. The source's cluster needs the source's
    /// credentials, unless the target sets others. Its other options concern the source alone.
    pub fn all_options(&self, source: Option<&KafkaSource>) -> BTreeMap<String, Secret> {
        let is_of_cluster =
            |name: &str| ["security.", "sasl.", "ssl."].iter().any(|prefix| name.starts_with(prefix));
        let mut all = self.cluster_of(source).map(|source| source.options.clone()).unwrap_or_default();
        all.retain(|name, _| is_of_cluster(name));
        all.extend(self.options.clone());
        all
    }

    fn cluster_of<'a>(&self, source: Option<&'a KafkaSource>) -> Option<&'a KafkaSource> {
        source.filter(|_| self.bootstrap_servers.is_empty())
    }
}

fn http_timeout() -> Span {
    Span::from_secs(30)
}
