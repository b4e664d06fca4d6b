//! Confirmed writes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use longhaul::connect::kafka::Cluster;
use longhaul::event::{Origin, Value};
use longhaul::publish::kafka::Publisher;
use longhaul::publish::{Outgoing, Publisher as _};

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
