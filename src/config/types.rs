//! The keys of the configuration file. Each doc comment is the published reference of its key.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::one_broker;
use super::secret::{OptionValue, Secret};
use super::units::{ByteCount, Rate, Span};

mod event;
mod guard;
mod intake;
mod peers;
mod target;

pub use event::{Event, EventId};
pub use guard::Guard;
pub use intake::Intake;
pub use peers::Peers;
pub use target::{HttpTarget, KafkaTarget, RabbitmqTarget, Reply, Target};

/// The highest `max_in_flight` of a pipeline. Each open request costs a connection, a body in
/// memory and a unit of the prefetch.
pub const MAX_IN_FLIGHT_MAX: u32 = 10_000;

/// The whole configuration file. Any value may hold `${env:NAME}` and `${file:/path}`; `$${` stands
/// for `${`. In URLs of brokers, headers, tokens and librdkafka options files are read again when
/// they change, elsewhere once at start.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "longhaul configuration")]
pub struct Config {
    /// Each pipeline moves items from one queue or topic to one service, independently of the
    /// others.
    #[schemars(length(min = 1))]
    pub pipelines: Vec<Pipeline>,
    /// Health, metrics and control over HTTP.
    #[serde(default)]
    pub admin: Admin,
    /// The other replicas of this bridge. They are asked before an item that was redelivered is
    /// started again.
    #[serde(default)]
    pub peers: Option<Peers>,
    /// The drain after SIGTERM.
    #[serde(default)]
    pub drain: Drain,
    /// When a lack of progress is reported.
    #[serde(default)]
    pub alerts: Alerts,
    /// Marks on busy pods, so that Kubernetes removes idle ones first.
    #[serde(default)]
    pub guard: Option<Guard>,
    /// An HTTP entry point to the queue or topic of a pipeline.
    #[serde(default)]
    pub intake: Option<Intake>,
}

/// One queue or topic, and the service that its items go to.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Name of the pipeline in logs and metrics: lower-case letters, digits and `-`, unique in the
    /// file.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    #[schemars(extend("x-pattern-help" = "use 1 to 63 lower-case letters, digits and `-`, with no `-` at the ends"))]
    pub name: String,
    /// Where the items come from.
    pub source: Source,
    /// Where the items go.
    #[serde(default)]
    pub sink: Sink,
    /// Requests held open at once by this replica, 1 to 10000; also RabbitMQ's prefetch. This
    /// number times the replicas should not exceed the service's max-scale: further requests would
    /// wait in Knative while their timeout runs.
    #[schemars(range(min = 1, max = MAX_IN_FLIGHT_MAX))]
    pub max_in_flight: u32,
    /// Requests that this replica may start within a time, such as `30/m`, for workers behind a
    /// quota. They start evenly spaced, and further attempts count too. Without this key only
    /// `max_in_flight` bounds the starts.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// The number, the delays and the limits of further attempts at a failed item.
    #[serde(default)]
    pub retry: Retry,
    /// The reaction when nobody can tell whether the worker finished (504, connection lost).
    #[serde(default)]
    pub on_unknown: OnUnknown,
    /// The reaction to an item that failed for good, without `dead_letter`.
    #[serde(default)]
    pub on_failed: OnFailed,
    /// The target of items that failed for good. They leave the source only after this write is
    /// confirmed.
    #[serde(default)]
    pub dead_letter: Option<Target>,
    /// The target of the worker's answers. An item leaves the source only after this write is
    /// confirmed.
    #[serde(default)]
    pub reply: Option<Reply>,
    /// When to stop asking a service that only fails.
    #[serde(default)]
    pub breaker: Breaker,
    /// Ends an attempt whose worker has reported to `progressurl` and then reports nothing for this
    /// long. It counts as a failed attempt. The time starts with the first report of the attempt,
    /// so that the start of a worker does not count. A worker that never reports may take as long
    /// as `sink.timeout`.
    #[serde(default)]
    pub stalled_after: Option<Span>,
    /// An existing compacted Kafka topic for the checkpoints that workers post, so that the next
    /// attempt gets them also after a restart, a crash or a rebalance of the bridge. Needs a Kafka
    /// source. Several pipelines may share one topic.
    #[serde(default)]
    pub checkpoints: Option<KafkaTarget>,
    /// Bounds on memory.
    #[serde(default)]
    pub limits: Limits,
    /// The CloudEvent made of an item; the defaults are those of Knative's own sources.
    #[serde(default)]
    pub event: Event,
}

