//! Tests confirmed writes: those that count as written, and those that never can be.

use std::time::Duration;

use futures_util::future::join_all;
use lapin::options::QueueBindOptions;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use longhaul::config::{QueueKind, RabbitmqTarget};
use longhaul::delivery::{Mark, Settlement};
use longhaul::event::{Origin, Properties, Value};
use longhaul::publish::copy::{Parked, copy};
use longhaul::publish::rabbitmq::Publisher;
use longhaul::publish::{Outgoing, PublishErrorKind, Publisher as _};
use longhaul::source::rabbitmq::Source;

use crate::support::bridge::Bridge;
use crate::support::rabbitmq::{Queue, address, brokers, connection, through};
use crate::support::relay::Relay;
use crate::support::{eventually, within};

fn to_queue(url: &str, name: &str) -> Publisher {
    let target = RabbitmqTarget { queue: Some(name.to_owned()), ..Default::default() };
    Publisher::new(connection(url), &target)
}

fn outgoing(body: impl Into<bytes::Bytes>) -> Outgoing {
    Outgoing { body: body.into(), ..Default::default() }
}

#[tokio::test]
async fn writes_whole_messages_many_at_once() {
    for url in brokers() {
        let queue = Queue::create(&url, QueueKind::Quorum).await;
        let publisher = to_queue(&url, &queue.name);
        let message = Outgoing {
            body: "body".into(),
            headers: vec![("shop".to_owned(), Value::Int(7)), ("CC".to_owned(), Value::Null)],
            properties: Properties {
                message_id: Some("m".to_owned()),
                user_id: Some("somebody else".to_owned()),
                priority: Some(3),
                ..Default::default()
            },
            ..Default::default()
        };
        let writes = join_all((0..20).map(|_| publisher.publish(message.clone())));
        for written in within("twenty confirms", writes).await {
            written.expect("confirmed");
        }
        let written = queue.get().await.expect("written");
        assert_eq!(written.data, b"body");
        let headers = written.properties.headers().as_ref().expect("headers").inner();
        assert_eq!(headers["shop"], AMQPValue::LongLongInt(7));
        assert!(!headers.contains_key("CC"));
        assert_eq!(written.properties.message_id().as_ref().map(ShortString::as_str), Some("m"));
        assert_eq!(*written.properties.priority(), Some(3));
        assert_eq!(*written.properties.delivery_mode(), Some(2));
        eventually("the others", async || queue.ready().await == 19).await;
        publisher.close().await;
        queue.delete().await;
    }
}

#[tokio::test]
async fn a_message_that_no_queue_takes_is_not_written() {
    for url in brokers() {
        let queue = Queue::unborn(&url).await;
        let publisher = to_queue(&url, &queue.name);
        let error = within("an answer", publisher.publish(outgoing("body"))).await.unwrap_err();
        assert!(error.is_transient() && error.what.contains(&queue.name), "{error}");
        assert!(error.what.contains("NO_ROUTE"), "{error}");
        // The same publisher succeeds as soon as somebody has created the queue.
        queue.declare(QueueKind::Classic).await;
        within("a confirm", publisher.publish(outgoing("body"))).await.expect("confirmed");
        queue.delete().await;

        let target = RabbitmqTarget { exchange: Some(publisher_exchange()), ..Default::default() };
        let publisher = Publisher::new(connection(&url), &target);
        let error = within("an answer", publisher.publish(outgoing("body"))).await.unwrap_err();
        assert!(error.is_transient() && error.what.contains("404"), "{error}");
    }
}

fn publisher_exchange() -> String {
    format!("longhaul-test-missing-{}", uuid::Uuid::new_v4())
}

