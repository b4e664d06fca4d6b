//! Tests attempts that survive the bridge, waits in the broker, and a breaker that keeps items out
//! of the dead letter.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use longhaul::config::QueueKind;

use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::run::config;
use crate::support::eventually;
use crate::support::process::Longhaul;
use crate::support::rabbitmq::{self as amqp, Queue};
use crate::support::relay::Relay;
use crate::support::worker::Worker;

const FAILS: fn(&[u8]) -> StatusCode = |_| StatusCode::INTERNAL_SERVER_ERROR;

/// Most of the time of these tests goes into waits, so the brokers share it.
async fn on_each_broker(test: impl AsyncFn(String)) {
    futures_util::future::join_all(amqp::brokers().into_iter().map(|url| test(url))).await;
}

/// Killed after each failed attempt, while the next one waits.
///
/// `noted` tells when the broker has stored everything that it can store about an attempt.
async fn killed_between_attempts(
    backlog: &impl Backlog,
    graveyard: &impl Backlog,
    more: &str,
    noted: impl Fn(&Longhaul, u32) -> bool,
) {
    backlog.fill(std::iter::once(b"item".to_vec())).await;
    let worker = Worker::with_verdict(Duration::from_millis(50), FAILS).await;
    // Long enough for a slow machine to notice and to kill before the next attempt starts.
    let retry = "retry: { attempts: 3, backoff: 10s, backoff_max: 10s";
    let text = config(
        &backlog.source(),
        &worker,
        1,
        &format!("    {retry}{more} }}\n    dead_letter: {}\n", graveyard.target()),
    );
    for attempt in 1..=2u32 {
        let bridge = Longhaul::run_with(&text, "info,longhaul=debug", &[]);
        let runs = || worker.log().started.values().sum::<u32>();
        eventually("an attempt", async || runs() >= attempt && noted(&bridge, attempt)).await;
        bridge.kill().await;
    }
    let bridge = Longhaul::run(&text);
    eventually("the dead letter", async || graveyard.left().await == 1).await;
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    bridge.stop().await;
    let letter = graveyard.take().await;
    assert_eq!((letter["longhaul-reason"].as_str(), letter["longhaul-attempts"].as_str()), ("attempts", "3"));
    assert_eq!(worker.log().started.values().sum::<u32>(), 3, "worker runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_attempts_survive_a_kill_by_the_count_of_returns() {
    on_each_broker(async |url| {
        let backlog = Rabbitmq::of(Queue::create(&url, QueueKind::Quorum).await);
        let graveyard = Rabbitmq::of(Queue::create(&url, QueueKind::Quorum).await);
        killed_between_attempts(&backlog, &graveyard, "", |bridge, _| {
            bridge.log().contains("will be tried again")
        })
        .await;
        backlog.remove().await;
        graveyard.remove().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_attempts_survive_a_kill_in_the_parking_queue() {
    on_each_broker(async |url| {
        // A classic queue counts no returns.
        let backlog = Rabbitmq::of(Queue::create(&url, QueueKind::Classic).await);
        let graveyard = Rabbitmq::of(Queue::create(&url, QueueKind::Quorum).await);
        let parking = format!(", queue: {}.retry", backlog.name());
        // A kill between the confirm and the ack would rightly leave two items.
        let acked = |bridge: &Longhaul, _| bridge.log().contains("Settled");
        killed_between_attempts(&backlog, &graveyard, &parking, acked).await;
        backlog.remove().await;
        graveyard.remove().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_attempts_survive_a_kill_in_the_committed_metadata() {
    let (backlog, graveyard) = (Kafka::create().await, Kafka::create().await);
    let noted = |_: &Longhaul, attempt: u32| backlog.attempts() == attempt;
    killed_between_attempts(&backlog, &graveyard, "", noted).await;
    backlog.remove().await;
    graveyard.remove().await;
}

/// A parked item holds no slot: with one slot, ten items fail once each before the first one
/// returns.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_parked_items_hold_no_slot_and_keep_their_id() {
    on_each_broker(async |url| {
        let backlog = Rabbitmq::of(Queue::create(&url, QueueKind::Quorum).await);
        backlog.fill((0..10).map(|number| format!("item {number}").into_bytes())).await;
        let worker = Worker::with_attempts(Duration::from_millis(10), |_, attempt| match attempt {
            1 => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::OK,
        })
        .await;
        let more = format!("    retry: {{ backoff: 12s, queue: {}.retry }}\n", backlog.name());
        let bridge = Longhaul::run(&config(&backlog.source(), &worker, 1, &more));
        eventually("all to have failed once", async || worker.log().started.len() == 10).await;
        let runs: u32 = worker.log().started.values().sum();
        assert_eq!(runs, 10, "before any came back");
        eventually("all to have run twice", async || worker.log().started.values().all(|runs| *runs == 2))
            .await;
        eventually("the broker to be empty", async || backlog.left().await == 0).await;
        bridge.stop().await;
        backlog.remove().await;
    })
    .await;
}

/// A thousand items would all be rejected, but the breaker opens after twenty.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_breaker_keeps_a_queue_out_of_the_dead_letter() {
    let url = &amqp::brokers()[0];
    let backlog = Rabbitmq::of(Queue::create(url, QueueKind::Quorum).await);
    let graveyard = Rabbitmq::of(Queue::create(url, QueueKind::Quorum).await);
    backlog.fill((0..1000).map(|number| format!("item {number}").into_bytes())).await;
    let worker = Worker::with_verdict(Duration::from_millis(5), |_| StatusCode::BAD_REQUEST).await;
    let more =
        format!("    breaker: {{ failures: 20, open: 4s }}\n    dead_letter: {}\n", graveyard.target());
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 10, &more));
    let probes = 2u64;
    eventually("some probes", async || worker.done() as u64 >= 20 + probes).await;
    bridge.stop().await;
    // A quorum queue counts returned items a moment after it took them back.
    eventually("all items to be in a queue", async || graveyard.left().await + backlog.left().await == 1000)
        .await;
    let dead = graveyard.left().await;
    assert!(dead <= 20 + 10 + probes + 2, "{dead} dead letters");
    backlog.remove().await;
    graveyard.remove().await;
}

/// The service refuses connections for 30 probes of the breaker. That costs the items no attempt.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_items_outlast_a_service_that_refuses_connections() {
    on_each_broker(async |url| {
        let backlog = Rabbitmq::of(Queue::create(&url, QueueKind::Quorum).await);
        let graveyard = Rabbitmq::of(Queue::create(&url, QueueKind::Quorum).await);
        backlog.fill((0..10).map(|number| format!("item {number}").into_bytes())).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        // The configuration needs the address before there is a worker.
        let nobody = Worker::start(Duration::ZERO).await;
        let more = format!(
            "    breaker: {{ failures: 3, open: 1s }}\n    retry: {{ backoff: 1s, backoff_max: 1s }}\n    dead_letter: {}\n",
            graveyard.target()
        );
        let text = config(&backlog.source(), &nobody, 4, &more);
        let text = text.replace(&nobody.url, &format!("http://{address}/"));
        let bridge = Longhaul::run(&text);
        let probes = || bridge.log().matches("outcome=\"not-started\"").count();
        eventually("many probes", async || probes() >= 30).await;
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let worker = Worker::listen(listener, Duration::ZERO, |_| StatusCode::OK.into_response());
        eventually("all items to be done", async || worker.done() == 10).await;
        eventually("the broker to be empty", async || backlog.left().await == 0).await;
        bridge.stop().await;
        assert_eq!((worker.log().second_runs(), graveyard.left().await), (0, 0));
        backlog.remove().await;
        graveyard.remove().await;
    })
    .await;
}

/// The breaker is open for an hour, and a person closes it.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_breaker_is_closed_by_hand() {
    let url = &amqp::brokers()[0];
    let backlog = Rabbitmq::of(Queue::create(url, QueueKind::Quorum).await);
    let graveyard = Rabbitmq::of(Queue::create(url, QueueKind::Quorum).await);
    backlog.fill((0..10).map(|number| format!("item {number}").into_bytes())).await;
    let worker = Worker::with_verdict(Duration::from_millis(5), |_| StatusCode::BAD_REQUEST).await;
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let more = format!(
        "    breaker: {{ failures: 3, open: 1h }}\n    dead_letter: {}\nadmin: {{ listen: \"{admin}\", token: secret }}\n",
        graveyard.target()
    );
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 1, &more));
    eventually("the breaker to open", async || bridge.log().contains("Breaker open")).await;
    let resume = |token: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_longhaul"));
        command.args(["resume", "test", "--url", &format!("http://{admin}"), "--token", token]);
        command.output().unwrap()
    };
    let refused = resume("wrong");
    assert_eq!(refused.status.code(), Some(69), "{}", String::from_utf8_lossy(&refused.stderr));
    assert_eq!(worker.done(), 3);
    assert!(resume("secret").status.success());
    eventually("three more", async || worker.done() == 6).await;
    bridge.stop().await;
    backlog.remove().await;
    graveyard.remove().await;
}

