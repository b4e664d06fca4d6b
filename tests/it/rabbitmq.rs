//! Tests RabbitMQ's own behaviour: sessions, refusals, topology and messages of every kind.

mod identity;
mod loops;
mod odd_messages;
mod problems;
mod publisher;
pub mod random;
pub mod raw;
mod window;

use std::collections::BTreeMap;

use lapin::BasicProperties;
use lapin::options::{ExchangeDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, ByteArray, FieldTable, LongString};
use longhaul::config::{Binding, Declare, QueueKind};
use longhaul::delivery::Settlement;
use longhaul::event::{Exact, Origin, Value};
use longhaul::source::rabbitmq::Source;
use longhaul::source::{Command, Settled, SourceEvent};
use longhaul::telemetry::ProblemKind;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::support::bridge::Bridge;
use crate::support::rabbitmq::{Queue, address, brokers, connection, through};
use crate::support::relay::{Mode, Relay};
use crate::support::{eventually, within};

#[tokio::test]
async fn an_unreachable_broker_is_waited_for() {
    for url in brokers() {
        let queue = Queue::create(&url, QueueKind::Quorum).await;
        let relay = Relay::start(address(&url)).await;
        relay.set(Mode::Refuse);
        let source = Source::new(queue.source(&through(&url, relay.port()), 1));
        let mut bridge = Bridge::start(source);
        let connected =
            |wanted| move |event: &SourceEvent| (*event == SourceEvent::Connected(wanted)).then_some(());
        bridge.event("a failed connection", connected(false)).await;
        relay.set(Mode::Pass);
        bridge.event("a connection", connected(true)).await;
        bridge.up().await;
        bridge.close().await;
        queue.delete().await;
    }
}

#[tokio::test]
async fn commands_are_answered_while_nothing_is_connected() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let queue = Queue::unborn(&brokers()[0]).await;
    let source = Source::new(queue.source(&format!("amqp://{unused}"), 1));
    let mut bridge = Bridge::start(source);
    bridge.stop_intake().await;
    let history = bridge.close().await;
    assert!(!history.iter().any(|event| matches!(event, SourceEvent::Up { .. })));
}

#[tokio::test]
async fn a_silent_peer_costs_no_connection_once_it_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = connection(&format!("amqp://127.0.0.1:{}", silent.local_addr().unwrap().port()));
    let connecting = tokio::spawn(async move { settings.connect().await.map(drop) });
    let (mut socket, _) = within("a client", silent.accept()).await.unwrap();
    let mut header = [0; 8];
    within("the protocol header", socket.read_exact(&mut header)).await.unwrap();
    connecting.abort();
    // lapin's own thread holds the socket, and would keep it while the peer is silent.
    assert_eq!(within("the end of the stream", socket.read(&mut header)).await.unwrap(), 0);
}

#[tokio::test]
async fn a_missing_queue_is_waited_for() {
    for url in brokers() {
        let queue = Queue::unborn(&url).await;
        let mut bridge = Bridge::start(Source::new(queue.source(&url, 1)));
        let problem = problems::raised(&mut bridge, ProblemKind::SourceMissing).await;
        assert_eq!(problem.subject, queue.name);
        queue.declare(QueueKind::Quorum).await;
        queue.publish(b"first", BasicProperties::default()).await;
        bridge.up().await;
        let delivery = bridge.delivery().await;
        assert_eq!(delivery.message.body, "first");

        // Deleting the queue ends the session, and the source waits for the queue again.
        let options = QueueDeleteOptions::default();
        queue.channel.queue_delete(queue.name.as_str().into(), options).await.unwrap();
        let (_, reason) = bridge.loss().await;
        assert!(reason.contains("cancelled"), "{reason}");
        assert_eq!(bridge.settle(delivery.outline.id, Settlement::Ack).await, Settled::Stale);
        queue.declare(QueueKind::Classic).await;
        bridge.up().await;
        bridge.close().await;
        queue.delete().await;
    }
}