/// Exactly one of the brokers.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = one_broker)]
pub struct Source {
    /// A RabbitMQ queue.
    pub rabbitmq: Option<RabbitmqSource>,
    /// Kafka topics.
    pub kafka: Option<KafkaSource>,
}

/// A RabbitMQ queue.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RabbitmqSource {
    /// AMQP URI, `amqp://user:password@host:5672/vhost` or `amqps://…`; `?heartbeat=` in seconds as
    /// in the AMQP URI specification. Keep the password out of the file:
    /// `amqp://${file:/etc/longhaul/rabbitmq}`.
    pub url: Secret,
    /// Name of the queue. It must exist unless `declare` is given.
    #[schemars(length(min = 1, max = 255))]
    pub queue: String,
    /// How many returns the queue allows before RabbitMQ drops an item. Two returns before that,
    /// longhaul writes a copy of the item to the queue. Default: the limit in `declare`, else 20,
    /// the default of quorum queues since RabbitMQ 4.0. Set it if a policy sets a lower limit.
    /// Classic queues do not count returns.
    #[serde(default)]
    pub delivery_limit: Option<u32>,
    /// Creates the queue if it is missing. Without this key a missing queue is reported and waited
    /// for.
    #[serde(default)]
    pub declare: Option<Declare>,
    /// Certificates for `amqps://`.
    #[serde(default)]
    pub tls: Tls,
}

/// A queue to create.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Declare {
    /// Kind of queue.
    #[serde(default, rename = "type")]
    pub kind: QueueKind,
    /// Queue arguments, passed through as they are, such as `x-consumer-timeout: 43200000`.
    #[serde(default)]
    pub arguments: BTreeMap<String, serde_json::Value>,
    /// Bindings to make from existing exchanges to the queue.
    #[serde(default)]
    pub bind: Vec<Binding>,
}

/// Kind of a RabbitMQ queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum QueueKind {
    /// Replicated and durable; counts deliveries.
    #[default]
    Quorum,
    /// Durable, on one node.
    Classic,
}

/// A binding from an exchange to the queue.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// Name of an existing exchange.
    #[schemars(length(min = 1, max = 255))]
    pub exchange: String,
    /// Routing key of the binding.
    #[serde(default)]
    #[schemars(length(max = 255))]
    pub routing_key: String,
}

/// Kafka topics, read as a member of a consumer group.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSource {
    /// Brokers to ask first, each `host:port`.
    #[schemars(length(min = 1))]
    pub bootstrap_servers: Vec<String>,
    /// Topics to read; a name that starts with `^` is a regular expression.
    #[schemars(length(min = 1))]
    pub topics: Vec<String>,
    /// Consumer group. Progress is kept in its committed offsets.
    #[schemars(length(min = 1))]
    pub group: String,
    /// Which records run one at a time and in order.
    #[serde(default)]
    pub order: Order,
    /// Where a new group begins. A partition or topic that appears later, or that was deleted and
    /// created again, always begins at its oldest record.
    #[serde(default)]
    pub start: Start,
    /// Static membership: a name that is unique in the group and comes back after a restart, such
    /// as the pod name of a StatefulSet. If the name does not come back (a Deployment), partitions
    /// stay unread after each rollout until the session times out.
    #[serde(default)]
    pub instance_id: Option<String>,
    /// How long the group waits for a member that died, 1s to 5m. Each restart after a kill waits
    /// this long.
    #[serde(default = "defaults::session_timeout")]
    pub session_timeout: Span,
    /// The reaction to a record that holds back its partition's committed offset for a long time.
    #[serde(default)]
    pub stuck_head: StuckHead,
    /// The reaction to a record or batch that cannot be decoded (an unknown or damaged compression,
    /// a wrong checksum).
    #[serde(default)]
    pub undecodable: Undecodable,
    /// Further librdkafka options, passed through as they are (`security.protocol`, `sasl.*`, …).
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, OptionValue>")]
    pub options: BTreeMap<String, Secret>,
}

