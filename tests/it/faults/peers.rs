//! Runs several replicas of the bridge on one queue or topic.

use std::time::Duration;

use longhaul::config::QueueKind;

use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::run::config;
use crate::support::eventually;
use crate::support::process::Longhaul;
use crate::support::rabbitmq::{self as amqp, Queue};
use crate::support::relay::{Mode, Relay};
use crate::support::worker::Worker;

/// Returns ports for the admin servers of some replicas. They were free a moment ago.
fn ports<const COUNT: usize>() -> [u16; COUNT] {
    let listeners = [(); COUNT].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// Returns the configuration of the replica whose admin server has `port`.
fn replica(source: &str, worker: &Worker, max_in_flight: usize, port: u16, all: &[u16]) -> String {
    let addresses: Vec<String> = all.iter().map(|port| format!("\"http://127.0.0.1:{port}\"")).collect();
    let more = format!(
        "admin: {{ listen: \"127.0.0.1:{port}\", token: secret }}\npeers: {{ addresses: [{}] }}\n",
        addresses.join(", ")
    );
    config(source, worker, max_in_flight, &more)
}

/// A replica with 8 items in hand, behind a relay, and a replica without items.
struct Pair {
    backlog: Rabbitmq,
    worker: Worker,
    relay: Relay,
    first: Longhaul,
    second: Longhaul,
    /// The metrics of the second replica.
    metrics: String,
}

impl Pair {
    async fn start(url: &str) -> Self {
        let backlog = Rabbitmq::of(Queue::create(url, QueueKind::Quorum).await);
        let worker = Worker::held().await;
        let relay = Relay::start(amqp::address(url)).await;
        let all = ports::<2>();
        let source = backlog.source_at(&amqp::through(url, relay.port()));
        let first = Longhaul::run(&replica(&source, &worker, 8, all[0], &all));
        eventually("the first replica", async || first.log().contains("is up")).await;
        backlog.fill((0..8).map(|number| format!("item {number}").into_bytes())).await;
        eventually("all slots to be taken", async || worker.log().open == 8).await;
        let second = Longhaul::run(&replica(&backlog.source(), &worker, 8, all[1], &all));
        eventually("the second replica", async || second.log().contains("is up")).await;
        // The first replica never reconnects.
        relay.set(Mode::Refuse);
        let metrics = format!("http://127.0.0.1:{}/metrics", all[1]);
        Pair { backlog, worker, relay, first, second, metrics }
    }

    /// The work ends after the second replica has got all items and asks for them.
    async fn all_done_once(&self) {
        let Pair { backlog, worker, first, second, metrics, .. } = self;
        eventually("all redeliveries", async || {
            let Ok(answer) = crate::support::get(metrics).await else { return false };
            let text = answer.text().await.unwrap_or_default();
            text.contains("longhaul_redeliveries_total{pipeline=\"test\"} 8")
        })
        .await;
        worker.release_all();
        eventually("all items to be done", async || worker.done() == 8).await;
        eventually("the broker to be empty", async || backlog.left().await == 0).await;
        assert_eq!(worker.log().second_runs(), 0, "{}\n{}", first.log(), second.log());
    }

    async fn stop(self) {
        self.second.stop().await;
        self.first.stop().await;
        self.backlog.remove().await;
    }
}

/// RabbitmqSource ran 16 requests after one connection was dropped under 8 running items.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_items_of_a_lost_connection_are_not_begun_again_by_another_replica() {
    for url in amqp::brokers() {
        let pair = Pair::start(&url).await;
        pair.relay.cut_all();
        pair.all_done_once().await;
        // The queue counts waiting items, not those that the second replica still has to ack.
        eventually("all results to be handed over", async || {
            pair.second.log().matches("handed its result over").count() == 8
        })
        .await;
        pair.stop().await;
    }
}

/// The broker has given the first replica up and hands its items to the second, while the first
/// notices nothing. When the second asks for the items, the first finds out that its session is
/// dead, which takes longer than any other answer.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_items_of_a_session_that_is_dead_unnoticed_are_handed_over() {
    let pair = Pair::start(&amqp::brokers()[0]).await;
    pair.relay.part();
    pair.all_done_once().await;
    pair.stop().await;
}

