//! The topic of the workers' checkpoints.

use rdkafka::admin::ResourceSpecifier;

use super::{admin, configs, is_readable, number, replicas};
use crate::config::{KafkaTarget, Pipeline};
use crate::tools::doctor::{Findings, millis, shown};
use crate::tools::kafka::{client, metadata};
use crate::tools::place::{Kafka, Place};

/// A segment that is being written is not compacted, and each replica reads it at its start.
const SEGMENT_BYTES: i64 = 256 << 20;

const WITHOUT: &str = "after a restart of the bridge its items begin without their checkpoints";

pub(in super::super) async fn examine(
    pipeline: &Pipeline,
    target: &KafkaTarget,
    findings: &mut Findings<'_>,
) {
    let Ok(place) = Place::target(pipeline, None, Some(target)) else { return };
    let Place::Kafka(kafka) = &place else { return };
    let topic = &target.topic;
    let what = format!("checkpoints: topic {topic}");
    let create = format!(
        "create it: kafka-topics.sh --create --topic {topic} --partitions 1 --config cleanup.policy=compact --config segment.bytes=67108864"
    );
    match tokio::task::block_in_place(|| look(pipeline, kafka, topic, &what, findings)) {
        Ok(Seen { exists: false, .. }) => {
            return findings.unavailable(
                "checkpoints-missing",
                format!("{what} does not exist"),
                WITHOUT,
                create,
            );
        }
        Ok(Seen { is_readable: false, .. }) => findings.unavailable(
            "checkpoints-refused",
            format!("{what} may not be read by this user"),
            WITHOUT,
            "give the user the right Read on the topic",
        ),
        Ok(_) => {}
        Err(failure) => {
            let fact = format!("checkpoints: {}", failure.what);
            return findings.unavailable("checkpoints-refused", fact, WITHOUT, failure.help);
        }
    }
    let probed = match place.publisher() {
        Ok(publisher) => publisher.probe().await.map_err(|error| error.what),
        Err(failure) => Err(failure.what),
    };
    if let Err(error) = probed {
        let fix = "give the user the right Write on the topic";
        findings.unavailable("checkpoints-refused", format!("checkpoints: {error}"), WITHOUT, fix);
    }
    let Some(admin) = admin(kafka) else { return };
    let Some(own) = configs(&admin, ResourceSpecifier::Topic(topic)).await else {
        return findings.note(
            "topic-configuration",
            format!("the configuration of topic {topic} is not visible to this user"),
            "give it the right DescribeConfigs on the topic",
        );
    };
    let policy = own.get("cleanup.policy").map_or("delete", String::as_str);
    if !policy.contains("compact") {
        findings.error(
            "checkpoints-policy",
            format!("{what} is not compacted (cleanup.policy is {policy})"),
            "it grows without end, and the checkpoints of items that run longer than its retention are deleted",
            format!("kafka-configs.sh --alter --topic {topic} --add-config cleanup.policy=compact"),
        );
    } else if policy.contains("delete")
        && let Some(retention) = number(&own, "retention.ms").filter(|it| *it >= 0)
        && millis(retention) < super::super::longest(pipeline)
    {
        findings.warn(
            "checkpoints-retention",
            format!("{what} keeps records for {}", shown(millis(retention))),
            "the checkpoint of a longer item is deleted",
            format!("kafka-configs.sh --alter --topic {topic} --add-config cleanup.policy=compact"),
        );
    }
    if let Some(bytes) = number(&own, "segment.bytes").filter(|bytes| *bytes > SEGMENT_BYTES) {
        findings.warn(
            "checkpoints-segment",
            format!("{what} has segments of {bytes} bytes"),
            "a segment is compacted only after it is full, and each replica reads it at its start",
            format!("kafka-configs.sh --alter --topic {topic} --add-config segment.bytes=67108864"),
        );
    }
}

struct Seen {
    exists: bool,
    is_readable: bool,
}

fn look(
    pipeline: &Pipeline,
    place: &Kafka,
    topic: &str,
    what: &str,
    findings: &mut Findings<'_>,
) -> Result<Seen, crate::tools::Failure> {
    let group = pipeline.source.kafka.as_ref().map_or("longhaul-check", |source| source.group.as_str());
    let client = client(place, group)?;
    let all = metadata(&client, place)?;
    let found = all.topics().iter().find(|found| found.name() == topic);
    let exists = found.is_some_and(|found| !found.partitions().is_empty());
    if exists {
        replicas(what, topic, &all, findings);
    }
    Ok(Seen { exists, is_readable: is_readable(&client, &all, topic) })
}
