//! The admin port under load: thousands of requests in flight, thousands of finished items, and
//! strangers without a token.
//!
//! `LONGHAUL_TEST_FULL=1` gives the sizes of the acceptance checks and compares the times; then run
//! these tests alone, with `--release`.

use std::time::{Duration, Instant};

use longhaul::config::QueueKind;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::api::Admin;
use crate::run::backlog::{Backlog, Rabbitmq};
use crate::run::config;
use crate::support::process::Longhaul;
use crate::support::rabbitmq::{self as amqp, Queue};
use crate::support::worker::Worker;
use crate::support::{eventually, is_full_size};

const MIB: u64 = 1 << 20;

/// The number of an acceptance check, or a smaller one.
fn scaled(full: usize, small: usize) -> usize {
    if is_full_size() { full } else { small }
}

async fn backlog_of(items: usize) -> Rabbitmq {
    let backlog = Rabbitmq::of(Queue::create(&amqp::brokers()[0], QueueKind::Classic).await);
    backlog.fill((0..items).map(|number| number.to_string().into_bytes())).await;
    backlog
}

/// The median time of eleven answers.
async fn median(admin: &Admin, path: &str) -> Duration {
    let client = crate::support::http();
    let mut times = Vec::new();
    for _ in 0..11 {
        let request = client.get(format!("http://{}{path}", admin.0)).header("accept", "application/json");
        let began = Instant::now();
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.bytes().await.unwrap();
        times.push(began.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

/// A scrape and a list of items are quick, also with a filter and with a place far behind.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_reads_are_quick_with_thousands_in_flight() {
    let items = scaled(10_000, 300);
    let backlog = backlog_of(items).await;
    let worker = Worker::held().await;
    let admin = Admin::free();
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, items, &admin.config("")));
    eventually("all requests", async || admin.total("running").await == items as u64).await;
    let list = "/api/v1/pipelines/test/items";
    for path in [
        "/metrics",
        "/api/v1/pipelines",
        list,
        &format!("{list}?state=running&older=1s"),
        &format!("{list}?key=*7"),
        &format!("{list}?limit=100&after=u-{}", items - 50),
        "/api/v1/items/id-17",
    ] {
        let took = median(&admin, path).await;
        println!("{items} in flight: {path} takes {took:?}");
        assert!(!is_full_size() || took < Duration::from_millis(20), "{path}: {took:?}");
    }
    worker.release_all();
    eventually("all to be done", async || admin.total("done").await == items as u64).await;
    bridge.stop().await;
    backlog.remove().await;
}

/// Finished items are remembered, within a bound of memory.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_finished_items_need_little_memory() {
    let (warm, items) = (scaled(2_000, 100), scaled(10_000, 300));
    let backlog = backlog_of(warm).await;
    let worker = Worker::start(Duration::ZERO).await;
    let admin = Admin::free();
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 50, &admin.config("")));
    let done = async |count: usize| {
        eventually("all to be done", async || {
            admin.pipeline().await["counts"]["done"].as_u64() == Some(count as u64)
        })
        .await;
    };
    done(warm).await;
    let before = bridge.memory();
    backlog.fill((0..items).map(|number| number.to_string().into_bytes())).await;
    done(warm + items).await;
    assert_eq!(admin.total("done").await, (warm + items).min(10_000) as u64);
    let grown = bridge.memory().saturating_sub(before);
    println!("{items} finished items: {:.1} MiB more", grown as f64 / MIB as f64);
    assert!(grown <= 20 * MIB, "{grown} bytes for {items} finished items");
    bridge.stop().await;
    backlog.remove().await;
}

/// The time for all items of a backlog, which the worker ends at once.
async fn time_for(items: usize, backlog: &Rabbitmq, admin: &Admin) -> Duration {
    let before = admin.pipeline().await["counts"]["done"].as_u64().unwrap();
    let began = Instant::now();
    backlog.fill((0..items).map(|number| number.to_string().into_bytes())).await;
    eventually("the items to be done", async || {
        admin.pipeline().await["counts"]["done"].as_u64() == Some(before + items as u64)
    })
    .await;
    began.elapsed()
}

