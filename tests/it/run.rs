//! Tests the main job end to end: the program, a real broker, a worker.

pub mod backlog;

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use longhaul::config::QueueKind;

use crate::support::eventually;
use crate::support::process::Longhaul;
use crate::support::rabbitmq::{self as amqp, Queue};
use crate::support::relay::Relay;
use crate::support::worker::Worker;
use backlog::{Backlog, Kafka, Rabbitmq};

/// Makes a test of each case for both brokers.
macro_rules! for_both {
    ($($case:ident),*) => {
        mod rabbitmq { $(#[tokio::test(flavor = "multi_thread")] async fn $case() { super::$case::<super::Rabbitmq>().await; })* }
        mod kafka { $(#[tokio::test(flavor = "multi_thread")] async fn $case() { super::$case::<super::Kafka>().await; })* }
    };
}

for_both!(
    all_items_are_done_once_and_never_too_many_at_once,
    a_killed_bridge_loses_nothing,
    a_drain_cuts_nothing_short,
    rejected_items_go_to_the_dead_letter,
    odd_bodies_go_through_whole,
    a_rate_holds_across_a_restart
);

pub fn config(source: &str, worker: &Worker, max_in_flight: usize, more: &str) -> String {
    config_of(source, &worker.url, max_in_flight, more)
}

/// The same for a service of another kind.
pub fn config_of(source: &str, sink: &str, max_in_flight: usize, more: &str) -> String {
    format!(
        "pipelines:\n  - name: test\n    source: {source}\n    sink: {{ url: \"{sink}\" }}\n    max_in_flight: {max_in_flight}\n{more}"
    )
}

async fn all_items_are_done_once_and_never_too_many_at_once<B: Backlog>() {
    let backlog = B::create().await;
    backlog.fill((0..100).map(|number| format!("item {number}").into_bytes())).await;
    let worker = Worker::held().await;
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 20, ""));
    eventually("all slots to be taken", async || worker.log().open == 20).await;
    for done in (10..90).step_by(10) {
        worker.release(10);
        eventually("the next items", async || worker.done() == done && worker.log().open == 20).await;
    }
    worker.release_all();
    eventually("all items to be done", async || worker.done() == 100).await;
    bridge.stop().await;
    let log = worker.log();
    assert_eq!((log.second_runs(), log.most_open), (0, 20), "{:?}", log.started);
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    backlog.remove().await;
}

/// Items that end immediately before the kill.
const UNCOMMITTED: u32 = 10;

/// A kill costs the items in flight, and on Kafka those that ended within one commit interval.
async fn a_killed_bridge_loses_nothing<B: Backlog>() {
    let backlog = B::create().await;
    backlog.fill((0..100).map(|number| format!("item {number}").into_bytes())).await;
    let worker = Worker::held().await;
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 20, ""));
    // The first ten are committed long before the kill. The last ten may be committed or not.
    worker.release(10);
    eventually("the broker to know of ten", async || backlog.settled(20).await >= 10).await;
    worker.release(UNCOMMITTED as usize);
    eventually("more items to be done", async || worker.done() == 10 + UNCOMMITTED as usize).await;
    eventually("all slots to be taken", async || worker.log().open == 20).await;
    bridge.kill().await;
    worker.release_all();
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 20, ""));
    eventually("all items to be done", async || worker.done() == 100).await;
    bridge.stop().await;
    let second_runs = worker.log().second_runs();
    assert!((20..=20 + UNCOMMITTED).contains(&second_runs), "{second_runs} second runs");
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    backlog.remove().await;
}

async fn a_drain_cuts_nothing_short<B: Backlog>() {
    let backlog = B::create().await;
    backlog.fill((0..50).map(|number| format!("item {number}").into_bytes())).await;
    let worker = Worker::held().await;
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 20, ""));
    eventually("all slots to be taken", async || worker.log().open == 20).await;
    bridge.terminate();
    eventually("the drain", async || bridge.log().contains("Draining")).await;
    worker.release_all();
    bridge.drained().await;
    let log = worker.log();
    assert_eq!((log.started.len(), log.finished.len(), log.second_runs()), (20, 20, 0));
    eventually("30 items to be left", async || backlog.left().await == 30).await;
    backlog.remove().await;
}

