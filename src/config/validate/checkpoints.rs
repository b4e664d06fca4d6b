//! Checks the topic for checkpoints. A topic of items, dead letters or replies cannot be compacted,
//! and a checkpoint is not an item.

use super::Context;
use super::kafka::{reads, same_cluster, targets};
use crate::config::path::Path;
use crate::config::types::{Config, KafkaTarget, Pipeline};

impl Context<'_> {
    pub(super) fn checkpoints(
        &mut self,
        target: &KafkaTarget,
        pipeline: &Pipeline,
        config: &Config,
        path: &Path,
    ) {
        let Some(source) = &pipeline.source.kafka else {
            let help = "remove it; with RabbitMQ a checkpoint travels in a header of the item's copy";
            return self.report.mistake(path, "`checkpoints` needs a Kafka source", help);
        };
        self.kafka_place(target, pipeline, path);
        let help = "name a compacted topic of its own";
        for other in &config.pipelines {
            let read = other.source.kafka.as_ref().filter(|read| reads(read, target, Some(source)));
            if read.is_some() {
                let reason = format!(
                    "pipeline `{}` reads this topic, so each checkpoint would run as an item",
                    other.name
                );
                return self.report.mistake(&path.key("topic"), reason, help);
            }
            let own = target.servers(Some(source));
            let is_same = |(_, written): &(&str, &KafkaTarget)| {
                let servers = written.servers(other.source.kafka.as_ref());
                written.topic == target.topic && same_cluster(servers, own)
            };
            if let Some((key, _)) = targets(other).find(is_same) {
                let reason = format!(
                    "`{key}` of pipeline `{}` writes to this topic, and a compacted topic keeps only the newest record of a key",
                    other.name
                );
                return self.report.mistake(&path.key("topic"), reason, help);
            }
        }
    }
}
