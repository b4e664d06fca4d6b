//! Writes dead letters to a real broker, reads them back and restores the item, for items of both
//! brokers.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use longhaul::config::{QueueKind, RabbitmqTarget};
use longhaul::connect::kafka::Cluster;
use longhaul::delivery::Reason;
use longhaul::event::{Exact, KafkaOrigin, Message, Origin, Properties, RabbitmqOrigin, Value};
use longhaul::publish::dead_letter::{Letter, Place, Restored, restore};
use longhaul::publish::hops::HopsKey;
use longhaul::publish::{self, Broker, Outgoing, Publisher};

use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::support::rabbitmq::{Queue, brokers, connection};
use crate::support::within;

const BODY: &[u8] = &[0xff, 0x00, b'\n'];

/// Returns a value of each AMQP type that is narrower than a common type.
fn exact_values() -> Vec<Value> {
    let values = [
        Exact::Int8(i8::MIN),
        Exact::UInt8(u8::MAX),
        Exact::Int16(i16::MIN),
        Exact::UInt16(u16::MAX),
        Exact::Int32(i32::MIN),
        Exact::UInt32(u32::MAX),
        Exact::Float32(0.1),
        Exact::Decimal { scale: 2, value: u32::MAX },
        Exact::LongString(Bytes::from_static(&[0xff, 0x00])),
    ];
    values.map(Value::Exact).into()
}

/// Returns a RabbitMQ item with every kind of header and property, and its restored form.
fn of_rabbitmq() -> (Message, Restored) {
    let headers = vec![
        ("bool".to_owned(), Value::Bool(true)),
        ("bytes".to_owned(), Value::Bytes(Bytes::from_static(&[0xfe, 0x00]))),
        ("exact".to_owned(), Value::List(exact_values())),
        ("float".to_owned(), Value::Float(0.1)),
        ("int".to_owned(), Value::Int(i64::MIN)),
        ("list".to_owned(), Value::List(vec![Value::Null, Value::Text("é".to_owned())])),
        ("table".to_owned(), Value::Table(vec![("t".to_owned(), Value::Timestamp(7))])),
        ("text".to_owned(), Value::Text("7".to_owned())),
        ("time".to_owned(), Value::Timestamp(1_700_000_000)),
        ("void".to_owned(), Value::Null),
    ];
    let text = |text: &str| Some(text.to_owned());
    let properties = Properties {
        content_type: text("image/png"),
        content_encoding: text("gzip"),
        delivery_mode: Some(2),
        priority: Some(5),
        correlation_id: text("c"),
        reply_to: text("r"),
        expiration: text("60000"),
        message_id: text("m"),
        timestamp: Some(1_700_000_000),
        kind: text("k"),
        user_id: text("somebody"),
        app_id: text("a"),
        cluster_id: text("cluster"),
    };
    let origin =
        RabbitmqOrigin { queue: "jobs/eu".to_owned(), properties: properties.clone(), ..Default::default() };
    let mut all = headers.clone();
    // Headers of an earlier failure, and of the broker, do not belong to the item.
    all.push(("longhaul-attempts".to_owned(), Value::Int(3)));
    all.push(("knativeerrorcode".to_owned(), Value::Int(500)));
    all.push(("x-delivery-count".to_owned(), Value::Int(3)));
    let message = Message { body: Bytes::from_static(BODY), headers: all, origin: Origin::Rabbitmq(origin) };
    let outgoing = Outgoing { body: Bytes::from_static(BODY), headers, properties, ..Outgoing::default() };
    (message, Restored { from: Place::Rabbitmq { queue: "jobs/eu".to_owned() }, outgoing, left_out: None })
}