/// Requests without a token, idle connections and long bodies change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_strangers_change_nothing() {
    let (requests, connections, items) = (scaled(10_000, 200), scaled(10_000, 200), scaled(5_000, 50));
    let backlog = backlog_of(0).await;
    let worker = Worker::start(Duration::from_millis(1)).await;
    let admin = Admin::free();
    let rights = ", token: change-all-of-it, read_token: only-look-at-it";
    let more = format!("    limits: {{ held_bytes: 16MiB }}\n{}", admin.config(rights));
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 20, &more));
    let client = crate::support::http();
    let known = async |path: &str| {
        let request = client.get(format!("http://{}{path}", admin.0)).bearer_auth("only-look-at-it");
        Admin::send(request).await.1
    };
    eventually("the admin server", async || known("/api/v1/pipelines/test").await["state"] == "running")
        .await;
    let before = known("/api/v1/pipelines/test").await;
    let memory = bridge.memory();

    let asking = async {
        let client = crate::support::http();
        for number in 0..requests {
            let path = match number % 4 {
                0 => "/api/v1/pipelines/test/pause",
                1 => "/api/v1/pipelines/test/items/drop?state=held",
                2 => "/api/v1/items/id-0/cancel?then=drop",
                _ => "/api/v1/pipelines/test/drain",
            };
            let mut request = client.post(format!("http://{}{path}", admin.0));
            if number % 50 == 0 {
                request = request.body("x".repeat(MIB as usize));
            }
            // The connection of a long body may be closed while it is sent.
            let (status, body) = Admin::send(request).await;
            assert!([0, 401, 413].contains(&status), "{path}: {status} {body}");
        }
    };
    let idle = async {
        let mut open = Vec::new();
        for number in 0..connections {
            if let Ok(mut stream) = TcpStream::connect(&admin.0).await {
                if number % 3 == 0 {
                    let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx: ").await;
                }
                open.push(stream);
            }
            // As many descriptors as the test itself may have.
            if open.len() > 4000 {
                open.drain(..2000);
            }
        }
        open
    };
    let delivering = async {
        backlog.fill((0..items).map(|number| number.to_string().into_bytes())).await;
        eventually("the items to be done", async || worker.done() == items).await;
    };
    let ((), open, ()) = tokio::join!(asking, idle, delivering);
    let after = known("/api/v1/pipelines/test").await;
    assert_eq!((&after["state"], &after["limit"]), (&before["state"], &before["limit"]), "{after}");
    assert_eq!(after["counts"]["dropped"], 0, "{after}");
    let log = bridge.log();
    assert!(!log.contains("A person acted"), "{log}");
    let grown = bridge.memory().saturating_sub(memory);
    println!(
        "{requests} requests and {connections} connections of strangers: {:.1} MiB more",
        grown as f64 / MIB as f64
    );
    assert!(grown < 32 * MIB, "{grown} bytes");
    drop(open);
    bridge.stop().await;
    backlog.remove().await;
}

/// Strangers slow deliveries down by a few percent at most. Only an acceptance run compares.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_strangers_slow_nothing_down() {
    if !is_full_size() {
        return;
    }
    let backlog = backlog_of(0).await;
    let worker = Worker::start(Duration::from_millis(20)).await;
    let admin = Admin::free();
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 10, &admin.config("")));
    eventually("the admin server", async || admin.get("/livez").await.0 == 200).await;
    let alone = time_for(3_000, &backlog, &admin).await;
    let address = admin.0.clone();
    let strangers = tokio::spawn(async move {
        let mut open = std::collections::VecDeque::new();
        loop {
            open.extend(TcpStream::connect(&address).await.ok());
            if open.len() > 200 {
                open.pop_front();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    let beside = time_for(3_000, &backlog, &admin).await;
    strangers.abort();
    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    println!("3,000 items: {alone:?} alone, {beside:?} beside 500 new strangers each second: {ratio:.3}");
    assert!(ratio < 1.05, "{ratio}");
    bridge.stop().await;
    backlog.remove().await;
}
