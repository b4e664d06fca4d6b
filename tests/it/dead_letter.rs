//! Tests dead letters end to end: an item leaves its source only after the write is confirmed, and
//! the letter is whole.

mod last_resort;
pub mod restore;
mod target;

use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::support::app::Bridge;
use crate::support::eventually;
use crate::support::worker::Worker;
use target::{ClosedPort, KafkaTopic, RabbitmqQueue, Refusing, Target};

const ITEMS: usize = 10;
/// How long a target stays down after the first item is due to be written to it.
const DOWN: Duration = Duration::from_secs(2);

macro_rules! down_for_a_while {
    ($($name:ident: $source:ty => $target:ty),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread")] async fn $name() { nothing_is_acked_while_the_target_is_down::<$source, $target>().await; })*
    };
}

down_for_a_while!(
    rabbitmq_to_a_lost_rabbitmq: Rabbitmq => RabbitmqQueue,
    rabbitmq_to_a_lost_kafka: Rabbitmq => KafkaTopic,
    rabbitmq_to_a_closed_port: Rabbitmq => ClosedPort,
    rabbitmq_to_a_service_that_refuses: Rabbitmq => Refusing,
    kafka_to_a_lost_rabbitmq: Kafka => RabbitmqQueue,
    kafka_to_a_lost_kafka: Kafka => KafkaTopic,
    kafka_to_a_closed_port: Kafka => ClosedPort,
);

/// Returns the expected body of each item.
fn bodies(range: std::ops::Range<usize>) -> BTreeSet<Vec<u8>> {
    range.map(|number| format!("item {number}").into_bytes()).collect()
}

fn config(source: &str, worker: &Worker, dead_letter: &str) -> String {
    format!(
        "pipelines:\n  - name: test\n    source: {source}\n    sink: {{ url: \"{}\" }}\n    max_in_flight: {ITEMS}\n    dead_letter: {dead_letter}\n",
        worker.url
    )
}

async fn nothing_is_acked_while_the_target_is_down<B: Backlog, T: Target>() {
    let backlog = B::create().await;
    let mut target = T::down().await;
    backlog.fill(bodies(0..ITEMS).into_iter()).await;
    let worker = Worker::with_verdict(Duration::ZERO, |_| StatusCode::UNPROCESSABLE_ENTITY).await;
    let bridge = Bridge::start(&config(&backlog.source(), &worker, &target.config())).await;
    eventually("all items to be rejected", async || worker.done() == ITEMS).await;
    // The test shows that nothing happens in this time. It has no event to wait for.
    tokio::time::sleep(DOWN).await;
    assert_eq!(bridge.acked(), 0, "acked before the write");
    assert_eq!(target.letters().await, BTreeSet::new());

    target.up().await;
    eventually("all letters", async || target.letters().await == bodies(0..ITEMS)).await;
    // An ack that is lost with its session is counted again.
    eventually("all acks", async || bridge.acked() >= ITEMS as u64).await;
    // A new item still passes afterwards.
    backlog.fill([b"fresh".to_vec()].into_iter()).await;
    eventually("the fresh letter", async || target.letters().await.contains(&b"fresh"[..])).await;
    bridge.stop().await;
    assert_eq!(backlog.left().await, 0);
    let runs: u32 = worker.log().started.values().sum();
    assert_eq!(runs as usize, ITEMS + 1, "a failed write is repeated, and not the work");
    backlog.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_gets_the_event_and_why_it_failed() {
    let backlog = Rabbitmq::create().await;
    backlog.fill([vec![0xff, 0x00]].into_iter()).await;
    let answer = |_: &[u8]| (StatusCode::UNPROCESSABLE_ENTITY, "no such album").into_response();
    let worker = Worker::with_answer(Duration::ZERO, answer).await;
    let graveyard = Worker::start(Duration::ZERO).await;
    let target = format!("{{ http: {{ url: \"{}\" }} }}", graveyard.url);
    let bridge = Bridge::start(&config(&backlog.source(), &worker, &target)).await;
    eventually("the letter", async || graveyard.done() == 1).await;
    eventually("the ack", async || bridge.acked() == 1).await;
    bridge.stop().await;
    let log = graveyard.log();
    let (id, headers) = log.headers.first_key_value().unwrap();
    let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap());
    assert_eq!((id.as_str(), &log.bodies[id]), ("id-0", &vec![0xff, 0x00]));
    assert_eq!(header("ce-type"), "dev.knative.rabbitmq.event");
    assert_eq!((header("ce-knativeerrordest"), header("ce-knativeerrorcode")), (&*worker.url, "422"));
    assert_eq!(header("ce-knativeerrordata"), BASE64_STANDARD.encode("no such album"));
    assert_eq!((header("ce-longhaulreason"), header("ce-longhaulattempts")), ("rejected", "1"));
    assert!(!headers.contains_key("ce-attempt"), "{headers:?}");
    backlog.remove().await;
}
