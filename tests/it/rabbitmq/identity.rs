//! Puts items without an id beside other consumers: if two items cannot be told apart, both run.

use axum::http::StatusCode;
use lapin::BasicProperties;
use lapin::options::{BasicGetOptions, BasicNackOptions};
use lapin::types::{AMQPValue, FieldTable};
use longhaul::config::QueueKind;
use longhaul::delivery::Settlement;
use longhaul::source::rabbitmq::Source;

use crate::run::backlog::{Backlog, Rabbitmq};
use crate::run::config;
use crate::support::bridge::Bridge;
use crate::support::process::Longhaul;
use crate::support::rabbitmq::{Queue, address, brokers, through};
use crate::support::relay::{Mode, Relay};
use crate::support::worker::Worker;
use crate::support::{eventually, within};

#[tokio::test]
async fn an_item_is_shared_once_another_consumer_was_there() {
    for url in brokers() {
        let queue = Queue::create(&url, QueueKind::Quorum).await;
        queue.publish(b"bytes", BasicProperties::default()).await;
        let relay = Relay::start(address(&url)).await;
        let mut first = Bridge::start(Source::new(queue.source(&through(&url, relay.port()), 1)));
        let alone = first.delivery().await;
        assert!(!alone.outline.shared);

        // The only consumer gets its own item again after a cut.
        relay.cut_all();
        first.loss().await;
        let again = first.delivery().await;
        assert!(again.outline.redelivered && !again.outline.shared, "{:?}", again.outline);
        assert_eq!(again.outline.identity, alone.outline.identity);

        // After the next cut another consumer gets it.
        let mut second = Bridge::start(Source::new(queue.source(&url, 1)));
        second.up().await;
        relay.cut_all();
        let elsewhere = second.delivery().await;
        assert!(elsewhere.outline.shared, "{:?}", elsewhere.outline);
        second.settle(elsewhere.outline.id, Settlement::Ack).await;
        first.up().await;
        queue.publish(b"bytes", BasicProperties::default()).await;
        queue.publish(b"bytes", BasicProperties::default()).await;
        let new = first.delivery().await;
        assert_eq!(new.outline.identity, alone.outline.identity);
        first.settle(new.outline.id, Settlement::Return).await;
        let returned = first.delivery().await;
        assert!(returned.outline.redelivered && returned.outline.shared, "{:?}", returned.outline);
        first.close().await;
        second.close().await;
        queue.delete().await;
    }
}

/// A loses its connection while it runs the item, and B runs and acks the item. Then the same bytes
/// arrive again, after one return: this is another item, and A must run it.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_item_that_looks_like_a_finished_one_runs() {
    for url in brokers() {
        let backlog = Rabbitmq::of(Queue::create(&url, QueueKind::Quorum).await);
        let queue = &backlog.0;
        let slow = Worker::start(std::time::Duration::from_secs(6)).await;
        let fast = Worker::with_verdict(std::time::Duration::from_millis(50), |_| StatusCode::OK).await;
        let relay = Relay::start(address(&url)).await;
        let a = Longhaul::run(&config(&backlog.source_at(&through(&url, relay.port())), &slow, 1, ""));
        eventually("A", async || a.log().contains("is up")).await;
        queue.publish(b"bytes", BasicProperties::default()).await;
        eventually("A to run the item", async || slow.log().open == 1).await;
        let b = Longhaul::run(&config(&backlog.source(), &fast, 1, ""));
        eventually("A to see B", async || a.log().contains("Another consumer")).await;
        relay.set(Mode::Refuse);
        relay.cut_all();
        eventually("B to have run it", async || fast.done() == 1).await;
        eventually("the queue to be empty", async || backlog.left().await == 0).await;
        b.stop().await;
        queue.publish(b"bytes", BasicProperties::default()).await;
        let got = queue.channel.basic_get(queue.name.as_str().into(), BasicGetOptions::default());
        let got = within("basic.get", got).await.unwrap().expect("the new item");
        let options = BasicNackOptions { requeue: true, multiple: false };
        within("a nack", queue.channel.basic_nack(got.delivery.delivery_tag, options)).await.unwrap();
        relay.set(Mode::Pass);
        eventually("A to have run both", async || slow.done() == 2).await;
        eventually("the broker to be empty", async || backlog.left().await == 0).await;
        // A drain would wait for a redelivery that takes the first result.
        a.kill().await;
        backlog.remove().await;
    }
}

/// Any producer can set the bridge's own headers. They settle nothing, so every message runs.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_messages_with_one_id_and_forged_marks_all_run() {
    const EACH: usize = 20;
    for url in brokers() {
        let backlog = Rabbitmq::of(Queue::create(&url, QueueKind::Quorum).await);
        let table = |headers: &[(&str, &str)]| {
            let mut table = FieldTable::default();
            for (name, value) in headers {
                table.insert((*name).into(), AMQPValue::LongString((*value).into()));
            }
            BasicProperties::default().with_headers(table)
        };
        let mark = "2a".repeat(16);
        for _ in 0..EACH {
            let id = ("longhaul-id", "same");
            backlog.0.publish(b"id", table(&[id])).await;
            backlog.0.publish(b"mark", table(&[id, ("longhaul-copy", &mark)])).await;
            backlog.0.publish(b"attempts", table(&[id, ("longhaul-attempts", "99")])).await;
        }
        let worker = Worker::with_verdict(std::time::Duration::from_millis(5), |_| StatusCode::OK).await;
        let bridge = Longhaul::run(&config(&backlog.source(), &worker, 5, ""));
        eventually("the broker to be empty", async || backlog.left().await == 0).await;
        bridge.stop().await;
        let runs: u32 = worker.log().started.values().sum();
        assert_eq!(runs as usize, 3 * EACH);
        backlog.remove().await;
    }
}
