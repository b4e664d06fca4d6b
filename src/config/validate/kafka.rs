//! Checks brokers, topics and librdkafka options.

use std::collections::{BTreeMap, HashMap};

use regex::Regex;

use super::{Context, options};
use crate::config::path::Path;
use crate::config::secret::Secret;
use crate::config::types::{KafkaSource, KafkaTarget, OnFailed, Pipeline, Undecodable};
use crate::config::units::Span;

/// Topics that Kafka itself writes. A pattern that matches one would run its records as items.
const INTERNAL: [&str; 4] =
    ["__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"];

impl Context<'_> {
    pub(super) fn kafka_source(&mut self, source: &KafkaSource, pipeline: &Pipeline, path: &Path) {
        self.built_with_kafka(path);
        self.servers(&source.bootstrap_servers, &path.key("bootstrap_servers"));
        let mut seen = HashMap::new();
        for (index, topic) in source.topics.iter().enumerate() {
            let at = path.key("topics").item(index);
            if let Some(first) = seen.insert(topic.as_str(), index) {
                let reason = format!("topics[{first}] is the same topic");
                self.report.mistake(&at, reason, "list each topic once");
            }
            self.topic(topic, &at);
        }
        self.not_empty(&path.key("instance_id"), source.instance_id.as_deref());
        // With less than a second, a short pause of the machine would cost the membership. Brokers
        // refuse less than 6s by default.
        self.range(
            &path.key("session_timeout"),
            source.session_timeout,
            Span::from_secs(1),
            Span::from_secs(300),
        );
        // Ages are measured to the second.
        let stuck_head = path.key("stuck_head");
        let least = Span::from_secs(1);
        self.range(&stuck_head.key("report_after"), source.stuck_head.report_after, least, Span::MAX);
        if let Some(after) = source.stuck_head.dead_letter_after {
            self.range(&stuck_head.key("dead_letter_after"), after, least, Span::MAX);
        }
        let goes_nowhere = pipeline.dead_letter.is_none() && pipeline.on_failed != OnFailed::Drop;
        if source.undecodable == Undecodable::Skip && goes_nowhere {
            self.report.mistake(
                &path.key("undecodable"),
                "without `dead_letter` the skipped records are lost",
                "add `dead_letter:`, or `on_failed: drop` to lose such records",
            );
        }
        self.options(&source.options, options::CONSUMER, &path.key("options"));
        self.security(&source.options, &source.options, &path.key("options"));
    }

    pub(super) fn kafka_target(&mut self, target: &KafkaTarget, pipeline: &Pipeline, path: &Path) {
        self.kafka_place(target, pipeline, path);
        let source = &pipeline.source;
        if let Some(kafka) = &source.kafka
            && reads(kafka, target, Some(kafka))
        {
            let reason = format!(
                "the source of this pipeline reads `{}` too, so each item would come again",
                target.topic
            );
            self.report.mistake(
                &path.key("topic"),
                reason,
                "name a topic that source.kafka.topics does not match",
            );
        }
    }

    /// Checks the servers, the topic's name and the options of a topic to write to.
    pub(super) fn kafka_place(&mut self, target: &KafkaTarget, pipeline: &Pipeline, path: &Path) {
        self.built_with_kafka(path);
        let servers = path.key("bootstrap_servers");
        self.servers(&target.bootstrap_servers, &servers);
        let source = &pipeline.source;
        if target.bootstrap_servers.is_empty() && source.rabbitmq.is_some() && source.kafka.is_none() {
            self.report.mistake(
                &servers,
                "the key `bootstrap_servers` is missing: the source is RabbitMQ, so they cannot be taken from there",
                "add `bootstrap_servers: [\"host:9092\"]`",
            );
        }
        self.topic_name(&target.topic, &path.key("topic"));
        self.options(&target.options, options::PRODUCER, &path.key("options"));
        let all = target.all_options(source.kafka.as_ref());
        self.security(&target.options, &all, &path.key("options"));
    }

    fn built_with_kafka(&mut self, path: &Path) {
        if !self.features.kafka {
            let help = "use the released binary, or build with `--features kafka`";
            self.report.mistake(path, "this program was built without Kafka", help);
        }
    }

    /// Checks a list of servers. One text may hold several, as `${env:KAFKA_BROKERS}` often does;
    /// librdkafka accepts that.
    fn servers(&mut self, servers: &[String], path: &Path) {
        for (index, server) in servers.iter().enumerate() {
            if server.split(',').all(|server| is_host_and_port(server.trim())) {
                continue;
            }
            let reason = match server.contains("://") {
                true => "a broker's address has no `://`",
                false => "this is not a `host:port`",
            };
            self.report.mistake(&path.item(index), reason, "write the broker as host:9092");
        }
    }

    fn topic(&mut self, topic: &str, path: &Path) {
        if !topic.starts_with('^') {
            return self.topic_name(topic, path);
        }
        let help = "write a POSIX extended regular expression, such as ^orders-[a-z]+$";
        if let Some(construct) = differs(topic) {
            let reason = format!(
                "librdkafka's regular expressions do not know {construct}, or mean something else by it"
            );
            return self.report.mistake(path, reason, help);
        }
        let Ok(pattern) = Regex::new(topic) else {
            return self.report.mistake(path, "this is not a regular expression", help);
        };
        if let Some(internal) = INTERNAL.iter().find(|internal| pattern.is_match(internal)) {
            let reason = format!("this matches Kafka's own topic {internal}");
            self.report.mistake(path, reason, "write a pattern that needs more, such as ^orders-.*");
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
        let mut seen: HashMap<&str, &str> = HashMap::new();
        for (name, value) in given {
            let at = path.key(name);
            if let Some(options::Owned { reason, help, .. }) = owned.iter().find(|option| option.name == name)
            {
                self.report.mistake(&at, *reason, *help);
                continue;
            }
            if let Some(first) = seen.insert(options::canonical(name), name) {
                let reason = format!("`{first}` is another name of the same option");
                self.report.mistake(&at, reason, "give it once");
                continue;
            }
            // A value that cannot be resolved now is reported at the start.
            let Ok(value) = value.resolve_with(self.env) else { continue };
            if options::needs_tls(name, &value) && !self.features.kafka_tls {
                let help = "use the released binary, or build with `--features kafka-tls`";
                self.report.mistake(&at, "this program was built without TLS and SASL/SCRAM for Kafka", help);
                continue;
            }
            match refusal(name, &value) {
                Some(Refusal::Unknown) => self.report.mistake(
                    &at,
                    "librdkafka does not know this option",
                    "see the list in librdkafka's CONFIGURATION.md",
                ),
                Some(Refusal::Value) => self.report.mistake(
                    &at,
                    "librdkafka refuses this value",
                    "see the values of this option in librdkafka's CONFIGURATION.md",
                ),
                None => {}
            }
        }
    }

    /// Refuses credentials and certificates without a protocol that uses them: the client would
    /// connect in plain text.
    fn security(&mut self, given: &BTreeMap<String, Secret>, all: &BTreeMap<String, Secret>, path: &Path) {
        let protocol = match all.get("security.protocol").map(|value| value.resolve_with(self.env)) {
            Some(Ok(protocol)) => protocol.to_ascii_lowercase(),
            // The protocol is not known before the start.
            Some(Err(_)) => return,
            None => "plaintext".to_owned(),
        };
        for (prefix, used, wanted) in [
            ("sasl.", protocol.starts_with("sasl"), "sasl_ssl (or sasl_plaintext)"),
            ("ssl.", protocol.ends_with("ssl"), "ssl (or sasl_ssl)"),
        ] {
            let Some(name) = given.keys().find(|name| name.starts_with(prefix)).filter(|_| !used) else {
                continue;
            };
            self.report.mistake(
                &path.key(name),
                format!("this has no effect, because `security.protocol` is {protocol}"),
                format!("add `security.protocol: {wanted}`, or remove the option"),
            );
        }
    }

    /// Refuses pipelines that pass dead letters or replies around in a circle. Such items would
    /// never end.
    pub(super) fn kafka_cycles(&mut self, pipelines: &[Pipeline], path: &Path) {
        let feeds = |from: usize, to: usize| -> Option<&'static str> {
            let source = pipelines[to].source.kafka.as_ref()?;
            targets(&pipelines[from])
                .find(|(_, target)| reads(source, target, pipelines[from].source.kafka.as_ref()))
                .map(|(key, _)| key)
        };
        for start in 0..pipelines.len() {
            // Each cycle is reported once, at its first pipeline.
            let mut reached = vec![false; pipelines.len()];
            let mut next: Vec<usize> =
                (start + 1..pipelines.len()).filter(|to| feeds(start, *to).is_some()).collect();
            while let Some(at) = next.pop() {
                if std::mem::replace(&mut reached[at], true) {
                    continue;
                }
                if feeds(at, start).is_some() {
                    let key = (start + 1..pipelines.len()).find_map(|to| feeds(start, to)).unwrap_or("reply");
                    let reason = format!(
                        "pipeline `{}` reads this topic, and what it writes comes back to this pipeline: items would go round without end",
                        pipelines[at].name
                    );
                    let at = path.item(start).key(key).key("kafka").key("topic");
                    self.report.mistake(&at, reason, "write to a topic that leads out of the cycle");
                    break;
                }
                next.extend((start + 1..pipelines.len()).filter(|to| feeds(at, *to).is_some()));
            }
        }
    }
}

