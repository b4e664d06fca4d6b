//! The topics and the group of a pipeline, and the topics that it writes to.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::consumer::Consumer;
use rdkafka::metadata::Metadata;

use super::{Findings, Options, millis, shown};
use crate::config::{KafkaSource, Order, Pipeline};
use crate::connect;
use crate::connect::kafka::Logging;
use crate::connect::kafka::raw::Question;
use crate::tools::kafka::{
    ANSWER_TIMEOUT, Client, Position, client, failure, metadata, partitions_of, positions,
};
use crate::tools::place::{Kafka, Place};

/// The metadata that the bridge commits beside an offset, in bytes.
const METADATA: i64 = 4096;

pub(super) mod checkpoints;
pub(super) mod target;

/// The longest wait for the rights of this user.
const ANSWER: Duration = Duration::from_secs(5);

type Configs = BTreeMap<String, String>;

pub(super) async fn source(
    pipeline: &Pipeline,
    source: &KafkaSource,
    options: &Options,
    findings: &mut Findings<'_>,
) {
    let Ok(Place::Kafka(place)) = Place::source(pipeline) else { return };
    let place = Kafka { topic: None, ..place };
    let opened = client(&place, &source.group).and_then(|client| Ok((metadata(&client, &place)?, client)));
    let (all, client) = match opened {
        Ok(opened) => opened,
        Err(failure) => {
            return findings.unavailable("broker", failure.what, "no item is taken", failure.help);
        }
    };
    let topics = subscribed(source, &all, findings);
    let admin = admin(&place);
    let brokers = match (&admin, all.brokers().first()) {
        (Some(admin), Some(broker)) => configs(admin, ResourceSpecifier::Broker(broker.id())).await,
        _ => None,
    };
    for topic in &topics {
        partitions(pipeline, source, topic, &all, findings);
        if !tokio::task::block_in_place(|| is_readable(&client, &all, topic)) {
            findings.unavailable(
                "topic-refused",
                format!("this user may describe topic {topic}, and may not read it"),
                "no item of it is taken",
                format!("kafka-acls.sh --add --allow-principal User:NAME --operation Read --topic {topic}"),
            );
        }
        let own = match &admin {
            Some(admin) => configs(admin, ResourceSpecifier::Topic(topic)).await,
            None => None,
        };
        match own {
            Some(own) => topic_configs(pipeline, topic, &own, options, findings),
            None => findings.note(
                "topic-configuration",
                format!("the configuration of topic {topic} is not visible to this user"),
                "give it the right DescribeConfigs on the topic",
            ),
        }
    }
    match &brokers {
        Some(brokers) => broker_configs(source, brokers, options, findings),
        None => findings.note(
            "broker-configuration",
            "the configuration of the brokers is not visible to this user",
            "give it the right DescribeConfigs on the cluster",
        ),
    }
    tokio::task::block_in_place(|| group(source, &place, &client, &all, &topics, findings));
}

/// The topics that the pipeline reads, of those that exist.
fn subscribed(source: &KafkaSource, all: &Metadata, findings: &mut Findings<'_>) -> Vec<String> {
    let names: Vec<&str> = all.topics().iter().map(|topic| topic.name()).collect();
    let mut found = Vec::new();
    for wanted in &source.topics {
        let matching: Vec<String> = match wanted.starts_with('^') {
            true => match regex::Regex::new(wanted) {
                Ok(regex) => {
                    names.iter().filter(|name| regex.is_match(name)).map(|name| (*name).to_owned()).collect()
                }
                Err(_) => continue,
            },
            false => names.iter().filter(|name| *name == wanted).map(|name| (*name).to_owned()).collect(),
        };
        if matching.is_empty() {
            let (fact, fix) = if wanted.starts_with('^') {
                (
                    format!("no topic matches {wanted}"),
                    "correct the expression in source.kafka.topics".to_owned(),
                )
            } else {
                (
                    format!("topic {wanted} does not exist, or this user may not describe it"),
                    format!(
                        "create it: kafka-topics.sh --create --topic {wanted} --partitions 12; or give the user the right Describe"
                    ),
                )
            };
            findings.unavailable("topic-missing", fact, "no item of it is taken", fix);
        }
        found.extend(matching);
    }
    found
}

