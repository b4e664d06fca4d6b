//! librdkafka options that are not for the user to set, each with the reason.

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

/// Aliases included: librdkafka takes either name, and the later one wins.
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
];

pub(super) const PRODUCER: &[Owned] = &[
    key("bootstrap.servers", "use `bootstrap_servers`"),
    key("metadata.broker.list", "use `bootstrap_servers`"),
    fixed("acks", CONFIRMED),
    fixed("request.required.acks", CONFIRMED),
    fixed("enable.idempotence", CONFIRMED),
    fixed("transactional.id", CONFIRMED),
];

/// Whether an option asks for what only OpenSSL gives. SASL/PLAIN is in every build (librdkafka 2.12, `configure`).
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
