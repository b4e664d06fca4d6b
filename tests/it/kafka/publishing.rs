//! Tests confirmed writes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use longhaul::connect::kafka::Cluster;
use longhaul::event::{Origin, Value};
use longhaul::publish::kafka::Publisher;
use longhaul::publish::{Outgoing, PublishErrorKind, Publisher as _};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};

use super::support::{Broker, PATIENCE};

fn publisher(broker: &Broker) -> Publisher {
    let cluster = Cluster { bootstrap_servers: vec![broker.bootstrap.clone()], ..Cluster::default() };
    Publisher::new(&cluster, &broker.name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_comes_back_whole() {
    let broker = Broker::real("publish");
    broker.create_topic(&broker.name, 1).await;
    let headers = [
        ("longhaul-reason", Value::Text("attempts".into())),
        ("longhaul-attempts", Value::Int(5)),
        ("raw", Value::Bytes(Bytes::from_static(&[0xff]))),
        ("nothing", Value::Null),
    ];
    let outgoing = Outgoing {
        body: Bytes::from_static(b"body"),
        headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
        key: Some(Bytes::from_static(b"key")),
        ..Outgoing::default()
    };
    publisher(&broker).publish(outgoing).await.unwrap();

    let mut source = broker.start(&[&broker.name]);
    let message = source.take(1).await.remove(0).message;
    assert_eq!(message.body, "body");
    assert_eq!(message.header("longhaul-reason").unwrap().as_text(), Some("attempts"));
    assert_eq!(message.header("longhaul-attempts").unwrap().as_text(), Some("5"));
    assert_eq!(message.header("raw"), Some(&Value::Bytes(Bytes::from_static(&[0xff]))));
    assert_eq!(message.header("nothing"), Some(&Value::Null));
    assert!(matches!(&message.origin, Origin::Kafka(origin) if origin.key.as_deref() == Some(b"key")));
    source.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_is_permanent_and_a_missing_topic_is_named() {
    let broker = Broker::real("refused");
    let publisher = publisher(&broker);
    let missing = publisher.publish(Outgoing::default()).await.unwrap_err();
    assert!(missing.is_transient() && missing.what.contains(&broker.name), "{missing:?}");
    assert!(missing.what.contains("does not exist"), "{missing:?}");

    broker.create_topic(&broker.name, 1).await;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = publisher.publish(Outgoing::default()).await {
        assert!(Instant::now() < deadline, "{error:?}, although it exists by now");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let body = Bytes::from(vec![b'x'; 2_000_000]);
    let large = Outgoing { body, ..Outgoing::default() };
    let error = publisher.publish(large).await.unwrap_err();
    assert!(!error.is_transient() && error.what.contains("2000000"), "{error:?}");
}

/// A topic's limit is for batches. Records that fit alone must not be refused because of their
/// neighbours.
#[tokio::test(flavor = "multi_thread")]
async fn many_writes_at_once_do_not_add_up_to_a_batch_that_is_too_large() {
    let broker = Broker::real("batches");
    let new = NewTopic::new(&broker.name, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "20000");
    broker.admin().create_topics([&new], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    let publisher = publisher(&broker);
    let body = Bytes::from(vec![b'x'; 15_000]);
    let write = || publisher.publish(Outgoing { body: body.clone(), ..Outgoing::default() });
    for result in futures_util::future::join_all((0..20).map(|_| write())).await {
        result.unwrap();
    }
    let large = Outgoing { body: Bytes::from(vec![b'x'; 25_000]), ..Outgoing::default() };
    let error = publisher.publish(large).await.unwrap_err();
    assert_eq!(error.kind, PublishErrorKind::TooLarge, "{error:?}");
}

/// An empty value differs from a missing one.
#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_stays_one() {
    let broker = Broker::real("tombstone");
    broker.create_topic(&broker.name, 1).await;
    let publisher = publisher(&broker);
    for is_null in [true, false] {
        publisher.publish(Outgoing { is_null, ..Outgoing::default() }).await.unwrap();
    }
    let mut source = broker.start(&[&broker.name]);
    let taken = source.take(2).await;
    let nulls =
        taken.iter().map(|one| matches!(&one.message.origin, Origin::Kafka(origin) if origin.is_null));
    assert_eq!(nulls.collect::<Vec<_>>(), [true, false]);
    source.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_finds_a_missing_topic_and_an_absent_broker() {
    let broker = Broker::real("probe");
    let publisher = publisher(&broker);
    let missing = publisher.probe().await.unwrap_err();
    assert!(missing.is_transient() && missing.what.contains("does not exist"), "{missing:?}");
    broker.create_topic(&broker.name, 1).await;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = publisher.probe().await {
        assert!(Instant::now() < deadline, "{error:?}, although it exists by now");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let nobody = Cluster { bootstrap_servers: vec!["127.0.0.1:1".to_owned()], ..Cluster::default() };
    let away = Publisher::new(&nobody, "t").unwrap().probe().await.unwrap_err();
    assert!(away.is_transient() && away.what.contains("does not answer"), "{away:?}");
}
