//! The topic of dead letters or replies, which exists.

use rdkafka::admin::ResourceSpecifier;

use super::{admin, configs, number, replicas};
use crate::config::Pipeline;
use crate::tools::doctor::{Findings, Options, millis, shown};
use crate::tools::kafka::{client, metadata};
use crate::tools::place::{Kafka, Place};

pub(in super::super) async fn examine(
    pipeline: &Pipeline,
    key: &'static str,
    place: &Kafka,
    options: &Options,
    findings: &mut Findings<'_>,
) {
    let Some(topic) = place.topic.clone() else { return };
    let Ok(client) = client(place, "longhaul-check") else { return };
    let Ok(all) = metadata(&client, place) else { return };
    let what = format!("{key}: topic {topic}");
    replicas(&what, &topic, &all, findings);
    let Some(admin) = admin(place) else { return };
    let Some(own) = configs(&admin, ResourceSpecifier::Topic(&topic)).await else { return };
    if own.get("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        findings.error(
            "compaction",
            format!("{what} is compacted"),
            "records without a key are refused, and of several with the same key only the newest is kept",
            format!("kafka-configs.sh --alter --topic {topic} --add-config cleanup.policy=delete"),
        );
    }
    if let Some(retention) =
        number(&own, "retention.ms").filter(|it| *it >= 0 && millis(*it) < options.outage)
    {
        findings.warn(
            "retention",
            format!("{what} keeps records for {}", shown(millis(retention))),
            "they are gone before a person has looked at them",
            format!("kafka-configs.sh --alter --topic {topic} --add-config retention.ms=604800000"),
        );
    }
    let smallest = all
        .topics()
        .iter()
        .find(|it| it.name() == topic)
        .map(|it| it.partitions().iter().map(|partition| partition.isr().len()).min().unwrap_or(0));
    if let (Some(wanted), Some(in_sync)) = (number(&own, "min.insync.replicas"), smallest)
        && i64::try_from(in_sync).is_ok_and(|in_sync| in_sync < wanted)
    {
        findings.unavailable(
            "in-sync",
            format!("{what} needs {wanted} replicas in sync, and has {in_sync}"),
            "every write is refused",
            format!("start the missing brokers, add replicas, or lower min.insync.replicas of {topic}"),
        );
    }
    if key == "dead_letter"
        && let Some(item) = largest_item(pipeline).await
        && let Some(largest) = number(&own, "max.message.bytes").filter(|largest| *largest < item)
    {
        findings.warn(
            "item-bytes",
            format!("{what} accepts records of {largest} bytes, and an item may have {item}"),
            "the letter of a larger item is written without a part of it, or the item is held",
            format!(
                "kafka-configs.sh --alter --topic {topic} --add-config max.message.bytes={}",
                item.saturating_add(65_536)
            ),
        );
    }
}

/// The bytes of the largest item that the source takes, if its topics tell it.
async fn largest_item(pipeline: &Pipeline) -> Option<i64> {
    let limit = i64::try_from(pipeline.limits.item_bytes.get()).unwrap_or(i64::MAX);
    let Some(source) = &pipeline.source.kafka else { return Some(limit) };
    let Ok(Place::Kafka(place)) = Place::source(pipeline) else { return None };
    let admin = admin(&place)?;
    let mut largest = None;
    for topic in source.topics.iter().filter(|topic| !topic.starts_with('^')) {
        let own = configs(&admin, ResourceSpecifier::Topic(topic)).await?;
        largest = largest.max(number(&own, "max.message.bytes"));
    }
    largest.map(|largest| largest.min(limit))
}
