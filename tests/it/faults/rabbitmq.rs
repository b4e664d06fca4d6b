//! Loses sessions in every way, on RabbitMQ. No item runs twice, because its redelivery finds the
//! open request.

use std::time::Duration;

use axum::http::StatusCode;
use longhaul::config::QueueKind;
use longhaul::delivery::Settlement;
use longhaul::source::rabbitmq::Source;

use crate::run::backlog::{Backlog, Rabbitmq};
use crate::run::config;
use crate::support::bridge::Bridge;
use crate::support::broker::OwnRabbitmq;
use crate::support::eventually;
use crate::support::process::Longhaul;
use crate::support::rabbitmq::{self as amqp, Queue};
use crate::support::relay::{Mode, Relay};
use crate::support::worker::Worker;

async fn filled(url: &str, items: usize) -> Rabbitmq {
    let backlog = Rabbitmq::of(Queue::create(url, QueueKind::Quorum).await);
    backlog.fill((0..items).map(|number| format!("item {number}").into_bytes())).await;
    backlog
}

/// Asserts that each item ran in exactly one call, and that the broker has none left.
async fn all_done_once(bridge: Longhaul, worker: &Worker, backlog: &Rabbitmq, items: usize) {
    eventually("all items to be done", async || worker.done() == items).await;
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    let log = bridge.log();
    bridge.stop().await;
    let calls: u32 = worker.log().started.values().sum();
    assert_eq!(calls as usize, items, "calls\n{log}");
}

/// Longer than a redelivery and its ack take on a slow machine: an ack that comes too late ends the
/// next session.
const ACK_TIMEOUT: Duration = Duration::from_secs(4);
const NO_ACK_TIMEOUT: Duration = Duration::from_secs(1800);

/// A bridge written by hand never ends the first of these; RabbitmqSource made 25 calls for 10 ids.
/// For the restart it made 40 runs for 20 items.
async fn own_broker(kind: &'static str) {
    if !OwnRabbitmq::can_be_had(kind) {
        return;
    }
    let broker = tokio::task::spawn_blocking(move || OwnRabbitmq::start(kind)).await.unwrap();
    work_longer_than_the_ack_timeout(&broker).await;
    a_consumer_that_is_cancelled_by_its_own_ack_timeout(&broker).await;
    a_drain_longer_than_the_ack_timeout(&broker).await;
    a_restart_under_running_items(&broker).await;
    a_memory_alarm_while_dead_letters_are_due(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_3_10_times_out_acks_restarts_and_runs_short_of_memory() {
    own_broker("rabbitmq").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_4_0_times_out_acks_restarts_and_runs_short_of_memory() {
    own_broker("rabbitmq-4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_4_3_times_out_acks_restarts_and_runs_short_of_memory() {
    own_broker("rabbitmq-4.3").await;
}

/// Waits until the broker has ended the session that this number of earlier losses preceded. On 4.3
/// no session ends, and the wait is longer than the timeout.
async fn timeout_of_an_ack(broker: &OwnRabbitmq, bridge: &Longhaul, earlier: usize) {
    if broker.takes_the_consumers_word() {
        tokio::time::sleep(ACK_TIMEOUT + Duration::from_secs(2)).await;
        assert!(!bridge.log().contains("Session lost"), "{}", bridge.log());
    } else {
        let losses = || bridge.log().matches("Session lost").count();
        eventually("a timeout of an ack", async || losses() > earlier).await;
    }
}

async fn work_longer_than_the_ack_timeout(broker: &OwnRabbitmq) {
    broker.set_ack_timeout(ACK_TIMEOUT).await;
    let backlog = filled(&broker.url, 12).await;
    let worker = Worker::held().await;
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 4, ""));
    for done in [0, 4, 8] {
        eventually("all slots to be taken", async || worker.log().started.len() == done + 4).await;
        let losses = bridge.log().matches("Session lost").count();
        timeout_of_an_ack(broker, &bridge, losses).await;
        worker.release(4);
    }
    all_done_once(bridge, &worker, &backlog, 12).await;
    broker.set_ack_timeout(NO_ACK_TIMEOUT).await;
}

/// RabbitMQ 4.3 cancels the consumer and leaves the channel open.
async fn a_consumer_that_is_cancelled_by_its_own_ack_timeout(broker: &OwnRabbitmq) {
    if !broker.takes_the_consumers_word() {
        return;
    }
    let backlog = filled(&broker.url, 1).await;
    let mut settings = backlog.0.source(&broker.url, 1);
    settings.ack_timeout = ACK_TIMEOUT;
    let mut bridge = Bridge::start(Source::new(settings));
    let first = bridge.delivery().await;
    let (epoch, reason) = bridge.loss().await;
    assert!(epoch == first.outline.id.epoch && reason.contains("cancelled"), "{reason}");
    let again = bridge.delivery().await;
    assert!(again.outline.redelivered && !again.outline.shared, "{:?}", again.outline);
    assert_eq!(again.outline.identity, first.outline.identity);
    bridge.settle(again.outline.id, Settlement::Ack).await;
    bridge.close().await;
    eventually("nothing to be left", async || backlog.left().await == 0).await;
}

/// The broker ends the session in the middle of the drain. The running items are acked in a new
/// session, and other items that come in it stay with the broker.
async fn a_drain_longer_than_the_ack_timeout(broker: &OwnRabbitmq) {
    broker.set_ack_timeout(ACK_TIMEOUT).await;
    let backlog = filled(&broker.url, 6).await;
    let worker = Worker::held().await;
    let mut bridge = Longhaul::run(&config(&backlog.source(), &worker, 4, ""));
    eventually("all slots to be taken", async || worker.log().open == 4).await;
    bridge.terminate();
    eventually("the drain", async || bridge.log().contains("Draining")).await;
    let losses = bridge.log().matches("Session lost").count();
    timeout_of_an_ack(broker, &bridge, losses).await;
    worker.release_all();
    let status = bridge.wait().await;
    assert!(status.success(), "{status}\n{}", bridge.log());
    assert_eq!((worker.done(), worker.log().started.len()), (4, 4), "{}", bridge.log());
    eventually("the others to be back in the queue", async || backlog.left().await == 2).await;
    broker.set_ack_timeout(NO_ACK_TIMEOUT).await;
}

/// Half of the items end while the broker is away, the others after its return.
async fn a_restart_under_running_items(broker: &OwnRabbitmq) {
    let backlog = filled(&broker.url, 20).await;
    let worker = Worker::held().await;
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 20, ""));
    eventually("all slots to be taken", async || worker.log().open == 20).await;
    broker.ctl(&["stop"]).await;
    worker.release(10);
    eventually("ten items to end", async || worker.done() == 10).await;
    broker.ctl(&["start"]).await;
    let sessions = || bridge.log().matches("Session with RabbitMQ is up").count();
    eventually("the next session", async || sessions() >= 2).await;
    worker.release_all();
    let backlog = backlog.again(&broker.url).await;
    all_done_once(bridge, &worker, &backlog, 20).await;
}

