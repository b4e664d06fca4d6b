//! Describes the queues and topics of a pipeline for the debug bundle.

use serde_json::{Value as Json, json};

use super::{Options, rabbitmq};
use crate::config::Pipeline;
use crate::tools::Place;

/// Describes the places of the source, of the dead letters and of the replies. A place that is not
/// configured is `null`.
pub(super) async fn of(pipeline: &Pipeline, options: &Options) -> Json {
    let target = |rabbitmq, kafka| Place::target(pipeline, rabbitmq, kafka).ok();
    let dead_letter = pipeline.dead_letter.as_ref();
    let reply = pipeline.reply.as_ref();
    let places = [
        ("source", Place::source(pipeline).ok()),
        ("dead_letter", dead_letter.and_then(|it| target(it.rabbitmq.as_ref(), it.kafka.as_ref()))),
        ("reply", reply.and_then(|it| target(it.rabbitmq.as_ref(), it.kafka.as_ref()))),
    ];
    let mut all = json!({ "pipeline": pipeline.name });
    for (key, place) in places {
        all[key] = match place {
            Some(Place::Rabbitmq(place)) => rabbitmq::described(&place, options.management.as_deref()).await,
            #[cfg(feature = "kafka")]
            Some(Place::Kafka(place)) => {
                let group = pipeline.source.kafka.as_ref().map(|source| source.group.as_str());
                super::kafka::described(&place, group.filter(|_| key == "source"))
            }
            #[cfg(not(feature = "kafka"))]
            Some(Place::Kafka(_)) => Json::Null,
            None => Json::Null,
        };
    }
    all
}