#[tokio::test]
async fn a_message_that_cannot_be_written_is_for_good() {
    let url = &brokers()[0];
    let queue = Queue::create(url, QueueKind::Classic).await;
    let publisher = to_queue(url, &queue.name);
    let headers = vec![("big".to_owned(), Value::Text("x".repeat(200_000)))];
    let over = Outgoing { headers, ..outgoing("body") };
    let error = within("an answer", publisher.publish(over)).await.unwrap_err();
    assert!(error.kind == PublishErrorKind::TooLarge && error.what.contains("frame"), "{error}");
    let properties = Properties { content_type: Some("x".repeat(300)), ..Default::default() };
    let error = publisher.publish(Outgoing { properties, ..outgoing("body") }).await.unwrap_err();
    assert!(error.kind == PublishErrorKind::Impossible && error.what.contains("content_type"), "{error}");
    within("a confirm", publisher.publish(outgoing("body"))).await.expect("the publisher is unharmed");
    queue.delete().await;

    // RabbitMQ 3.10 accepts 128 MiB, which is too much for a test; RabbitMQ 4 accepts 16 MiB.
    for url in brokers().into_iter().skip(1) {
        let queue = Queue::create(&url, QueueKind::Classic).await;
        let publisher = to_queue(&url, &queue.name);
        let error = within("an answer", publisher.publish(outgoing(vec![0; 17 << 20]))).await.unwrap_err();
        assert!(error.kind == PublishErrorKind::TooLarge && error.what.contains("larger than"), "{error}");
        within("a confirm", publisher.publish(outgoing("body"))).await.expect("a new channel");
        // The next one is refused before it could close the channel of the others.
        let (over, fine) =
            tokio::join!(publisher.publish(outgoing(vec![0; 17 << 20])), publisher.publish(outgoing("body")));
        assert_eq!(over.unwrap_err().kind, PublishErrorKind::TooLarge);
        fine.expect("undisturbed");
        queue.delete().await;
    }
}

/// Small frames in the URI only exclude messages that do not fit into them.
#[tokio::test]
async fn frames_of_the_least_size_take_what_fits() {
    for url in brokers() {
        // RabbitMQ 4.3 refuses smaller frames.
        for frame_max in [4096, 8192] {
            let queue = Queue::create(&url, QueueKind::Classic).await;
            let publisher = to_queue(&format!("{url}?frame_max={frame_max}"), &queue.name);
            if frame_max == 4096 && publisher.probe().await.is_err() {
                continue;
            }
            let headers = |bytes| vec![("h".to_owned(), Value::Text("x".repeat(bytes)))];
            let fits = Outgoing { headers: headers(frame_max - 200), ..outgoing(vec![b'x'; 50_000]) };
            within("a confirm", publisher.publish(fits)).await.expect("confirmed");
            let over = Outgoing { headers: headers(frame_max), ..outgoing("body") };
            let error = within("an answer", publisher.publish(over)).await.unwrap_err();
            assert_eq!(error.kind, PublishErrorKind::TooLarge, "{error}");
            assert_eq!(queue.get().await.expect("written").data.len(), 50_000);
            queue.delete().await;
        }
    }
}

#[tokio::test]
async fn a_probe_tells_whether_a_write_would_succeed_and_writes_nothing() {
    for url in brokers() {
        let queue = Queue::unborn(&url).await;
        let publisher = to_queue(&url, &queue.name);
        let error = within("a probe", publisher.probe()).await.unwrap_err();
        assert!(error.is_transient() && error.what.contains("404"), "{error}");
        queue.declare(QueueKind::Quorum).await;
        within("a probe", publisher.probe()).await.expect("the queue is there");
        assert_eq!(queue.ready().await, 0);

        let to_exchange = |name: &str| {
            let target = RabbitmqTarget { exchange: Some(name.to_owned()), ..Default::default() };
            Publisher::new(connection(&url), &target)
        };
        let error = within("a probe", to_exchange("longhaul-test-none").probe()).await.unwrap_err();
        assert!(error.is_transient() && error.what.contains("404"), "{error}");
        let options = QueueBindOptions::default();
        let (name, exchange) = (queue.name.as_str().into(), "amq.fanout".into());
        queue.channel.queue_bind(name, exchange, "".into(), options, FieldTable::default()).await.unwrap();
        within("a probe", to_exchange("amq.fanout").probe()).await.expect("the exchange is there");
        assert_eq!(queue.ready().await, 0, "nothing is written");
        // Nobody may write to an exchange of the broker itself.
        let error = within("a probe", to_exchange("amq.rabbitmq.trace").probe()).await.unwrap_err();
        assert!(error.what.contains("403"), "{error}");
        queue.delete().await;
    }
}