async fn rejected_items_go_to_the_dead_letter<B: Backlog>() {
    let (backlog, graveyard) = (B::create().await, B::create().await);
    backlog.fill((0..20u8).map(|number| vec![number])).await;
    let odd = |body: &[u8]| if body[0] % 2 == 1 { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let worker = Worker::with_verdict(Duration::from_millis(10), odd).await;
    let more = format!("    dead_letter: {}\n", graveyard.target());
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 5, &more));
    eventually("ten dead letters", async || graveyard.left().await == 10).await;
    eventually("the broker to be empty", async || worker.done() == 20 && backlog.left().await == 0).await;
    bridge.stop().await;
    assert_eq!(worker.log().second_runs(), 0);
    let letter = graveyard.take().await;
    assert_eq!(letter["longhaul-reason"], "rejected");
    assert_eq!((letter["longhaul-code"].as_str(), letter["longhaul-attempts"].as_str()), ("422", "1"));
    backlog.remove().await;
    graveyard.remove().await;
}

async fn odd_bodies_go_through_whole<B: Backlog>() {
    let bodies = vec![Vec::new(), vec![0xff, 0xfe, 0x00], vec![b'x'; 1_000_000]];
    let backlog = B::create().await;
    backlog.fill(bodies.clone().into_iter()).await;
    let worker = Worker::start(Duration::from_millis(10)).await;
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 2, ""));
    eventually("all items to be done", async || worker.done() == 3).await;
    bridge.stop().await;
    let mut seen: Vec<Vec<u8>> = worker.log().bodies.into_values().collect();
    seen.sort_by_key(Vec::len);
    assert!(seen == bodies, "lengths {:?}", seen.iter().map(Vec::len).collect::<Vec<_>>());
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    backlog.remove().await;
}

/// A slow machine delays requests, and never makes them early. So the test checks that each request
/// came no earlier than the rate allows, counted from the start of the process.
async fn a_rate_holds_across_a_restart<B: Backlog>() {
    let every = Duration::from_millis(100);
    let backlog = B::create().await;
    backlog.fill((0..20u8).map(|number| vec![number])).await;
    let worker = Worker::start(Duration::ZERO).await;
    let config = config(&backlog.source(), &worker, 20, "    rate: 10/s\n");
    let mut began = Instant::now();
    let bridge = Longhaul::run(&config);
    eventually("the broker to know of half of the items", async || backlog.settled(0).await >= 10).await;
    bridge.kill().await;
    let before = worker.log().times;
    let is_early = |began: Instant, (number, at): (u32, &Instant)| {
        // The bridge makes up for up to 50 ms of its own delays.
        at.duration_since(began) + Duration::from_millis(50) < every * number + every / 2
    };
    assert!(!(0..).zip(&before).any(|request| is_early(began, request)), "{before:?}");
    began = Instant::now();
    let bridge = Longhaul::run(&config);
    eventually("all items to be done", async || worker.done() == 20 && backlog.left().await == 0).await;
    bridge.stop().await;
    let after = &worker.log().times[before.len()..];
    assert!(!(0..).zip(after).any(|request| is_early(began, request)), "{after:?}");
    backlog.remove().await;
}

/// A hand-written bridge makes 24 runs in this case.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_connection_cut_three_times_runs_nothing_twice() {
    for url in amqp::brokers() {
        let queue = Queue::create(&url, QueueKind::Quorum).await;
        let backlog = Rabbitmq::of(queue);
        backlog.fill((0..8).map(|number| format!("item {number}").into_bytes())).await;
        let worker = Worker::held().await;
        let relay = Relay::start(amqp::address(&url)).await;
        let source = backlog.source_at(&amqp::through(&url, relay.port()));
        let bridge = Longhaul::run(&config(&source, &worker, 8, ""));
        eventually("all slots to be taken", async || worker.log().open == 8).await;
        for cut in 1..=3 {
            relay.cut_all();
            let adopted = || bridge.log().matches("Redelivery adopted").count();
            eventually("the redeliveries to be adopted", async || adopted() >= 8 * cut).await;
        }
        worker.release_all();
        eventually("all items to be done", async || worker.done() == 8).await;
        bridge.stop().await;
        assert_eq!(worker.log().started.values().sum::<u32>(), 8, "calls");
        eventually("the broker to be empty", async || backlog.left().await == 0).await;
        backlog.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_wrong_password_is_reported_and_tried_again() {
    let url = &amqp::brokers()[0];
    let mut wrong = url::Url::parse(url).unwrap();
    wrong.set_password(Some("hunter2")).unwrap();
    let source = format!("{{ rabbitmq: {{ url: \"{wrong}\", queue: any }} }}");
    let worker = Worker::start(Duration::ZERO).await;
    let bridge = Longhaul::run(&config(&source, &worker, 1, ""));
    eventually("the problem", async || bridge.log().contains("source-refused")).await;
    let log = bridge.log();
    assert!(log.contains("ACCESS_REFUSED") && log.contains("password") && !log.contains("hunter2"), "{log}");
    bridge.stop().await;
}
