//! Makes sources and publishers from the configuration.

#[cfg(feature = "kafka")]
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::AnySource;
use super::error::BuildError;
#[cfg(feature = "kafka")]
use crate::checkpoints;
use crate::checkpoints::Store;
use crate::config;
#[cfg(feature = "kafka")]
use crate::config::Secret;
use crate::connect;
#[cfg(feature = "kafka")]
use crate::connect::kafka::Cluster;
use crate::publish::copy::{self, Copies};
use crate::publish::{self, Publisher};
use crate::source;
use crate::telemetry::Status;

#[cfg(not(feature = "kafka"))]
const NO_KAFKA: &str = "build longhaul with the feature `kafka`";

pub(super) fn source(pipeline: &config::Pipeline, peers: bool) -> Result<AnySource, BuildError> {
    let name = &pipeline.name;
    if let Some(rabbitmq) = &pipeline.source.rabbitmq {
        let shown = format!("longhaul {name} (consume)");
        let url = connect::rabbitmq::address(&rabbitmq.url);
        let mut settings = source::rabbitmq::Settings::new(rabbitmq, url, pipeline.max_in_flight, &shown);
        // An item may wait this long before it starts, and may then run this long.
        settings.ack_timeout = pipeline.sink.timeout.get() + pipeline.retry.not_started_for.get();
        settings.peers = peers;
        settings.held_bytes = Some(pipeline.limits.held_bytes.get());
        return Ok(AnySource::Rabbitmq(source::rabbitmq::Source::new(settings)));
    }
    let Some(kafka) = &pipeline.source.kafka else {
        return Err(BuildError::config(
            name,
            "the pipeline has no source",
            "write `rabbitmq` or `kafka` under `source`",
        ));
    };
    #[cfg(feature = "kafka")]
    {
        use source::kafka::{Settings, Source};
        let cluster = cluster(name, &kafka.bootstrap_servers, &kafka.options)?;
        let held_bytes = pipeline.limits.held_bytes.get();
        Ok(AnySource::Kafka(Source::new(Settings::new(name, kafka, cluster, held_bytes))))
    }
    #[cfg(not(feature = "kafka"))]
    {
        let _ = kafka;
        Err(BuildError::config(name, "this build has no Kafka", NO_KAFKA))
    }
}

/// Makes the targets of copies and parked items of a RabbitMQ queue. Kafka needs no copies, because
/// it counts no returns and a waiting record holds no slot.
pub(super) fn copies(pipeline: &config::Pipeline) -> Result<Option<Copies>, BuildError> {
    let Some(source) = &pipeline.source.rabbitmq else { return Ok(None) };
    let name = format!("longhaul {} (copies)", pipeline.name);
    let connection = connect::rabbitmq::Settings {
        url: connect::rabbitmq::address(&source.url),
        tls: source.tls.clone(),
        name,
    };
    let queue =
        config::RabbitmqTarget { queue: Some(source.queue.clone()), ..config::RabbitmqTarget::default() };
    let publisher = publish::rabbitmq::Publisher::new(connection, &queue);
    let mut parked: Vec<(Duration, Arc<dyn Publisher>)> = Vec::new();
    if let Some(prefix) = &pipeline.retry.queue {
        for delay in copy::steps(pipeline.retry.backoff.get(), pipeline.retry.backoff_max.get()) {
            let place =
                // The name contains the source queue, so that pipelines with the same prefix have
                // different queues.
                publisher.parking(&format!("{prefix}.{}.{delay:?}", source.queue), delay, &source.queue).map_err(|error| {
                    BuildError::config(&pipeline.name, error, "choose a shorter name for retry.queue")
                })?;
            parked.push((delay, Arc::new(place)));
        }
    }
    Ok(Some(Copies { queue: Arc::new(publisher), parked }))
}

