//! Tests replies end to end: the worker's answers go over real brokers and are confirmed before the
//! ack.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cloudevents::AttributesReader;
use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions};
use lapin::types::FieldTable;
use longhaul::config::QueueKind;
use longhaul::event::{Message, Parts, decode};

use crate::kafka::support::Broker;
use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::support::app::Bridge;
use crate::support::rabbitmq::{self as amqp, Queue};
use crate::support::worker::Worker;
use crate::support::{eventually, within};

const DOCUMENT: &str = r#"{"specversion":"1.0","id":"of the structured","source":"/worker","type":"made","datacontenttype":"text/plain","data":"made"}"#;

/// Returns the answer to each body.
fn answer(body: &[u8]) -> Response {
    let event = |name: &'static str, value: &'static str| (name, value);
    match body {
        b"binary" => {
            let attributes = [
                event("ce-specversion", "1.0"),
                event("ce-id", "of the binary"),
                event("ce-source", "/worker"),
                event("ce-type", "made"),
                event("content-type", "text/plain"),
            ];
            (attributes, "made").into_response()
        }
        b"structured" => ([event("content-type", "application/cloudevents+json")], DOCUMENT).into_response(),
        b"plain" => ([event("content-type", "text/plain")], "made").into_response(),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

fn config(source: &str, worker: &Worker, reply: &str) -> String {
    format!(
        "pipelines:\n  - name: test\n    source: {source}\n    sink: {{ url: \"{}\" }}\n    max_in_flight: 4\n    reply: {reply}\n",
        worker.url
    )
}

/// Returns the key `reply` with this target and `wrap`.
fn reply(target: &str, wrap: &str) -> String {
    target.replacen('{', &format!("{{ wrap: {wrap},"), 1)
}

/// Runs an item of each kind through a bridge, and expects that all are acked.
async fn run(source: &impl Backlog, reply: &str) {
    source.fill(["binary", "structured", "plain", "none"].into_iter().map(|body| body.into())).await;
    let worker = Worker::with_answer(Duration::ZERO, answer).await;
    let bridge = Bridge::start(&config(&source.source(), &worker, reply)).await;
    eventually("all acks", async || bridge.acked() == 4).await;
    bridge.stop().await;
    assert_eq!(worker.log().second_runs(), 0);
    assert_eq!(source.left().await, 0);
}

/// Returns the events by id, with their data, as a bridge behind the target reads them.
fn events(messages: &[Arc<Message>]) -> BTreeMap<String, Parts> {
    let event = |message: &Arc<Message>| decode(message, String::new).unwrap().expect("a CloudEvent");
    messages.iter().map(event).map(|parts| (parts.event.id().to_owned(), parts)).collect()
}

async fn replies_are_written<S: Backlog, T: Backlog>() {
    for (wrap, count) in [("false", 2), ("true", 3)] {
        let (source, target) = (S::create().await, T::create().await);
        run(&source, &reply(&target.target(), wrap)).await;
        assert_eq!(target.left().await, count as u64);
        let messages = target.messages(count).await;
        let events = events(&messages);
        for id in ["of the binary", "of the structured"] {
            let Parts { event, data } = &events[id];
            assert_eq!(
                (event.ty(), event.source().as_str(), data.as_ref()),
                ("made", "/worker", &b"made"[..])
            );
            assert_eq!(event.datacontenttype(), Some("text/plain"));
        }
        let as_document = |message: &Arc<Message>| message.body == DOCUMENT;
        assert_eq!(messages.iter().filter(|message| as_document(message)).count(), 1, "its form is kept");
        if count == 3 {
            let wrapped = |(id, parts): (&String, &Parts)| id.ends_with("/reply") && parts.data == "made";
            assert!(events.iter().any(wrapped), "{events:?}");
        }
        source.remove().await;
        target.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_to_rabbitmq() {
    replies_are_written::<Rabbitmq, Rabbitmq>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_to_kafka() {
    replies_are_written::<Rabbitmq, Kafka>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_to_rabbitmq() {
    replies_are_written::<Kafka, Rabbitmq>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_to_kafka() {
    replies_are_written::<Kafka, Kafka>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_gets_the_routing_key() {
    let (source, queue) =
        (Rabbitmq::create().await, Queue::create(&amqp::brokers()[0], QueueKind::Quorum).await);
    let exchange = format!("{}-exchange", queue.name);
    let (channel, none) = (&queue.channel, FieldTable::default);
    let (options, kind) = (ExchangeDeclareOptions::default(), lapin::ExchangeKind::Topic);
    let declaring = channel.exchange_declare(exchange.as_str().into(), kind, options, none());
    within("an exchange", declaring).await.unwrap();
    let (name, options) = (queue.name.as_str().into(), QueueBindOptions::default());
    let binding = channel.queue_bind(name, exchange.as_str().into(), "done.*".into(), options, none());
    within("a binding", binding).await.unwrap();

    let target = format!("{{ rabbitmq: {{ exchange: {exchange}, routing_key: done.thumbs }} }}");
    run(&source, &target).await;
    let mut of_items = Vec::new();
    while let Some(written) = queue.get().await {
        assert_eq!(written.routing_key.as_str(), "done.thumbs");
        of_items.push(written.properties.correlation_id().as_ref().unwrap().to_string());
    }
    of_items.sort();
    assert_eq!(of_items, ["id-0", "id-1"], "each says what it answers");
    let deleting = queue.channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default());
    within("a deletion", deleting).await.unwrap();
    queue.delete().await;
    source.remove().await;
}

/// A target of replies that does not exist yet.
trait Missing {
    async fn name() -> Self;
    fn config(&self) -> String;
    async fn create(&self);
    async fn replies(&self) -> usize;
}

impl Missing for Queue {
    async fn name() -> Self {
        Queue::unborn(&amqp::brokers()[0]).await
    }

    fn config(&self) -> String {
        format!("{{ rabbitmq: {{ url: \"{}\", queue: {} }} }}", self.url, self.name)
    }

    async fn create(&self) {
        self.declare(QueueKind::Quorum).await;
    }

    async fn replies(&self) -> usize {
        self.ready().await as usize
    }
}

impl Missing for Broker {
    async fn name() -> Self {
        Broker::real("reply")
    }

    fn config(&self) -> String {
        format!("{{ kafka: {{ bootstrap_servers: [\"{}\"], topic: {} }} }}", self.bootstrap, self.name)
    }

    async fn create(&self) {
        self.create_topic(&self.name, 1).await;
    }

    async fn replies(&self) -> usize {
        let mut source = self.start(&[&self.name]);
        let taken = source.take(1).await;
        source.close().await;
        taken.len()
    }
}

async fn an_unconfirmed_reply_keeps_its_item<S: Backlog, T: Missing>() {
    let (source, target) = (S::create().await, T::name().await);
    source.fill([b"binary".to_vec()].into_iter()).await;
    let worker = Worker::with_answer(Duration::ZERO, answer).await;
    let bridge = Bridge::start(&config(&source.source(), &worker, &target.config())).await;
    let failures = || bridge.count("longhaul_write_failures_total", "");
    eventually("a reply that is not confirmed", async || failures() >= 1).await;
    // The test shows that nothing happens in this time. It has no event to wait for.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((bridge.acked(), worker.log().started.len()), (0, 1));

    target.create().await;
    eventually("the ack", async || bridge.acked() == 1).await;
    assert_eq!(target.replies().await, 1);
    bridge.stop().await;
    assert_eq!(worker.log().second_runs(), 0, "the write is repeated, and not the work");
    assert_eq!(source.left().await, 0);
    source.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_queue_keeps_the_item() {
    an_unconfirmed_reply_keeps_its_item::<Kafka, Queue>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_keeps_the_item() {
    an_unconfirmed_reply_keeps_its_item::<Rabbitmq, Broker>().await;
}

/// A reply that can never be written: the work is done once, and its item goes to the dead letter
/// with the reason.
async fn a_defective_reply_goes_to_the_dead_letter<S: Backlog>() {
    let (source, target, graveyard) = (S::create().await, S::create().await, S::create().await);
    source.fill(std::iter::once(b"item".to_vec())).await;
    let attributes = [
        ("ce-specversion", "1.0"),
        ("ce-id", "reply"),
        ("ce-source", "/worker"),
        ("ce-type", "made"),
        ("ce-time", "yesterday"),
    ];
    let worker = Worker::with_answer(Duration::ZERO, move |_| (attributes, "made").into_response()).await;
    let text = config(&source.source(), &worker, &reply(&target.target(), "false"));
    let bridge = Bridge::start(&format!("{text}    dead_letter: {}\n", graveyard.target())).await;
    eventually("the dead letter", async || graveyard.left().await == 1).await;
    eventually("the ack", async || bridge.acked() == 1).await;
    bridge.stop().await;
    assert_eq!((source.left().await, target.left().await, worker.log().second_runs()), (0, 0, 0));
    let letter = graveyard.take().await;
    assert_eq!(letter["longhaul-reason"], "rejected");
    assert!(letter["longhaul-detail"].contains("time"), "{letter:?}");
    source.remove().await;
    target.remove().await;
    graveyard.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_defective_reply_goes_to_the_dead_letter() {
    a_defective_reply_goes_to_the_dead_letter::<Rabbitmq>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_defective_reply_goes_to_the_dead_letter() {
    a_defective_reply_goes_to_the_dead_letter::<Kafka>().await;
}