/// A blocked connection writes nothing, but acks continue on the other one.
async fn a_memory_alarm_while_dead_letters_are_due(broker: &OwnRabbitmq) {
    let backlog = filled(&broker.url, 10).await;
    let graveyard = filled(&broker.url, 0).await;
    let worker = Worker::with_verdict(Duration::from_millis(20), |_| StatusCode::UNPROCESSABLE_ENTITY).await;
    let more = format!("    breaker: {{ failures: 0 }}\n    dead_letter: {}\n", graveyard.target());
    broker.ctl(&["rabbitmqctl", "set_vm_memory_high_watermark", "absolute", "1"]).await;
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 4, &more));
    eventually("some items to be rejected", async || worker.done() == 4).await;
    assert_eq!(graveyard.left().await, 0, "nothing can be written yet");
    broker.ctl(&["rabbitmqctl", "set_vm_memory_high_watermark", "0.9"]).await;
    eventually("all dead letters to be written", async || graveyard.left().await == 10).await;
    all_done_once(bridge, &worker, &backlog, 10).await;
}

/// While the broker trusts the old connection it gives the items to nobody else. After that it
/// gives them back to this bridge.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_connection_that_stalls_runs_nothing_twice() {
    let url = &amqp::brokers()[0];
    let backlog = filled(url, 8).await;
    let worker = Worker::held().await;
    let relay = Relay::start(amqp::address(url)).await;
    let source = backlog.source_at(&format!("{}?heartbeat=2", amqp::through(url, relay.port())));
    let bridge = Longhaul::run(&config(&source, &worker, 8, ""));
    eventually("all slots to be taken", async || worker.log().open == 8).await;
    relay.set(Mode::Stall);
    eventually("the session to be given up", async || bridge.log().contains("Session lost")).await;
    relay.cut_all();
    relay.set(Mode::Pass);
    worker.release_all();
    all_done_once(bridge, &worker, &backlog, 8).await;
}

/// A quorum queue with this limit silently drops an item at its fifth return.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_delivery_limit_takes_nothing_that_is_in_our_hands() {
    for url in amqp::brokers() {
        let queue = Queue::unborn(&url).await;
        let arguments = "declare: { arguments: { x-delivery-limit: 4 } }";
        let worker = Worker::held().await;
        let relay = Relay::start(amqp::address(&url)).await;
        let through = amqp::through(&url, relay.port());
        let source =
            format!("{{ rabbitmq: {{ url: \"{through}\", queue: \"{}\", {arguments} }} }}", queue.name);
        let bridge = Longhaul::run(&config(&source, &worker, 4, ""));
        let sessions = || bridge.log().matches("Session with RabbitMQ is up").count();
        eventually("the queue to be declared", async || sessions() == 1).await;
        let backlog = Rabbitmq::of(queue);
        backlog.fill((0..4).map(|number| format!("item {number}").into_bytes())).await;
        eventually("all slots to be taken", async || worker.log().open == 4).await;
        for cut in 2..=8 {
            relay.cut_all();
            eventually("the next session", async || sessions() >= cut).await;
            eventually("the redeliveries to be adopted", async || {
                bridge.log().matches("Redelivery adopted").count() >= 4 * (cut - 1)
            })
            .await;
            // A cut may hide an ack of an old delivery. After it, one item more than necessary
            // could run, because another item may have the same bytes.
            relay.quiet().await;
        }
        assert!(bridge.log().contains("copied to its own queue"), "{}", bridge.log());
        worker.release_all();
        all_done_once(bridge, &worker, &backlog, 4).await;
    }
}