/// Removes the addresses of Kafka's brokers, because librdkafka connects as soon as a producer is
/// made.
pub(super) fn without_servers(config: &mut config::Config) {
    for pipeline in &mut config.pipelines {
        let targets = [
            pipeline.source.kafka.as_mut().map(|kafka| &mut kafka.bootstrap_servers),
            pipeline
                .dead_letter
                .as_mut()
                .and_then(|target| Some(&mut target.kafka.as_mut()?.bootstrap_servers)),
            pipeline.reply.as_mut().and_then(|reply| Some(&mut reply.kafka.as_mut()?.bootstrap_servers)),
            pipeline.checkpoints.as_mut().map(|target| &mut target.bootstrap_servers),
        ];
        targets.into_iter().flatten().for_each(Vec::clear);
    }
}

/// Makes a publisher to either broker. Keys that the target omits are taken from the source.
pub(super) fn publisher(
    pipeline: &config::Pipeline,
    rabbitmq: Option<&config::RabbitmqTarget>,
    kafka: Option<&config::KafkaTarget>,
) -> Result<Arc<dyn Publisher>, BuildError> {
    let name = &pipeline.name;
    if let Some(target) = rabbitmq {
        let Some((url, tls)) = target.broker(pipeline.source.rabbitmq.as_ref()) else {
            return Err(BuildError::config(
                name,
                "the RabbitMQ target has no url",
                "write `url` there: the source is not RabbitMQ",
            ));
        };
        let connection = connect::rabbitmq::Settings {
            url: connect::rabbitmq::address(url),
            tls: tls.clone(),
            name: format!("longhaul {name} (publish)"),
        };
        return Ok(Arc::new(publish::rabbitmq::Publisher::new(connection, target)));
    }
    let Some(target) = kafka else {
        return Err(BuildError::config(
            name,
            "the target names no broker",
            "write `rabbitmq` or `kafka` there",
        ));
    };
    #[cfg(feature = "kafka")]
    {
        kafka_publisher(pipeline, target)
    }
    #[cfg(not(feature = "kafka"))]
    {
        let _ = target;
        Err(BuildError::config(name, "this build has no Kafka", NO_KAFKA))
    }
}

#[cfg(feature = "kafka")]
fn kafka_publisher(
    pipeline: &config::Pipeline,
    target: &config::KafkaTarget,
) -> Result<Arc<dyn Publisher>, BuildError> {
    let name = &pipeline.name;
    let source = pipeline.source.kafka.as_ref();
    let cluster = cluster(name, target.servers(source), &target.all_options(source))?;
    let publisher = publish::kafka::Publisher::new(&cluster, &target.topic)
        .map_err(|error| BuildError::config(name, error, "correct the target's `options`"))?;
    Ok(Arc::new(publisher))
}

/// Makes the store of the workers' checkpoints, if the pipeline has one.
pub(super) fn checkpoints(
    pipeline: &config::Pipeline,
    status: &Arc<Status>,
) -> Result<Option<Arc<Store>>, BuildError> {
    let (Some(target), Some(source)) = (&pipeline.checkpoints, &pipeline.source.kafka) else {
        return Ok(None);
    };
    #[cfg(feature = "kafka")]
    {
        let publisher = kafka_publisher(pipeline, target)?;
        let options = target.all_options(Some(source));
        let cluster = cluster(&pipeline.name, target.servers(Some(source)), &options)?;
        let reader = Arc::new(checkpoints::kafka::Reader::new(cluster, &target.topic, &source.group));
        Ok(Some(Arc::new(Store::new(&source.group, publisher, reader, status.clone()))))
    }
    #[cfg(not(feature = "kafka"))]
    {
        let _ = (target, source, status);
        Err(BuildError::config(&pipeline.name, "this build has no Kafka", NO_KAFKA))
    }
}

/// Makes a cluster whose options can be read again, so that a rotated password is used.
#[cfg(feature = "kafka")]
fn cluster(
    pipeline: &str,
    servers: &[String],
    options: &BTreeMap<String, Secret>,
) -> Result<Cluster, BuildError> {
    Cluster::of(servers, options)
        .map_err(|error| BuildError::config(pipeline, error, "set the variable, or make the file readable"))
}