fn partitions(
    pipeline: &Pipeline,
    source: &KafkaSource,
    topic: &str,
    all: &Metadata,
    findings: &mut Findings<'_>,
) {
    let Some(found) = all.topics().iter().find(|found| found.name() == topic) else { return };
    let leaderless: Vec<String> =
        found.partitions().iter().filter(|it| it.leader() < 0).map(|it| it.id().to_string()).collect();
    if !leaderless.is_empty() {
        findings.unavailable(
            "no-leader",
            format!("partitions {} of topic {topic} have no leader", leaderless.join(", ")),
            "their items are not taken",
            "start the missing brokers",
        );
    }
    replicas(&format!("topic {topic}"), topic, all, findings);
    let count = found.partitions().len();
    if source.order == Order::Partition && count < pipeline.max_in_flight as usize {
        findings.warn(
            "partitions",
            format!(
                "topic {topic} has {count} partitions, order is partition, and max_in_flight is {}",
                pipeline.max_in_flight
            ),
            format!("at most {count} items run at once"),
            format!("set `order: key` or `order: none`, or max_in_flight to {count}, or add partitions"),
        );
    }
}

fn replicas(what: &str, topic: &str, all: &Metadata, findings: &mut Findings<'_>) {
    let Some(found) = all.topics().iter().find(|found| found.name() == topic) else { return };
    let fewest = found.partitions().iter().map(|it| it.replicas().len()).min().unwrap_or(0);
    if fewest == 1 && all.brokers().len() > 1 {
        findings.warn(
            "replicas",
            format!("{what} has one replica in a cluster of {} brokers", all.brokers().len()),
            "the loss of one disk loses its items",
            format!("raise the replicas of {topic} to 3 (kafka-reassign-partitions.sh)"),
        );
    }
}

fn number(configs: &Configs, name: &str) -> Option<i64> {
    configs.get(name)?.parse().ok()
}

fn topic_configs(
    pipeline: &Pipeline,
    topic: &str,
    own: &Configs,
    options: &Options,
    findings: &mut Findings<'_>,
) {
    // An item may wait for the service, run, and find the bridge away meanwhile.
    let needed = options.outage + super::longest(pipeline);
    let deletes = own.get("cleanup.policy").is_none_or(|policy| policy.contains("delete"));
    if let Some(retention) =
        number(own, "retention.ms").filter(|it| deletes && *it >= 0 && millis(*it) < needed)
    {
        findings.error(
            "retention",
            format!("topic {topic} keeps records for {}", shown(millis(retention))),
            format!(
                "an outage of {} and an attempt of {} outlast it, and items are deleted before they have run",
                shown(options.outage),
                shown(super::longest(pipeline))
            ),
            format!(
                "kafka-configs.sh --alter --topic {topic} --add-config retention.ms={}",
                needed.as_millis() * 2
            ),
        );
    }
    if let Some(bytes) = number(own, "retention.bytes").filter(|bytes| deletes && *bytes >= 0) {
        findings.warn(
            "retention-bytes",
            format!("topic {topic} keeps at most {bytes} bytes in each partition"),
            "a backlog above it is deleted before it has run",
            format!("kafka-configs.sh --alter --topic {topic} --add-config retention.bytes=-1"),
        );
    }
    if own.get("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        findings.error(
            "compaction",
            format!("topic {topic} is compacted"),
            "of items with the same key only the newest is kept, so that others are lost without a run",
            format!("kafka-configs.sh --alter --topic {topic} --add-config cleanup.policy=delete"),
        );
    }
    let item = i64::try_from(pipeline.limits.item_bytes.get()).unwrap_or(i64::MAX);
    if let Some(largest) = number(own, "max.message.bytes").filter(|largest| *largest > item) {
        findings.warn(
            "item-bytes",
            format!("topic {topic} accepts records of {largest} bytes, and limits.item_bytes is {item}"),
            "larger items are dead-lettered with the reason too-large",
            format!("set limits.item_bytes to {largest}"),
        );
    }
}

