//! Sends every kind of record, and expects each to arrive whole.

use bytes::Bytes;
use longhaul::config::Order;
use longhaul::event::{Origin, Value};
use rdkafka::message::{Header, OwnedHeaders};

use super::support::{Broker, Running};

#[tokio::test(flavor = "multi_thread")]
async fn headers_keys_and_bodies_of_every_kind() {
    let broker = Broker::real("records");
    let topic = &broker.name;
    broker.create_topic(topic, 1).await;
    let headers = OwnedHeaders::new()
        .insert(Header { key: "null", value: None::<&[u8]> })
        .insert(Header { key: "twice", value: Some("1") })
        .insert(Header { key: "twice", value: Some("2") })
        .insert(Header { key: "binary", value: Some(&[0xff, 0, 0xfe]) })
        .insert(Header { key: "naïve", value: Some("") });
    let large = vec![b'x'; 1_000_000];
    broker.produce_one(topic, None, Some(b""), headers).await;
    broker.produce_one(topic, Some(b"key"), None, OwnedHeaders::new()).await;
    broker.produce_one(topic, Some(b""), Some(&large), OwnedHeaders::new()).await;

    let mut settings = broker.settings(&[topic]);
    settings.order = Order::Key;
    let mut source = Running::start(settings);
    let taken = source.take(3).await;
    let names_and_values = &taken[0].message.headers;
    assert_eq!(
        *names_and_values,
        [
            ("null".to_owned(), Value::Null),
            ("twice".to_owned(), Value::Bytes(Bytes::from_static(b"1"))),
            ("twice".to_owned(), Value::Bytes(Bytes::from_static(b"2"))),
            ("binary".to_owned(), Value::Bytes(Bytes::from_static(&[0xff, 0, 0xfe]))),
            ("naïve".to_owned(), Value::Bytes(Bytes::new())),
        ]
    );
    assert!(taken[0].message.body.is_empty() && taken[1].message.body.is_empty());
    assert_eq!(taken[2].message.body, large);
    assert_eq!(taken[2].outline.body_bytes, 1_000_000);
    let keys: Vec<_> = taken
        .iter()
        .map(|delivery| match &delivery.message.origin {
            Origin::Kafka(origin) => {
                assert!(origin.timestamp.is_some() && origin.topic == *topic);
                origin.key.clone()
            }
            Origin::Rabbitmq(_) => panic!("not from RabbitMQ"),
        })
        .collect();
    assert_eq!(keys, [None, Some(Bytes::from_static(b"key")), Some(Bytes::new())]);
    let ordered: Vec<_> = taken.iter().map(|delivery| delivery.outline.order_key.is_some()).collect();
    assert_eq!(ordered, [false, true, true]);
    source.close().await;
}