#[tokio::test]
async fn declares_and_binds_where_asked() {
    for url in brokers() {
        let queue = Queue::unborn(&url).await;
        let exchange = format!("{}-exchange", queue.name);
        let mut settings = queue.source(&url, 1);
        settings.declare = Some(Declare {
            kind: QueueKind::Quorum,
            arguments: BTreeMap::from([("x-max-length".to_owned(), 10.into())]),
            bind: vec![Binding { exchange: exchange.clone(), routing_key: "key".to_owned() }],
        });
        let mut bridge = Bridge::start(Source::new(settings.clone()));
        let name = || exchange.as_str().into();
        let options = ExchangeDeclareOptions::default();
        let declaring = queue.channel.exchange_declare(
            name(),
            lapin::ExchangeKind::Direct,
            ExchangeDeclareOptions { durable: true, ..options },
            FieldTable::default(),
        );
        within("an exchange", declaring).await.unwrap();
        bridge.up().await;
        let publishing = queue.channel.basic_publish(
            name(),
            "key".into(),
            Default::default(),
            b"bound",
            BasicProperties::default(),
        );
        within("a publish", publishing).await.unwrap().await.unwrap();
        let delivery = bridge.delivery().await;
        assert_eq!(delivery.message.body, "bound");
        let Origin::Rabbitmq(origin) = &delivery.message.origin else { panic!("{delivery:?}") };
        assert_eq!((&origin.exchange, origin.routing_key.as_str()), (&exchange, "key"));
        bridge.close().await;

        // The same queue with other arguments is a contradiction that only a person can solve.
        settings.declare.as_mut().unwrap().arguments.clear();
        let mut bridge = Bridge::start(Source::new(settings));
        let problem = problems::raised(&mut bridge, ProblemKind::SourceRefused).await;
        assert!(problem.text.contains("x-max-length") && problem.help.contains("declare"), "{problem:?}");
        bridge.close().await;
        within("a deletion", queue.channel.exchange_delete(name(), Default::default())).await.unwrap();
        queue.delete().await;
    }
}

#[tokio::test]
async fn resumes_after_the_server_closed_the_connection() {
    for url in brokers() {
        let queue = Queue::create(&url, QueueKind::Quorum).await;
        queue.publish(b"item", BasicProperties::default()).await;
        let relay = Relay::start(address(&url)).await;
        let mut bridge = Bridge::start(Source::new(queue.source(&through(&url, relay.port()), 1)));
        let first = bridge.delivery().await;
        relay.confuse_server();
        let (epoch, reason) = bridge.loss().await;
        assert_eq!(epoch, first.outline.id.epoch);
        assert!(reason.contains("501"), "the server's own words: {reason}");
        let again = bridge.delivery().await;
        assert!(again.outline.redelivered && again.outline.id.epoch > epoch);
        assert_eq!(again.outline.identity, first.outline.identity);
        assert_eq!(bridge.settle(again.outline.id, Settlement::Ack).await, Settled::Sent);
        bridge.close().await;
        eventually("nothing to be left", async || queue.ready().await == 0).await;
        queue.delete().await;
    }
}

/// In a drain a session also gets deliveries of unknown items. It returns them at its end. Until
/// then it stays open, and no ack of a later delivery may ack them too.
#[tokio::test]
async fn acks_in_a_drain_take_nothing_along() {
    for url in brokers() {
        let queue = Queue::create(&url, QueueKind::Quorum).await;
        for _ in 0..6 {
            queue.publish(b"item", BasicProperties::default()).await;
        }
        let relay = Relay::start(address(&url)).await;
        let mut bridge = Bridge::start(Source::new(queue.source(&through(&url, relay.port()), 6)));
        bridge.deliveries(6).await;
        bridge.stop_intake().await;
        relay.cut_all();
        bridge.loss().await;
        for (number, delivery) in bridge.deliveries(6).await.iter().enumerate() {
            let how = if number < 2 { Settlement::Return } else { Settlement::Ack };
            bridge.command(Command::Settle { delivery: delivery.outline.id, how });
        }
        bridge.close().await;
        eventually("exactly the returned ones to be left", async || queue.ready().await == 2).await;
        queue.delete().await;
    }
}