/// Settings for the lowest unfinished record of a partition. Later records are still processed, as
/// long as a commit can name the unfinished ones: 20,000 neighbouring records, and fewer if they
/// are far apart.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StuckHead {
    /// The age at which the log reports the record. The metric `longhaul_kafka_head_age_seconds`
    /// always shows its age.
    pub report_after: Span,
    /// How long after its first failed attempt the record is given up, unless it is running: it
    /// goes to `dead_letter` (reason `stalled`), or is held or dropped as `on_failed` says. Time in
    /// which nothing may start does not count: in a pause, while the breaker is open, or with
    /// `limits.held_max` held items. Without this key the partition waits for it without end.
    pub dead_letter_after: Option<Span>,
}

/// The reaction to a Kafka record that cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Undecodable {
    /// Its partition waits until somebody acts, and is reported; the other partitions continue.
    #[default]
    Hold,
    /// One dead letter (reason `undecodable`) names the topic, the partition, the offsets of the
    /// batch and the error, and reading continues behind the batch. The bytes of the records are
    /// not in the letter, because the Kafka client does not give them; they are in the topic for as
    /// long as it keeps them. Needs `dead_letter`, or `on_failed: drop`.
    Skip,
}

/// Which Kafka records run one at a time and in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// None: every free slot takes the next record.
    #[default]
    None,
    /// Records of one key, in one partition; records without a key are not ordered.
    Key,
    /// All records of a partition.
    Partition,
}

/// Where a group without any committed offset begins. A partition that has had an offset and has
/// none now has lost it: it never starts by itself, and waits for `longhaul resume --from`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// At the oldest record, so that nothing is lost.
    #[default]
    Earliest,
    /// At the end: records from before the group's first start are never read. This is decided and
    /// committed once, at the first start, for all partitions of the subscribed topics.
    Latest,
    /// Nowhere: a partition with records and without a committed offset waits for `longhaul resume
    /// --from`.
    Refuse,
}

/// The service that does the work.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sink {
    /// Address to POST to. Without it the environment variable `K_SINK`, as a SinkBinding sets it.
    pub url: Option<String>,
    /// `Host` header, when `url` is the address of the ingress.
    pub host: Option<String>,
    /// How long one attempt may take in all, waiting in Knative included. Slightly more than the
    /// service's timeoutSeconds.
    pub timeout: Span,
    /// How long connecting may take.
    pub connect_timeout: Span,
    /// How long sent bytes may stay unacknowledged by the peer's kernel before the connection
    /// counts as lost. A network fault shorter than this does not cut a running request.
    pub tcp_user_timeout: Span,
    /// Headers added to every request. Files named in them are read again when they change.
    pub headers: BTreeMap<String, Secret>,
    /// Certificates for `https://`.
    pub tls: Tls,
    /// Binary (attributes as headers) or structured (one JSON document).
    pub mode: Mode,
    /// Accepts an answer as the worker's only if it has the header `Longhaul-Outcome`, so that the
    /// answer of a proxy cannot be mistaken for it.
    pub require_outcome: bool,
    /// Statuses, 300 to 599, with which the worker rejects an item for good. Without an entry here
    /// 401, 403, 407 and 3xx mean that the configuration is wrong: the item stays, and no further
    /// item is taken. An answer with `Longhaul-Outcome` needs no entry.
    #[schemars(inner(range(min = 300, max = 599)))]
    pub reject_on: Vec<u16>,
    /// How much of a reply is kept. A longer reply cannot be published.
    pub response_bytes: ByteCount,
}

/// How a CloudEvent is put into a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Attributes as headers, the item's bytes as the body.
    #[default]
    Binary,
    /// One JSON document, `application/cloudevents+json`.
    Structured,
}

