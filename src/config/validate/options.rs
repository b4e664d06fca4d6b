//! Lists the librdkafka options that users may not set, each with the reason.

/// An option that longhaul sets itself.
pub(super) struct Owned {
    pub name: &'static str,
    pub reason: &'static str,
    pub help: &'static str,
}

const fn key(name: &'static str, help: &'static str) -> Owned {
    Owned { name, reason: "a key of its own says this", help }
}

const fn fixed(name: &'static str, reason: &'static str) -> Owned {
    Owned { name, reason, help: "remove it" }
}

const OFFSETS: &str = "an offset is committed when the work behind it is done, and by nothing else";
const GROUP: &str =
    "longhaul keeps partitions through a rebalance, which needs the classic protocol with cooperative-sticky";
const CONFIRMED: &str = "an item leaves its source only after every in-sync replica has the record, once";
const PROGRESS: &str = "longhaul needs it to see how far the log was read and whether the group works";
const BATCH: &str = "a batch of several records could exceed the topic's max.message.bytes";

/// The consumer's options, with their aliases, since librdkafka takes either name.
pub(super) const CONSUMER: &[Owned] = &[
    key("bootstrap.servers", "use `bootstrap_servers`"),
    key("metadata.broker.list", "use `bootstrap_servers`"),
    key("group.id", "use `group`"),
    key("group.instance.id", "use `instance_id`"),
    key("session.timeout.ms", "use `session_timeout`"),
    key("auto.offset.reset", "use `start`"),
    fixed("enable.auto.commit", OFFSETS),
    fixed("auto.commit.enable", OFFSETS),
    fixed("auto.commit.interval.ms", OFFSETS),
    fixed("enable.auto.offset.store", OFFSETS),
    fixed("offset.store.method", OFFSETS),
    fixed("partition.assignment.strategy", GROUP),
    fixed("group.protocol", GROUP),
    fixed("group.remote.assignor", GROUP),
    fixed("enable.partition.eof", PROGRESS),
    fixed("statistics.interval.ms", PROGRESS),
];

pub(super) const PRODUCER: &[Owned] = &[
    key("bootstrap.servers", "use `bootstrap_servers`"),
    key("metadata.broker.list", "use `bootstrap_servers`"),
    fixed("acks", CONFIRMED),
    fixed("request.required.acks", CONFIRMED),
    fixed("enable.idempotence", CONFIRMED),
    fixed("transactional.id", CONFIRMED),
    fixed("message.timeout.ms", CONFIRMED),
    fixed("delivery.timeout.ms", CONFIRMED),
    fixed("batch.num.messages", BATCH),
];

/// Groups of names for the same option. The first is the name that librdkafka itself uses.
const ALIASES: &[(&str, &str)] = &[
    ("metadata.broker.list", "bootstrap.servers"),
    ("max.in.flight.requests.per.connection", "max.in.flight"),
    ("sasl.mechanisms", "sasl.mechanism"),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
    ("enable.auto.commit", "auto.commit.enable"),
    ("compression.codec", "compression.type"),
    ("message.send.max.retries", "retries"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("request.required.acks", "acks"),
    ("message.timeout.ms", "delivery.timeout.ms"),
];

/// Returns the main name of an option.
pub fn canonical(name: &str) -> &str {
    ALIASES.iter().find(|(_, alias)| *alias == name).map_or(name, |(own, _)| own)
}

/// Whether an option needs OpenSSL. SASL/PLAIN does not: it is in every build (librdkafka 2.12,
/// `configure`).
pub(super) fn needs_tls(name: &str, value: &str) -> bool {
    match name {
        "security.protocol" => matches!(value.to_ascii_lowercase().as_str(), "ssl" | "sasl_ssl"),
        "sasl.mechanism" | "sasl.mechanisms" => {
            let value = value.to_ascii_uppercase();
            value.starts_with("SCRAM-") || value == "OAUTHBEARER"
        }
        _ => name.starts_with("ssl."),
    }
}
