//! Makes faults of the configuration that the service reports. They cost no item, and the pipeline
//! tells why it stands still.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use longhaul::config::QueueKind;

use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::run::config;
use crate::support::process::Longhaul;
use crate::support::rabbitmq::{self as amqp, Queue};
use crate::support::worker::Worker;
use crate::support::{eventually, is_full_size};

/// The number of items.
fn items() -> usize {
    if is_full_size() { 500 } else { 60 }
}

/// How many requests the service accepts before the credential expires.
const ACCEPTED: usize = 30;

/// Returns the status and the text of `/readyz`.
async fn readyz(admin: SocketAddr) -> (StatusCode, String) {
    match crate::support::get(format!("http://{admin}/readyz")).await {
        Ok(answer) => (answer.status(), answer.text().await.unwrap_or_default()),
        Err(error) => (StatusCode::IM_A_TEAPOT, error.to_string()),
    }
}

/// Waits until `/readyz` answers 503 with a reason that contains these words.
async fn unready(admin: SocketAddr, words: &[&str]) {
    eventually("the reason on /readyz", async || {
        let (status, text) = readyz(admin).await;
        status == StatusCode::SERVICE_UNAVAILABLE && words.iter().all(|word| text.contains(word))
    })
    .await;
}

/// Lets a credential expire in the middle of the work, and renews it later.
async fn an_expired_credential(backlog: &impl Backlog, graveyard: &impl Backlog) {
    backlog.fill((0..items()).map(|number| format!("item {number}").into_bytes())).await;
    let accepts = Arc::new(AtomicUsize::new(ACCEPTED));
    let left = accepts.clone();
    let worker = Worker::with_answer(Duration::from_millis(5), move |_| {
        let accepted = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if accepted.is_ok() { StatusCode::OK } else { StatusCode::UNAUTHORIZED }.into_response()
    })
    .await;
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let more = format!(
        "    breaker: {{ open: 1s }}\n    dead_letter: {}\nadmin: {{ listen: \"{admin}\" }}\n",
        graveyard.target()
    );
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 4, &more));
    unready(admin, &["401", "sink"]).await;
    accepts.store(usize::MAX, Ordering::Relaxed);
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    eventually("the pipeline to be ready", async || readyz(admin).await.0 == StatusCode::OK).await;
    assert_eq!(graveyard.left().await, 0, "no item is dead-lettered");
    assert_eq!(worker.log().started.len(), items(), "every item reached the service");
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_items_outlast_an_expired_credential() {
    for url in amqp::brokers() {
        let backlog = Rabbitmq::of(Queue::create(&url, QueueKind::Quorum).await);
        let graveyard = Rabbitmq::of(Queue::create(&url, QueueKind::Quorum).await);
        an_expired_credential(&backlog, &graveyard).await;
        backlog.remove().await;
        graveyard.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_items_outlast_an_expired_credential() {
    let (backlog, graveyard) = (Kafka::create().await, Kafka::create().await);
    an_expired_credential(&backlog, &graveyard).await;
    backlog.remove().await;
    graveyard.remove().await;
}

/// The dead letter's queue is missing from the start, before any item needs it.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_missing_dead_letter_shows_before_an_item_needs_it() {
    let url = &amqp::brokers()[0];
    let backlog = Rabbitmq::of(Queue::create(url, QueueKind::Quorum).await);
    let worker = Worker::start(Duration::ZERO).await;
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let missing = format!("{}.dead", backlog.name());
    let more = format!(
        "    dead_letter: {{ rabbitmq: {{ queue: {missing} }} }}\nadmin: {{ listen: \"{admin}\" }}\n"
    );
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 4, &more));
    unready(admin, &[&missing, "dead_letter"]).await;
    bridge.stop().await;
    backlog.remove().await;
}

/// The reply queue exists and is full: it refuses every write.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_full_reply_queue_makes_the_pipeline_unready() {
    let url = &amqp::brokers()[0];
    let backlog = Rabbitmq::of(Queue::create(url, QueueKind::Quorum).await);
    let full = Queue::unborn(url).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(1));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let declared = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    full.channel.queue_declare(full.name.as_str().into(), declared, arguments).await.unwrap();
    backlog.fill((0..10).map(|number| format!("item {number}").into_bytes())).await;
    let worker = Worker::with_answer(Duration::ZERO, |_| "made".into_response()).await;
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let more = format!(
        "    reply: {{ wrap: true, rabbitmq: {{ queue: {} }} }}\nadmin: {{ listen: \"{admin}\" }}\n",
        full.name
    );
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 4, &more));
    unready(admin, &["cannot be written", &full.name]).await;
    let mut replies = 0;
    while replies < 10 {
        eventually("a reply", async || full.get().await.is_some()).await;
        replies += 1;
    }
    eventually("the pipeline to be ready", async || readyz(admin).await.0 == StatusCode::OK).await;
    assert_eq!(worker.log().second_runs(), 0);
    bridge.stop().await;
    full.delete().await;
    backlog.remove().await;
}