/// Returns the Kafka topics that a pipeline writes to, with their keys.
pub(super) fn targets(pipeline: &Pipeline) -> impl Iterator<Item = (&'static str, &KafkaTarget)> {
    let dead_letter = pipeline.dead_letter.as_ref().and_then(|target| target.kafka.as_ref());
    let reply = pipeline.reply.as_ref().and_then(|reply| reply.kafka.as_ref());
    dead_letter.map(|target| ("dead_letter", target)).into_iter().chain(reply.map(|target| ("reply", target)))
}

/// Whether a source reads the topic of a target. `own` is the source of the target's pipeline.
pub(super) fn reads(source: &KafkaSource, target: &KafkaTarget, own: Option<&KafkaSource>) -> bool {
    same_cluster(&source.bootstrap_servers, target.servers(own)) && matches(source, &target.topic)
}

/// Whether two lists share a server. A list often names only some brokers of a cluster, so one
/// match is enough.
pub(super) fn same_cluster(some: &[String], servers: &[String]) -> bool {
    let split = |servers: &[String]| -> Vec<String> {
        servers.iter().flat_map(|list| list.split(',')).map(|one| one.trim().to_owned()).collect()
    };
    let theirs = split(servers);
    split(some).iter().any(|server| theirs.contains(server))
}

