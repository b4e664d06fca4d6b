//! Writes letters that a real broker can never accept whole: the body, the id and the reason still
//! arrive.

use std::sync::Arc;

use bytes::Bytes;
use longhaul::config::RabbitmqTarget;
use longhaul::connect::kafka::Cluster;
use longhaul::event::{KafkaOrigin, Message, Origin, Properties, RabbitmqOrigin, Value};
use longhaul::publish::dead_letter::{Target, restore};
use longhaul::publish::{self, Broker, PublishErrorKind};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};

use super::restore::letter;
use crate::kafka::support::Broker as KafkaBroker;
use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::support::rabbitmq::connection;
use crate::support::within;

const BODY: &[u8] = &[0xff, 0x00, b'\n'];

fn with_large_headers(body: Bytes) -> Message {
    let large = |length| Value::Text("v".repeat(length));
    let headers = vec![("large".to_owned(), large(130 << 10)), ("small".to_owned(), large(9))];
    let properties = Properties { message_id: Some("m".to_owned()), ..Properties::default() };
    let origin = RabbitmqOrigin { queue: "jobs".to_owned(), properties, ..Default::default() };
    Message { body, headers, origin: Origin::Rabbitmq(origin) }
}

/// Returns a message with a key that is too large for RabbitMQ's headers, and a type that is too
/// long for a property.
fn with_a_large_key() -> Message {
    let origin =
        KafkaOrigin { topic: "jobs".to_owned(), key: Some(vec![7; 900_000].into()), ..Default::default() };
    let headers = vec![("content-type".to_owned(), Value::Text("x".repeat(300)))];
    Message { body: Bytes::from_static(BODY), headers, origin: Origin::Kafka(origin) }
}

async fn write(target: &Target, message: Message) -> Result<(), publish::PublishError> {
    let letter = letter(message);
    within("the last letter", target.write(&letter, || Err("not needed".to_owned()))).await
}

async fn arrives(target: &Target, message: Message, graveyard: &impl Backlog, missing: &str) {
    write(target, message).await.expect("confirmed");
    let letters = graveyard.messages(1).await;
    let restored = restore(&letters[0]).expect("a dead letter");
    assert_eq!(restored.outgoing.body, BODY);
    let left_out = restored.left_out.unwrap_or_default();
    assert!(left_out.contains(missing), "{left_out}");
    let text = |name| letters[0].header(name).and_then(Value::as_text).unwrap_or_default();
    assert_eq!((text("longhaul-id"), text("longhaul-reason")), ("event", "attempts"));
}

#[tokio::test]
async fn to_rabbitmq_with_any_frame() {
    // RabbitMQ 4.3 refuses connections with smaller frames.
    for query in ["", "?frame_max=8192"] {
        for (message, missing) in [
            (with_large_headers(Bytes::from_static(BODY)), "header large"),
            (with_a_large_key(), "key (900000 bytes)"),
        ] {
            let graveyard = Rabbitmq::create().await;
            let place = RabbitmqTarget { queue: Some(graveyard.0.name.clone()), ..Default::default() };
            let url = format!("{}{query}", graveyard.0.url);
            let publisher = publish::rabbitmq::Publisher::new(connection(&url), &place);
            let target = Target::Broker(Broker::Rabbitmq, Arc::new(publisher));
            arrives(&target, message, &graveyard, missing).await;
            graveyard.remove().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn to_a_kafka_topic_with_a_small_limit() {
    let broker = KafkaBroker::real("last-resort");
    let topic = NewTopic::new(&broker.name, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "20000");
    broker.admin().create_topics(&[topic], &AdminOptions::new()).await.expect("a topic");
    let cluster =
        Cluster { bootstrap_servers: vec![broker.bootstrap.clone()], options: Vec::new(), reread: None };
    let publisher = publish::kafka::Publisher::new(&cluster, &broker.name).expect("options are right");
    let target = Target::Broker(Broker::Kafka, Arc::new(publisher));
    let graveyard = Kafka(broker);

    let error = write(&target, with_large_headers(vec![1; 30_000].into())).await.expect_err("it cannot fit");
    assert_eq!(error.kind, PublishErrorKind::TooLarge, "{error}");
    assert!(
        error.what.contains("the item's body alone") && error.what.contains("max.message.bytes"),
        "{error}"
    );

    arrives(&target, with_large_headers(Bytes::from_static(BODY)), &graveyard, "header large").await;
    graveyard.remove().await;
}