/// Returns a Kafka item with unsorted and repeated names, and its restored form.
fn of_kafka() -> (Message, Restored) {
    let value = |bytes: &'static [u8]| Value::Bytes(Bytes::from_static(bytes));
    let headers = vec![
        ("b".to_owned(), value(b"first")),
        ("a".to_owned(), Value::Null),
        ("b".to_owned(), value(&[0xff])),
        ("empty".to_owned(), value(b"")),
    ];
    let key = Some(Bytes::from_static(&[0x00, 0xff]));
    let origin = KafkaOrigin {
        topic: "jobs".to_owned(),
        partition: 2,
        offset: 9,
        key: key.clone(),
        timestamp: Some(1),
        ..KafkaOrigin::default()
    };
    let message =
        Message { body: Bytes::from_static(BODY), headers: headers.clone(), origin: Origin::Kafka(origin) };
    let body = Bytes::from_static(BODY);
    let time = ("longhaul-record-time".to_owned(), Value::Text("1".to_owned()));
    let headers = headers.into_iter().chain([time]).collect();
    let outgoing = Outgoing { body, headers, key, ..Outgoing::default() };
    let from = Place::Kafka { topic: "jobs".to_owned(), partition: 2, offset: 9 };
    (message, Restored { from, outgoing, left_out: None })
}

pub fn letter(message: Message) -> Letter {
    Letter {
        hops: HopsKey::derived("secret").of_dead_letter(&message).expect("few hops"),
        message: Arc::new(message),
        event_id: "event".to_owned(),
        reason: Reason::Attempts,
        code: Some(500),
        detail: "detail".to_owned(),
        data: "data".into(),
        attempts: 5,
        destination: "http://thumbs".to_owned(),
        time: SystemTime::now(),
    }
}

async fn through(publisher: &dyn Publisher, broker: Broker, graveyard: &impl Backlog) {
    let items = [of_rabbitmq(), of_kafka(), of_kafka_without_a_key(), tombstone()];
    for (message, _) in &items {
        let written = publisher.publish(letter(message.clone()).outgoing(broker));
        within("a confirm", written).await.expect("confirmed");
    }
    let letters = graveyard.messages(items.len()).await;
    for (letter, (_, expected)) in letters.iter().zip(items) {
        if let Origin::Kafka(origin) = &letter.origin {
            assert!(origin.timestamp > Some(1_700_000_000_000), "the letter has the time of its write");
        }
        assert_eq!(restore(letter).expect("a dead letter"), expected, "{:?}", letter.headers);
    }
}

/// Returns a Kafka item whose headers fit unchanged into a table of AMQP.
fn of_kafka_without_a_key() -> (Message, Restored) {
    let (mut message, mut restored) = of_kafka();
    let Origin::Kafka(origin) = &mut message.origin else { panic!("made above") };
    origin.key = None;
    message.headers = vec![("a".to_owned(), Value::Bytes(Bytes::from_static(b"text")))];
    restored.outgoing.key = None;
    let time = restored.outgoing.headers.pop();
    restored.outgoing.headers = message.headers.iter().cloned().chain(time).collect();
    (message, restored)
}

/// Returns a record without a value, which marks its key as deleted.
fn tombstone() -> (Message, Restored) {
    let (mut message, mut restored) = of_kafka();
    let Origin::Kafka(origin) = &mut message.origin else { panic!("made above") };
    origin.is_null = true;
    message.body = Bytes::new();
    restored.outgoing.is_null = true;
    restored.outgoing.body = Bytes::new();
    (message, restored)
}

#[tokio::test]
async fn through_rabbitmq() {
    for url in brokers() {
        let graveyard = Rabbitmq::of(Queue::create(&url, QueueKind::Quorum).await);
        let target = RabbitmqTarget { queue: Some(graveyard.0.name.clone()), ..Default::default() };
        let publisher = publish::rabbitmq::Publisher::new(connection(&url), &target);
        through(&publisher, Broker::Rabbitmq, &graveyard).await;
        graveyard.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_kafka() {
    let graveyard = Kafka::create().await;
    let cluster = Cluster { bootstrap_servers: vec![graveyard.0.bootstrap.clone()], ..Cluster::default() };
    let publisher = publish::kafka::Publisher::new(&cluster, &graveyard.0.name).unwrap();
    through(&publisher, Broker::Kafka, &graveyard).await;
    graveyard.remove().await;
}
