//! Targets that lead back to their own source in a way that no check of the file can see: each item
//! goes round a bounded number of times, and is then kept.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use lapin::BasicProperties;
use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions};
use lapin::types::{AMQPValue, FieldTable};
use longhaul::config::QueueKind;

use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::run::config;
use crate::support::eventually;
use crate::support::process::Longhaul;
use crate::support::rabbitmq::{Queue, brokers};
use crate::support::worker::Worker;

/// An item runs once before its first hop, and once after each.
const RUNS: u32 = 18;

/// A queue, and an exchange that is bound to it in the broker only.
async fn bound(url: &str) -> (Rabbitmq, String) {
    let queue = Queue::create(url, QueueKind::Quorum).await;
    let exchange = format!("{}-exchange", queue.name);
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let (kind, none) = (lapin::ExchangeKind::Fanout, FieldTable::default());
    let declared = queue.channel.exchange_declare(exchange.as_str().into(), kind, options, none.clone());
    declared.await.unwrap();
    let (name, options) = (queue.name.as_str().into(), QueueBindOptions::default());
    queue.channel.queue_bind(name, exchange.as_str().into(), "".into(), options, none).await.unwrap();
    (Rabbitmq::of(queue), exchange)
}

async fn unbind(backlog: Rabbitmq, exchange: String) {
    let options = ExchangeDeleteOptions::default();
    backlog.0.channel.exchange_delete(exchange.as_str().into(), options).await.unwrap();
    backlog.remove().await;
}

fn runs(worker: &Worker) -> u32 {
    worker.log().started.values().sum()
}

fn refuses() -> impl Future<Output = Worker> {
    Worker::with_verdict(Duration::ZERO, |_| StatusCode::UNPROCESSABLE_ENTITY)
}

/// The item is held, with the reason and the way out.
async fn is_held(bridge: &Longhaul, worker: &Worker) {
    eventually("the loop to be named", async || bridge.log().contains("seems to lead back")).await;
    assert_eq!(runs(worker), RUNS, "{}", bridge.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_comes_back_through_a_binding_is_held() {
    for url in brokers() {
        let (backlog, exchange) = bound(&url).await;
        backlog.fill(std::iter::once(b"item".to_vec())).await;
        let worker = refuses().await;
        let more = format!(
            "    breaker: {{ failures: 0 }}\n    dead_letter: {{ rabbitmq: {{ exchange: {exchange} }} }}\n"
        );
        let bridge = Longhaul::run(&config(&backlog.source(), &worker, 4, &more));
        is_held(&bridge, &worker).await;
        // Another item still gets its runs.
        backlog.fill(std::iter::once(b"other".to_vec())).await;
        eventually("the other item", async || runs(&worker) == 2 * RUNS).await;
        bridge.stop().await;
        eventually("both items to be in the queue again", async || backlog.left().await == 2).await;
        unbind(backlog, exchange).await;
    }
}

/// A producer writes a count that would hold its item, with a code of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_count_that_a_producer_wrote_has_no_effect() {
    for url in brokers() {
        let backlog = Rabbitmq::of(Queue::create(&url, QueueKind::Quorum).await);
        let graveyard = Rabbitmq::of(Queue::create(&url, QueueKind::Quorum).await);
        let mut headers = FieldTable::default();
        headers.insert("longhaul-hops".into(), AMQPValue::LongLongInt(99));
        let seal = format!("deadbeef:99:{}", "0".repeat(32));
        headers.insert("longhaul-hops-seal".into(), AMQPValue::LongString(seal.into()));
        backlog.0.publish(b"item", BasicProperties::default().with_headers(headers)).await;
        let worker = refuses().await;
        let more = format!("    dead_letter: {}\n", graveyard.target());
        let bridge = Longhaul::run(&config(&backlog.source(), &worker, 4, &more));
        eventually("the dead letter", async || graveyard.left().await == 1).await;
        bridge.stop().await;
        assert_eq!(graveyard.take().await["longhaul-hops"], "1");
        assert_eq!(runs(&worker), 1);
        backlog.remove().await;
        graveyard.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_comes_back_through_a_binding_goes_to_the_dead_letter() {
    let url = &brokers()[0];
    let (backlog, exchange) = bound(url).await;
    let graveyard = Rabbitmq::of(Queue::create(url, QueueKind::Quorum).await);
    backlog.fill(std::iter::once(b"item".to_vec())).await;
    let worker = Worker::with_answer(Duration::ZERO, |_| "made".into_response()).await;
    let more = format!(
        "    reply: {{ wrap: true, rabbitmq: {{ exchange: {exchange} }} }}\n    dead_letter: {}\n",
        graveyard.target()
    );
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 4, &more));
    eventually("the dead letter", async || graveyard.left().await == 1).await;
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    bridge.stop().await;
    assert_eq!(runs(&worker), RUNS - 1);
    assert_eq!(graveyard.take().await["longhaul-hops"], "17");
    unbind(backlog, exchange).await;
    graveyard.remove().await;
}

/// The dead letters of one pipeline are records, and those of the other are messages for the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_comes_back_through_kafka_is_held() {
    let (queue, topic) = (Rabbitmq::create().await, Kafka::create().await);
    queue.fill(std::iter::once(b"item".to_vec())).await;
    let worker = refuses().await;
    let first = config(
        &queue.source(),
        &worker,
        4,
        &format!("    breaker: {{ failures: 0 }}\n    dead_letter: {}\n", topic.target()),
    );
    let second = config(
        &topic.source(),
        &worker,
        4,
        &format!("    breaker: {{ failures: 0 }}\n    dead_letter: {}\n", queue.target()),
    );
    let second = second.replace("pipelines:\n", "").replace("name: test", "name: back");
    let bridge = Longhaul::run(&format!("{first}{second}"));
    is_held(&bridge, &worker).await;
    bridge.stop().await;
    queue.remove().await;
    topic.remove().await;
}