fn broker_configs(source: &KafkaSource, brokers: &Configs, options: &Options, findings: &mut Findings<'_>) {
    let minutes =
        number(brokers, "offsets.retention.minutes").and_then(|minutes| u64::try_from(minutes).ok());
    if let Some(minutes) = minutes.filter(|minutes| Duration::from_secs(minutes * 60) < options.outage) {
        let kept = shown(Duration::from_secs(minutes * 60));
        findings.error(
            "offset-retention",
            format!("the brokers keep the offsets of an empty group for {kept}"),
            format!(
                "after an outage of {} the group {} has lost its progress, and finished items run again",
                shown(options.outage),
                source.group
            ),
            format!("set offsets.retention.minutes={} on the brokers", options.outage.as_secs() / 60 * 2),
        );
    }
    if let Some(bytes) = number(brokers, "offset.metadata.max.bytes").filter(|bytes| *bytes < METADATA) {
        findings.warn(
            "offset-metadata",
            format!("the brokers accept {bytes} bytes of metadata beside an offset"),
            "fewer items that finished behind an unfinished one are remembered; the others run again after a restart",
            format!("set offset.metadata.max.bytes={METADATA} on the brokers"),
        );
    }
    let session = i64::try_from(source.session_timeout.get().as_millis()).unwrap_or(i64::MAX);
    for (name, is_wrong) in [
        ("group.min.session.timeout.ms", (|limit, session| session < limit) as fn(i64, i64) -> bool),
        ("group.max.session.timeout.ms", |limit, session| session > limit),
    ] {
        if let Some(limit) = number(brokers, name).filter(|limit| is_wrong(*limit, session)) {
            findings.error(
                "session-timeout",
                format!("session_timeout is {session} ms, and the brokers' {name} is {limit}"),
                "the brokers refuse the member, and no item is taken",
                format!("set source.kafka.session_timeout to {limit}ms, or change {name}"),
            );
        }
    }
}

fn group(
    source: &KafkaSource,
    place: &Kafka,
    client: &Client,
    all: &Metadata,
    topics: &[String],
    findings: &mut Findings<'_>,
) {
    let name = &source.group;
    if let Ok(list) = client.fetch_group_list(Some(name), ANSWER_TIMEOUT)
        && let Some(found) = list.groups().iter().find(|found| found.name() == name)
    {
        if !matches!(found.protocol_type(), "" | "consumer") {
            findings.error(
                "group-kind",
                format!("the group {name} is a group of kind {}", found.protocol_type()),
                "the brokers refuse the member, and no item is taken",
                "choose another source.kafka.group",
            );
        }
        let foreign: Vec<&str> = found
            .members()
            .iter()
            .map(|member| member.client_id())
            .filter(|id| {
                !id.contains("longhaul") && !source.options.contains_key("client.id") && !id.is_empty()
            })
            .collect();
        if !foreign.is_empty() {
            findings.error(
                "group-members",
                format!("the group {name} has members of other programs: {}", foreign.join(", ")),
                "they take partitions whose items the pipeline then never sees, and may refuse its assignment",
                "choose another source.kafka.group, or stop them",
            );
        }
    }
    let partitions = partitions_of(all, |name| topics.iter().any(|topic| topic == name));
    let positions = match positions(client, partitions) {
        Ok(positions) => positions,
        Err(error) => {
            let failure = failure(place, &error);
            let fact = format!("group {name}: {}", failure.what);
            return findings.unavailable("group-refused", fact, "no item is taken", failure.help);
        }
    };
    for Position { topic, partition, committed, bounds, .. } in positions {
        let (Some(offset), Ok((low, _))) = (committed, bounds) else { continue };
        if offset < low {
            findings.error(
                "lost-records",
                format!("the group {name} is at offset {offset} of {topic}/{partition}, and the log begins at {low}"),
                format!("{} records were deleted before they have run", low - offset),
                format!("produce them again; raise the retention of topic {topic}"),
            );
        }
    }
}

/// Whether this user may read the topic, as far as the cluster tells. It blocks the thread.
fn is_readable(client: &Client, all: &Metadata, topic: &str) -> bool {
    let broker = all.brokers().first().map(|broker| broker.id());
    let told = Question::new(client.client()).and_then(|mut question| {
        question.ask_topics(client.client(), broker, std::iter::once(topic), ANSWER);
        question.topics(ANSWER)
    });
    let told = told.and_then(|topics| topics.into_iter().find(|told| told.name == topic));
    told.and_then(|told| told.readable) != Some(false)
}

