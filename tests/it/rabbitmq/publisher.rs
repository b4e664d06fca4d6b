//! Confirmed writes: what counts as written, and what never will.

use futures_util::future::join_all;
use lapin::types::{AMQPValue, ShortString};
use longhaul::config::{QueueKind, RabbitmqTarget};
use longhaul::event::{Properties, Value};
use longhaul::publish::rabbitmq::Publisher;
use longhaul::publish::{Outgoing, Publisher as _};

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
        // The same publisher writes as soon as somebody has created the queue.
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
    assert!(!error.is_transient() && error.what.contains("frame"), "{error}");
    within("a confirm", publisher.publish(outgoing("body"))).await.expect("the publisher is unharmed");
    queue.delete().await;

    // RabbitMQ 3.10 takes 128 MiB, which is too much for a test; RabbitMQ 4 takes 16.
    for url in brokers().into_iter().skip(1) {
        let queue = Queue::create(&url, QueueKind::Classic).await;
        let publisher = to_queue(&url, &queue.name);
        let error = within("an answer", publisher.publish(outgoing(vec![0; 17 << 20]))).await.unwrap_err();
        assert!(!error.is_transient() && error.what.contains("larger than"), "{error}");
        within("a confirm", publisher.publish(outgoing("body"))).await.expect("a new channel");
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
    // The cut is noticed by the write at the latest.
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