/// The attempts at the head fail for hours. The records behind it are done, and the head goes to
/// the dead letter.
#[tokio::test(flavor = "multi_thread")]
async fn kafka_stuck_head_is_given_up() {
    let (backlog, graveyard) = (Kafka::create().await, Kafka::create().await);
    backlog.fill((0..5u8).map(|number| vec![number])).await;
    let fails_first = |body: &[u8]| if body == [0] { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
    let worker = Worker::with_verdict(Duration::ZERO, fails_first).await;
    let source = backlog.source().replace(" group:", " stuck_head: { dead_letter_after: 2s }, group:");
    let more =
        format!("    dead_letter: {}\n    retry: {{ backoff: 1h, backoff_max: 2h }}\n", graveyard.target());
    let bridge = Longhaul::run(&config(&source, &worker, 5, &more));
    eventually("the dead letter", async || graveyard.left().await == 1).await;
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    bridge.stop().await;
    assert_eq!(graveyard.take().await["longhaul-reason"], "stalled");
    assert_eq!((worker.done(), worker.log().second_runs()), (5, 0), "the failed attempt, and the others");
    backlog.remove().await;
    graveyard.remove().await;
}

/// The service breaks connections in the middle of a request. Nobody knows how those requests
/// ended, so they are made again.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_requests_that_are_reset_are_made_again() {
    let url = &amqp::brokers()[0];
    let backlog = Rabbitmq::of(Queue::create(url, QueueKind::Quorum).await);
    backlog.fill((0..6).map(|number| format!("item {number}").into_bytes())).await;
    let worker = Worker::held().await;
    let service = worker.url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let relay = Relay::start(service).await;
    let text = config(&backlog.source(), &worker, 6, "    retry: { backoff: 1s, unknown_backoff: 1s }\n");
    let bridge = Longhaul::run(&text.replace(&worker.url, &format!("http://127.0.0.1:{}/", relay.port())));
    eventually("all slots to be taken", async || worker.log().open == 6).await;
    relay.cut_all();
    eventually("all requests to be reset", async || worker.log().open == 0).await;
    worker.release_all();
    eventually("the broker to be empty", async || worker.done() == 6 && backlog.left().await == 0).await;
    let log = bridge.log();
    bridge.stop().await;
    assert_eq!(log.matches("outcome=\"unknown\"").count(), 6, "{log}");
    assert!(worker.log().started.values().all(|runs| *runs == 2));
    backlog.remove().await;
}