fn admin(place: &Kafka) -> Option<AdminClient<Logging>> {
    let cluster: connect::kafka::Cluster = place.cluster().ok()?;
    cluster.client(&[], &[]).create_with_context(Logging).ok()
}

async fn configs(admin: &AdminClient<Logging>, resource: ResourceSpecifier<'_>) -> Option<Configs> {
    let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT));
    let found = admin.describe_configs([&resource], &options).await.ok()?.into_iter().next()?.ok()?;
    Some(found.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect())
}

/// The topic and the group for a bundle.
pub(super) fn described(place: &Kafka, group: Option<&str>) -> serde_json::Value {
    let opened = client(place, group.unwrap_or("longhaul-check"))
        .and_then(|client| Ok((metadata(&client, place)?, client)));
    let (all, client) = match opened {
        Ok(opened) => opened,
        Err(failure) => return serde_json::json!({ "servers": place.servers, "error": failure.what }),
    };
    let topics: Vec<serde_json::Value> = all
        .topics()
        .iter()
        .filter(|topic| place.topic.as_deref().is_none_or(|name| name == topic.name()))
        .map(|topic| {
            let partitions: Vec<serde_json::Value> = topic
                .partitions()
                .iter()
                .map(|it| {
                    let ends = tokio::task::block_in_place(|| client.fetch_watermarks(topic.name(), it.id(), ANSWER_TIMEOUT));
                    serde_json::json!({
                        "partition": it.id(), "leader": it.leader(), "replicas": it.replicas(), "in_sync": it.isr(),
                        "first": ends.as_ref().ok().map(|ends| ends.0), "end": ends.ok().map(|ends| ends.1),
                    })
                })
                .collect();
            serde_json::json!({ "topic": topic.name(), "partitions": partitions })
        })
        .collect();
    let brokers: Vec<String> = all
        .brokers()
        .iter()
        .map(|broker| format!("{} {}:{}", broker.id(), broker.host(), broker.port()))
        .collect();
    serde_json::json!({ "brokers": brokers, "topics": topics, "group": group })
}

#[cfg(test)]
mod tests {
    use super::super::{Finding, Severity};
    use super::*;
    use crate::config::{Features, load};

    /// Returns the findings for a source with a session timeout of 6 s.
    fn of_brokers(set: &[(&str, &str)]) -> Vec<Finding> {
        let text = "pipelines: [{ name: a, source: { kafka: { bootstrap_servers: [k:9092], topics: [t], group: g } }, \
                    sink: { url: http://s }, max_in_flight: 1, on_failed: hold }]";
        let config = load("f", text, Features::BUILD, &|_| None).unwrap().config;
        let source = config.pipelines[0].source.kafka.as_ref().unwrap();
        let brokers: Configs =
            set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut findings = Findings::of("a");
        let options = Options { outage: super::super::OUTAGE, ..Options::default() };
        broker_configs(source, &brokers, &options, &mut findings);
        findings.list
    }

    /// A broker reads these settings only at its start.
    #[test]
    fn settings_of_the_brokers_are_judged() {
        let right = [
            ("group.min.session.timeout.ms", "6000"),
            ("group.max.session.timeout.ms", "6000"),
            ("offset.metadata.max.bytes", "4096"),
            ("offsets.retention.minutes", "1440"),
        ];
        assert_eq!(of_brokers(&right), []);
        for (setting, kind, severity) in [
            (("group.min.session.timeout.ms", "6001"), "session-timeout", Severity::Error),
            (("group.max.session.timeout.ms", "5999"), "session-timeout", Severity::Error),
            (("offset.metadata.max.bytes", "4095"), "offset-metadata", Severity::Warning),
            (("offsets.retention.minutes", "1439"), "offset-retention", Severity::Error),
        ] {
            let found = of_brokers(&[setting]);
            assert_eq!((found[0].kind, found[0].severity, found.len()), (kind, severity, 1), "{found:?}");
            assert!(!found[0].fix.is_empty());
        }
    }
}