/// Certificates. Files are read again at each new connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM file with certificate authorities, in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client certificate; goes with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the client certificate's key.
    pub key_file: Option<PathBuf>,
}

/// The rules for further attempts at a failed item.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Runs of the worker in all, the first included, 1 to 255.
    #[schemars(range(min = 1, max = 255))]
    pub attempts: u32,
    /// Wait after the first failure; it doubles with each further one, and varies by up to a
    /// quarter.
    pub backoff: Span,
    /// The longest wait. It also limits a `Retry-After` of the worker.
    pub backoff_max: Span,
    /// The shortest wait after an unknown outcome, so that a second request does not start while
    /// the first worker is still stopping.
    pub unknown_backoff: Span,
    /// Worker time that one item may use in all its attempts.
    pub worker_time_budget: Span,
    /// How long an item may wait for a worker that cannot be reached. Such attempts are not
    /// counted. Time in which nothing may start does not count: in a pause, while the breaker is
    /// open, or with `limits.held_max` held items.
    pub not_started_for: Span,
    /// Interruptions in a row that cost no attempt, 0 to 1000. A worker reports one if it is
    /// stopped before it has finished. Each further one counts as a failed attempt.
    #[schemars(range(max = 1000))]
    pub interruptions: u32,
    /// RabbitMQ only: waits happen in the broker, in queues of this name, with the source and the
    /// delay appended, which are created when they are needed. A parked item holds no slot, and its
    /// count of attempts survives a restart. Without this key an item waits in memory and keeps its
    /// slot.
    #[schemars(length(min = 1, max = 200))]
    pub queue: Option<String>,
}

/// The reaction when nobody can tell whether the worker finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnUnknown {
    /// Try again, as after a failure.
    #[default]
    Retry,
    /// Dead-letter the item.
    DeadLetter,
    /// Keep the item unsettled and show it until a person decides.
    Hold,
}

/// The reaction to an item that failed for good, without `dead_letter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailed {
    /// Keep it unsettled and show it; `limits.held_max` of them stop the pipeline's intake.
    #[default]
    Hold,
    /// Ack it: the item is lost, by choice.
    Drop,
}

/// When to stop asking a service that only fails.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// Items in a row that were not started or rejected, after which nothing new starts; 0 switches
    /// the breaker off.
    pub failures: u32,
    /// How long to wait before one item probes the service again.
    pub open: Span,
}

/// Bounds on memory.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The largest body; a larger item fails for good with reason `too-large`.
    pub item_bytes: ByteCount,
    /// Total size of the bodies held in memory; above it nothing new is taken.
    pub held_bytes: ByteCount,
    /// How many items that failed for good may be held. At this number the pipeline takes no new
    /// ones.
    #[schemars(range(min = 1))]
    pub held_max: u32,
}

/// Health, metrics and control over HTTP.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Address to listen on, such as `0.0.0.0:9090`. Without this key the admin server is off.
    pub listen: Option<String>,
    /// Bearer token that every change needs, at least 16 characters. Without it only programs on
    /// the same machine may change anything; web pages may not.
    pub token: Option<Secret>,
    /// Bearer token that reads of items and pipelines need. Without it reads are open. `token` also
    /// allows reads.
    pub read_token: Option<Secret>,
    /// The address at which workers and people reach the admin server, such as
    /// `http://longhaul:9090`. Workers report their progress there. The default is `listen`, unless
    /// that is a wildcard such as `0.0.0.0`.
    pub url: Option<String>,
    /// Serve `https://` instead of `http://`. Probes then need `scheme: HTTPS`.
    pub tls: Option<ServerTls>,
}

/// The certificate of a server. The files are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// PEM file with the certificate and its chain.
    pub cert_file: PathBuf,
    /// PEM file with the certificate's key.
    pub key_file: PathBuf,
}

/// The drain after SIGTERM.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// How long running requests may go on. The pod's terminationGracePeriodSeconds must be longer.
    pub timeout: Span,
}

/// When a lack of progress is reported.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    /// A pipeline is not ready when items wait without a running request, and none of them has made
    /// progress for this long.
    pub stalled: Span,
}

mod defaults;