#[tokio::test]
async fn notices_a_connection_that_fell_silent() {
    let url = &brokers()[0];
    let queue = Queue::create(url, QueueKind::Quorum).await;
    let relay = Relay::start(address(url)).await;
    let mut relayed = url::Url::parse(&through(url, relay.port())).unwrap();
    relayed.set_query(Some("heartbeat=1"));
    let mut bridge = Bridge::start(Source::new(queue.source(relayed.as_str(), 1)));
    let first = bridge.up().await;
    relay.set(Mode::Stall);
    assert_eq!(bridge.loss().await.0, first);
    relay.set(Mode::Pass);
    relay.cut_all();
    assert!(bridge.up().await > first);
    bridge.close().await;
    queue.delete().await;
}

#[tokio::test]
async fn tells_the_backlog() {
    let queue = Queue::create(&brokers()[0], QueueKind::Quorum).await;
    for _ in 0..5 {
        queue.publish(b"item", BasicProperties::default()).await;
    }
    let mut bridge = Bridge::start(Source::new(queue.source(&queue.url, 2)));
    let three = |event: &SourceEvent| (*event == SourceEvent::Backlog(3)).then_some(());
    bridge.event("a backlog of what is not handed over", three).await;
    bridge.close().await;
    queue.delete().await;
}

#[tokio::test]
async fn messages_of_every_kind_pass_whole() {
    for url in brokers() {
        let queue = Queue::create(&url, QueueKind::Quorum).await;
        let not_utf8 = vec![0xc3, 0x28, 0x00];
        let mut table = FieldTable::default();
        let mut inner = FieldTable::default();
        inner.insert("deep".into(), AMQPValue::LongUInt(u32::MAX));
        for (name, value) in [
            ("Expect", AMQPValue::LongString("100-continue".into())),
            ("broken", AMQPValue::LongString(LongString::from(not_utf8.clone()))),
            ("bytes", AMQPValue::ByteArray(ByteArray::from(not_utf8.clone()))),
            ("naïve", AMQPValue::LongString("ünïcode\r\n".into())),
            ("none", AMQPValue::Void),
            ("table", AMQPValue::FieldTable(inner)),
        ] {
            table.insert(name.into(), value);
        }
        let properties = BasicProperties::default().with_headers(table).with_type("kind".into());
        for body in [Vec::new(), vec![0xa5; 1 << 20]] {
            queue.publish(&body, properties.clone()).await;
        }

        let mut bridge = Bridge::start(Source::new(queue.source(&url, 2)));
        for body in [Vec::new(), vec![0xa5; 1 << 20]] {
            let message = bridge.delivery().await.message;
            assert!(message.body == body, "a body of {} bytes", body.len());
            let Origin::Rabbitmq(origin) = &message.origin else { panic!("{:?}", message.origin) };
            assert_eq!(origin.properties.kind.as_deref(), Some("kind"));
            assert_eq!(message.header("expect"), Some(&Value::Text("100-continue".into())));
            let long_string = Value::Exact(Exact::LongString(not_utf8.clone().into()));
            assert_eq!(message.header("broken"), Some(&long_string));
            assert_eq!(message.header("bytes"), Some(&Value::Bytes(not_utf8.clone().into())));
            assert_eq!(message.header("naïve"), Some(&Value::Text("ünïcode\r\n".into())));
            assert_eq!(message.header("none"), Some(&Value::Null));
            let deep = Value::Exact(Exact::UInt32(u32::MAX));
            let deep = Value::Table(vec![("deep".to_owned(), deep)]);
            assert_eq!(message.header("table"), Some(&deep));
        }
        bridge.close().await;
        queue.delete().await;
    }
}

/// RabbitMQ 3 would drop every item of such a queue at its first return.
#[tokio::test(flavor = "multi_thread")]
async fn a_negative_delivery_limit_is_refused_before_rabbitmq_4() {
    for url in brokers() {
        let queue = Queue::unborn(&url).await;
        let mut settings = queue.source(&url, 1);
        let server = settings.connection.connect().await.unwrap().server();
        let version = server.version.expect("RabbitMQ tells its version");
        settings.declare = serde_json::from_str(r#"{"arguments": {"x-delivery-limit": -1}}"#).unwrap();
        let mut bridge = Bridge::start(Source::new(settings));
        if version.starts_with("3.") {
            let error = bridge.failure().await;
            assert!(error.what.contains(&version) && error.hint.contains("1000000"), "{error:?}");
        } else {
            bridge.up().await;
            bridge.close().await;
            queue.delete().await;
        }
    }
}