/// A queue of the same name with another target would lose the item.
#[tokio::test]
async fn a_parking_queue_with_other_arguments_is_refused() {
    for url in brokers() {
        let queue = Queue::create(&url, QueueKind::Quorum).await;
        let delay = Duration::from_millis(300);
        let parking = |name: &str| to_queue(&url, &queue.name).parking(name, delay, &queue.name).unwrap();
        let foreign = Queue::create(&url, QueueKind::Quorum).await;
        let publisher = parking(&foreign.name);
        let probed = within("a probe", publisher.probe()).await.unwrap_err();
        let written = within("an answer", publisher.publish(outgoing("body"))).await.unwrap_err();
        for error in [probed, written] {
            assert!(!error.is_transient() && error.what.contains("other arguments"), "{error}");
        }
        assert_eq!(foreign.ready().await, 0);
        foreign.delete().await;

        // A missing queue is created with the first item, with the right arguments.
        let own = Queue::unborn(&url).await;
        let publisher = parking(&own.name);
        within("a probe", publisher.probe()).await.expect("it may be missing");
        within("a confirm", publisher.publish(outgoing("body"))).await.expect("confirmed");
        within("a probe", publisher.probe()).await.expect("it is ours");
        eventually("the end of the wait", async || queue.ready().await == 1).await;
        own.delete().await;
        queue.delete().await;
    }
}

/// If a message still has the `x-death` of its first trip, RabbitMQ 3.10 takes the second trip for
/// a cycle and drops the message.
#[tokio::test]
async fn a_copy_survives_many_trips_through_a_parking_queue() {
    for url in brokers() {
        let queue = Queue::create(&url, QueueKind::Quorum).await;
        let own = Queue::unborn(&url).await;
        let delay = Duration::from_millis(100);
        let parking = to_queue(&url, &queue.name).parking(&own.name, delay, &queue.name).unwrap();
        queue.publish(b"item", lapin::BasicProperties::default().with_priority(3)).await;
        let mut bridge = Bridge::start(Source::new(queue.source(&url, 1)));
        let mut first = None;
        for trip in 0..4 {
            let delivery = bridge.delivery().await;
            let content = delivery.outline.identity.content();
            assert_eq!(*first.get_or_insert(content), content, "the copy is the same item");
            assert_eq!(delivery.outline.attempts_before, trip);
            let copy =
                copy(&delivery.message, "name", Mark([trip as u8; 16]), "seal", trip + 1, None, Parked(true));
            within("a confirm", parking.publish(copy)).await.expect("parked");
            bridge.settle(delivery.outline.id, Settlement::Ack).await;
        }
        let last = bridge.delivery().await;
        let Origin::Rabbitmq(origin) = &last.message.origin else { panic!("{last:?}") };
        assert_eq!(origin.properties.priority, Some(3));
        bridge.close().await;
        own.delete().await;
        queue.delete().await;
    }
}

#[tokio::test]
async fn connects_anew_after_a_cut() {
    let url = &brokers()[0];
    let queue = Queue::create(url, QueueKind::Quorum).await;
    let relay = Relay::start(address(url)).await;
    let publisher = to_queue(&through(url, relay.port()), &queue.name);
    within("a confirm", publisher.publish(outgoing("before"))).await.expect("confirmed");
    relay.cut_all();
    // The write notices the cut at the latest.
    eventually("a confirm", async || match publisher.publish(outgoing("after")).await {
        Ok(()) => true,
        Err(error) => {
            assert!(error.is_transient(), "{error}");
            false
        }
    })
    .await;
    queue.delete().await;
}