fn matches(source: &KafkaSource, name: &str) -> bool {
    source.topics.iter().any(|topic| match topic.starts_with('^') {
        true => Regex::new(topic).is_ok_and(|pattern| pattern.is_match(name)),
        false => topic == name,
    })
}

/// Returns the reason if a pattern uses a construct that POSIX extended expressions lack or read
/// differently.
fn differs(pattern: &str) -> Option<&'static str> {
    let mut letters = pattern.chars().peekable();
    let (mut in_brackets, mut after_quantifier) = (false, false);
    while let Some(letter) = letters.next() {
        let next = letters.peek().copied();
        let is_quantifier = !in_brackets && matches!(letter, '*' | '+' | '?' | '}');
        match letter {
            '\\' if in_brackets => return Some("a backslash in brackets"),
            '\\' if next.is_some_and(char::is_alphanumeric) => {
                return Some("a backslash before a letter or digit");
            }
            '\\' => {
                letters.next();
            }
            '?' | '+' if after_quantifier => return Some("a lazy or possessive quantifier"),
            '(' if !in_brackets && next == Some('?') => return Some("a group that starts with ?"),
            '[' if in_brackets && !matches!(next, Some(':')) => return Some("a bracket in brackets"),
            '[' if in_brackets => {
                // Skips a class such as `[:alpha:]`.
                letters.by_ref().skip(1).find(|letter| *letter == ']');
            }
            '[' => {
                in_brackets = true;
                // A closing bracket at the front is an ordinary letter.
                letters.next_if_eq(&'^');
                letters.next_if_eq(&']');
            }
            ']' if in_brackets => in_brackets = false,
            '&' | '~' | '-' if in_brackets && next == Some(letter) => return Some("an operation on sets"),
            _ => {}
        }
        after_quantifier = is_quantifier;
    }
    None
}

/// The reason why librdkafka refuses an option.
#[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "nothing is refused without librdkafka"))]
enum Refusal {
    Unknown,
    Value,
}

/// Asks librdkafka to set the option. That needs no broker.
#[cfg(feature = "kafka")]
fn refusal(name: &str, value: &str) -> Option<Refusal> {
    use rdkafka::error::KafkaError;
    use rdkafka::types::RDKafkaConfRes;
    if options::needs_tls(name, value) && !cfg!(feature = "kafka-tls") {
        return None;
    }
    let mut config = rdkafka::ClientConfig::new();
    config.set(name, value);
    match config.create_native_config() {
        Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => Some(Refusal::Unknown),
        Err(_) => Some(Refusal::Value),
        Ok(_) => None,
    }
}

#[cfg(not(feature = "kafka"))]
fn refusal(_name: &str, _value: &str) -> Option<Refusal> {
    None
}

pub(super) fn is_host_and_port(server: &str) -> bool {
    let Some((host, port)) = server.rsplit_once(':') else { return false };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    !host.is_empty()
        && !host.contains(|letter: char| letter == '/' || letter.is_whitespace())
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_the_same_to_both_engines() {
        for same in
            ["^orders-[a-z]+$", "^a|b", "^a\\.b(c|d)?", "^[]a]", "^[^]a-]", "^x{2,3}", "^[[:alpha:]_]+"]
        {
            assert_eq!(differs(same), None, "{same}");
        }
        for other in [
            "^\\d+", "^\\w", "^a+?", "^a*+", "^a{2}?", "^(?:a)", "^(?i)a", "^[a&&b]", "^[\\d]", "^[a[b]]",
            "^(a)\\1",
        ] {
            assert!(differs(other).is_some(), "{other}");
        }
    }
}
