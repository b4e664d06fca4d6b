//! Sends messages that lapin cannot read, or that exhaust its stack. Each costs at most itself.

use std::collections::BTreeSet;

use lapin::BasicProperties;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions};
use lapin::types::FieldTable;
use longhaul::config::QueueKind;
use longhaul::delivery::Settlement;
use longhaul::event::{Origin, Value};
use longhaul::source::rabbitmq::Source;
use longhaul::source::{Delivery, SourceEvent};

use super::raw::{HEADERS, MESSAGE_ID, RawMessage, RawProducer, long, nested, short};
use crate::support::bridge::Bridge;
use crate::support::eventually;
use crate::support::rabbitmq::{Queue, brokers};

fn to(queue: &Queue, properties: Vec<u8>) -> RawMessage {
    RawMessage { routing_key: queue.name.clone().into_bytes(), properties, body: b"odd".to_vec() }
}

fn with_message_id(id: &[u8]) -> Vec<u8> {
    [&MESSAGE_ID.to_be_bytes()[..], &short(id)].concat()
}

fn with_header(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&HEADERS.to_be_bytes()[..], &long(&[&short(name)[..], value].concat())].concat()
}

/// Puts 20 items around each odd message, and expects all of them in one session.
async fn between_neighbours(queue: &Queue, odd: &[RawMessage]) -> Vec<Delivery> {
    let mut producer = RawProducer::connect(&queue.url).await;
    for number in 0..10 {
        queue.publish(format!("before {number}").as_bytes(), BasicProperties::default()).await;
    }
    for message in odd {
        producer.publish("", message).await;
    }
    for number in 0..10 {
        queue.publish(format!("after {number}").as_bytes(), BasicProperties::default()).await;
    }
    let mut bridge = Bridge::start(Source::new(queue.source(&queue.url, 8)));
    let (mut seen, mut strange) = (BTreeSet::new(), Vec::new());
    for _ in 0..20 + odd.len() {
        let delivery = bridge.delivery().await;
        bridge.settle(delivery.outline.id, Settlement::Ack).await;
        assert!(!delivery.outline.redelivered);
        if delivery.message.body == "odd" {
            strange.push(delivery);
        } else {
            assert!(seen.insert(delivery.message.body.clone()), "a neighbour came twice");
        }
    }
    assert_eq!(seen.len(), 20);
    let history = bridge.close().await;
    assert!(!history.iter().any(|event| matches!(event, SourceEvent::Lost { .. })), "one session is enough");
    eventually("nothing to be left", async || queue.ready().await == 0).await;
    strange
}

#[tokio::test]
async fn a_message_with_bytes_that_are_not_utf_8_runs_and_its_neighbours_run_once() {
    for url in brokers() {
        let queue = Queue::create(&url, QueueKind::Quorum).await;
        let odd = [
            to(&queue, with_message_id(b"\xff\xfe")),
            to(&queue, with_message_id(&[0xff; 255])),
            to(&queue, with_header(b"na\xffme", b"t\x01")),
        ];
        let strange = between_neighbours(&queue, &odd).await;
        let Origin::Rabbitmq(origin) = &strange[0].message.origin else { panic!("{strange:?}") };
        assert_eq!(origin.properties.message_id.as_deref(), Some("%FF%FE"));
        assert_eq!(strange[0].message.header("longhaul-unreadable"), Some(&Value::Text("message_id".into())));
        assert_eq!(strange[2].message.header("na%FFme"), Some(&Value::Bool(true)));
        let identities: BTreeSet<_> = strange.iter().map(|delivery| &delivery.outline.identity).collect();
        assert_eq!(identities.len(), 3);
        queue.delete().await;
    }
}

/// 1,400 levels take 7 KB. They once exhausted the stack of lapin's thread, which ended the process
/// at every start.
#[tokio::test]
async fn a_header_that_is_nested_thousands_of_levels_deep_ends_nothing() {
    for url in brokers() {
        let queue = Queue::create(&url, QueueKind::Quorum).await;
        // RabbitMQ itself needs seconds for a deeper one, because its time grows with the square of
        // the depth.
        let odd = [(b'A', 33), (b'F', 1_400), (b'A', 1_400), (b'A', 7_000), (b'F', 7_000)]
            .map(|(kind, levels)| to(&queue, with_header(b"deep", &nested(kind, levels))));
        let strange = between_neighbours(&queue, &odd).await;
        assert_eq!(strange.len(), odd.len());
        for delivery in &strange {
            assert!(matches!(delivery.message.header("deep"), Some(Value::Bytes(_))), "as its encoding");
        }
        queue.delete().await;
    }
}

/// A server sends headers whole, even if the client asked for smaller frames.
#[tokio::test]
async fn headers_larger_than_the_frames_of_the_uri_arrive() {
    for url in brokers() {
        let queue = Queue::create(&url, QueueKind::Quorum).await;
        let mut producer = RawProducer::connect(&url).await;
        let value = [b"S", &long(&vec![b'x'; 131_000 - queue.name.len()])[..]].concat();
        producer.publish("", &to(&queue, with_header(b"large", &value))).await;
        let mut small = url::Url::parse(&url).unwrap();
        small.set_query(Some("frame_max=8192"));
        let mut bridge = Bridge::start(Source::new(queue.source(small.as_str(), 1)));
        let delivery = bridge.delivery().await;
        assert!(delivery.message.header("large").and_then(Value::as_text).is_some());
        // At the redelivery the broker has added its own count, and the headers are larger than a
        // frame.
        bridge.settle(delivery.outline.id, Settlement::Return).await;
        let again = bridge.delivery().await;
        assert!(again.outline.redelivered && again.message.header("large").is_some());
        bridge.settle(again.outline.id, Settlement::Ack).await;
        bridge.close().await;
        queue.delete().await;
    }
}

#[tokio::test]
async fn a_routing_key_that_is_not_utf_8_is_readable() {
    for url in brokers() {
        let queue = Queue::create(&url, QueueKind::Quorum).await;
        let (name, exchange) = (queue.name.as_str().into(), format!("{}-exchange", queue.name));
        let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
        let short_name = || exchange.as_str().into();
        let kind = lapin::ExchangeKind::Fanout;
        queue.channel.exchange_declare(short_name(), kind, options, FieldTable::default()).await.unwrap();
        let options = QueueBindOptions::default();
        queue
            .channel
            .queue_bind(name, short_name(), "".into(), options, FieldTable::default())
            .await
            .unwrap();
        let mut producer = RawProducer::connect(&url).await;
        let message =
            RawMessage { routing_key: b"k\xff".to_vec(), properties: vec![0, 0], body: b"odd".to_vec() };
        producer.publish(&exchange, &message).await;
        let mut bridge = Bridge::start(Source::new(queue.source(&url, 1)));
        let delivery = bridge.delivery().await;
        let Origin::Rabbitmq(origin) = &delivery.message.origin else { panic!("{delivery:?}") };
        assert_eq!(origin.routing_key, "k%FF");
        bridge.settle(delivery.outline.id, Settlement::Ack).await;
        bridge.close().await;
        queue.delete().await;
    }
}