/// Three replicas, restarted one after the other under load of 60 items. No item runs twice.
async fn rolling_restart(backlog: impl Backlog) {
    let worker = Worker::start(Duration::from_secs(2)).await;
    let all = ports::<6>();
    let start = |port| Longhaul::run(&replica(&backlog.source(), &worker, 5, port, &all));
    let mut replicas: Vec<Longhaul> = all[..3].iter().map(|port| start(*port)).collect();
    eventually("work in the replicas", async || worker.log().open >= 5).await;
    for port in &all[3..] {
        let fresh = start(*port);
        eventually("the new replica", async || std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok())
            .await;
        let old = std::mem::replace(&mut replicas[0], fresh);
        replicas.rotate_left(1);
        old.stop().await;
    }
    let finished = || worker.log().finished.values().sum::<u32>();
    eventually("all items to be done", async || finished() == 60).await;
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    let logs: String = replicas.iter().map(Longhaul::log).collect();
    for replica in replicas {
        replica.stop().await;
    }
    assert_eq!(worker.log().started.values().sum::<u32>(), 60, "{logs}");
    backlog.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_rolling_restart_loses_nothing_and_runs_nothing_twice() {
    let backlog = Rabbitmq::create().await;
    backlog.fill((0..60).map(|number| format!("item {number}").into_bytes())).await;
    rolling_restart(backlog).await;
}

/// The items are alike byte for byte and have no id.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_rolling_restart_under_items_that_are_alike_runs_each_once() {
    let backlog = Rabbitmq::create().await;
    for _ in 0..60 {
        backlog.0.publish(b"alike", lapin::BasicProperties::default()).await;
    }
    rolling_restart(backlog).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_rolling_restart_loses_nothing_and_runs_nothing_twice() {
    let backlog = Kafka::create().await;
    backlog.fill((0..60).map(|number| format!("item {number}").into_bytes())).await;
    rolling_restart(backlog).await;
}

/// One of three replicas is killed with all its slots in use. Its items, and no others, run again.
async fn killed_replica(backlog: impl Backlog, items: usize) {
    let worker = Worker::held().await;
    let all = ports::<3>();
    let start = |port: &u16| Longhaul::run(&replica(&backlog.source(), &worker, 4, *port, &all));
    let mut replicas: Vec<Longhaul> = all.iter().map(start).collect();
    eventually("all slots to be taken", async || worker.log().open == 12).await;
    replicas.remove(0).kill().await;
    worker.release_all();
    eventually("all items to be done", async || worker.done() == items).await;
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    let logs: String = replicas.iter().map(Longhaul::log).collect();
    assert!(worker.log().second_runs() <= 4, "{logs}");
    for replica in replicas {
        replica.stop().await;
    }
    backlog.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_killed_replica_costs_at_most_the_items_that_ran_there() {
    let backlog = Rabbitmq::create().await;
    backlog.fill((0..30).map(|number| format!("item {number}").into_bytes())).await;
    killed_replica(backlog, 30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_killed_replica_costs_at_most_the_records_that_ran_there() {
    let backlog = Kafka::with_partitions(6).await;
    backlog.spread(0..30, 6).await;
    killed_replica(backlog, 30).await;
}

/// A hand-written consumer with 200 records in flight ran 185 of them again when a second member
/// joined.
#[tokio::test(flavor = "multi_thread")]
async fn kafka_rebalance_runs_nothing_twice_and_new_records_start_at_once() {
    let backlog = Kafka::with_partitions(8).await;
    backlog.spread(0..100, 8).await;
    let worker = Worker::held().await;
    let all = ports::<2>();
    let first = Longhaul::run(&replica(&backlog.source(), &worker, 120, all[0], &all));
    eventually("all records in flight", async || worker.log().open == 100).await;
    let second = Longhaul::run(&replica(&backlog.source(), &worker, 120, all[1], &all));
    let partitions = || second.log().matches("Partition is up").count();
    eventually("partitions at the second member", async || partitions() >= 4).await;
    // A new record starts at once, in any partition.
    backlog.spread(100..140, 8).await;
    eventually("new records of all partitions", async || worker.log().started.len() == 140).await;
    second.terminate();
    eventually("the drain", async || second.log().contains("Draining")).await;
    worker.release_all();
    second.drained().await;
    eventually("all items to be done", async || worker.done() == 140).await;
    let log = first.log();
    first.stop().await;
    assert_eq!(worker.log().second_runs(), 0, "{log}");
    backlog.remove().await;
}

/// The bridge is scaled to zero, or stopped with compose. No replica stays to take a result over,
/// so each keeps its partitions and commits the records that it finishes.
#[tokio::test(flavor = "multi_thread")]
async fn kafka_replicas_that_stop_together_commit_what_they_finish() {
    let backlog = Kafka::with_partitions(4).await;
    let worker = Worker::held().await;
    let all = ports::<3>();
    let start = |port| Longhaul::run(&replica(&backlog.source(), &worker, 20, port, &all));
    let (mut first, mut second) = (start(all[0]), start(all[1]));
    let partitions = |one: &Longhaul| one.log().matches("Partition is up").count();
    eventually("partitions at both", async || partitions(&first) >= 2 && partitions(&second) >= 2).await;
    backlog.spread(0..20, 4).await;
    eventually("all records in flight", async || worker.log().open == 20).await;
    first.terminate();
    second.terminate();
    for replica in [&first, &second] {
        eventually("the drain", async || replica.log().contains("Draining")).await;
    }
    worker.release_all();
    for replica in [&mut first, &mut second] {
        assert!(replica.wait().await.success(), "{}", replica.log());
    }
    assert_eq!(worker.done(), 20, "{}\n{}", first.log(), second.log());
    // The first records of a new replica are not counted.
    let third = start(all[2]);
    backlog.spread(20..24, 4).await;
    eventually("the new records", async || worker.done() == 24).await;
    third.stop().await;
    assert_eq!(worker.log().second_runs(), 0, "{}\n{}", first.log(), second.log());
    backlog.remove().await;
}
