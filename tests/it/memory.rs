//! Resident memory of the program under messages, answers and strangers that want all of it, and
//! its probes meanwhile.
//!
//! `LONGHAUL_TEST_MESSAGES=20000` sets the number of random messages, and makes the other numbers
//! those of an acceptance run. With `--nocapture` each test prints its figures.

#![expect(clippy::print_stdout, reason = "the figures are the result of a measurement")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::IntoResponse;
use longhaul::config::QueueKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rabbitmq::random;
use crate::rabbitmq::raw::{RawMessage, RawProducer};
use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::run::config;
use crate::support::process::Longhaul;
use crate::support::rabbitmq::{self as amqp, Queue};
use crate::support::worker::Worker;
use crate::support::{DEADLINE, eventually};

const MIB: u64 = 1024 * 1024;
/// The bound of the memory beside twice `held_bytes`.
const BASE: u64 = 64 * MIB;
const MESSAGES: usize = 100;

/// The number of random messages, if this is an acceptance run.
fn acceptance() -> Option<usize> {
    Some(std::env::var("LONGHAUL_TEST_MESSAGES").ok()?.parse().unwrap())
}

/// Waits until `count` returns this number. On a slow machine the whole may take long, so only a
/// standstill fails.
async fn reaches(what: &str, wanted: u64, count: impl AsyncFn() -> u64) {
    let mut last = count().await;
    while last != wanted {
        eventually(what, async || count().await != last).await;
        last = count().await;
    }
}

/// Asks a probe again and again, and keeps the longest time to its answer.
struct Probes {
    longest: Arc<AtomicU64>,
    asking: tokio::task::JoinHandle<()>,
}

impl Probes {
    fn start(admin: SocketAddr) -> Self {
        let longest = Arc::<AtomicU64>::default();
        let seen = longest.clone();
        let asking = tokio::spawn(async move {
            loop {
                for path in ["/livez", "/readyz"] {
                    let began = Instant::now();
                    let answer = tokio::time::timeout(DEADLINE, get(admin, path)).await;
                    // Before its start the program answers nothing.
                    if matches!(&answer, Ok(Ok(text)) if text.starts_with("HTTP/1.1 ")) || answer.is_err() {
                        let millis = u64::try_from(began.elapsed().as_millis()).unwrap();
                        seen.fetch_max(millis, Ordering::Relaxed);
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Probes { longest, asking }
    }

    /// Prints the longest time. The bound of the deployment is a second. A busy machine of tests
    /// takes longer, so only an acceptance run asserts it.
    fn end(self, what: &str) {
        self.asking.abort();
        let longest = Duration::from_millis(self.longest.load(Ordering::Relaxed));
        println!("{what}: slowest probe {longest:?}");
        assert!(acceptance().is_none() || longest < Duration::from_secs(1), "{longest:?}");
    }
}

async fn get(admin: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(admin).await?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Prints the largest resident memory so far, and compares it with the bound.
fn within_bound(what: &str, bridge: &Longhaul, held_bytes: u64) {
    let (peak, bound) = (bridge.peak_memory(), 2 * held_bytes + BASE);
    println!("{what}: peak {} MiB, bound {} MiB", peak / MIB, bound / MIB);
    assert!(peak <= bound, "{what}: peak {} MiB, bound {} MiB", peak / MIB, bound / MIB);
}

/// Random headers and properties, and bodies of up to 1 MiB, half of them for a worker that fails.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_random_messages_stay_within_the_bound() {
    const HELD: u64 = 16 * MIB;
    let count = acceptance().unwrap_or(MESSAGES);
    for mode in ["binary", "structured"] {
        let url = &amqp::brokers()[0];
        let backlog = Rabbitmq::of(Queue::create(url, QueueKind::Classic).await);
        let graveyard = Rabbitmq::of(Queue::create(url, QueueKind::Classic).await);
        let mut random = fastrand::Rng::with_seed(7);
        let mut producer = RawProducer::connect(url).await;
        let worker = Worker::with_answer(Duration::from_millis(5), |body| match body.len() % 2 {
            0 => StatusCode::OK.into_response(),
            _ => (StatusCode::UNPROCESSABLE_ENTITY, "x".repeat(64 * 1024)).into_response(),
        })
        .await;
        let admin = free_address();
        let more = format!(
            "    breaker: {{ failures: 0 }}\n    limits: {{ item_bytes: 1MiB, held_bytes: 16MiB }}\n    dead_letter: {}\nadmin: {{ listen: \"{admin}\" }}\n",
            graveyard.target()
        );
        let config = config(&backlog.source(), &worker, 20, &more);
        let config = config.replace("sink: { url", &format!("sink: {{ mode: {mode}, url"));
        let bridge = Longhaul::run(&config);
        let probes = Probes::start(admin);
        for batch in 0..count.div_ceil(100) {
            let messages = (0..100.min(count - batch * 100)).map(|_| {
                let most = if random.u8(..50) == 0 { MIB as usize } else { 4096 };
                RawMessage {
                    routing_key: backlog.name().as_bytes().to_vec(),
                    properties: random::properties(&mut random),
                    body: vec![random.u8(..); random.usize(..most)],
                }
            });
            let messages: Vec<_> = messages.collect();
            producer.publish_all("", &messages).await;
            reaches("the batch to be taken", 0, async || backlog.left().await).await;
        }
        let what = format!("{count} random messages, {mode}");
        bridge.drains_within_the_bound(&what, HELD).await;
        probes.end(&what);
        backlog.remove().await;
        graveyard.remove().await;
    }
}

impl Longhaul {
    async fn drains_within_the_bound(self, what: &str, held_bytes: u64) {
        within_bound(what, &self, held_bytes);
        self.stop().await;
    }
}

/// Many slots, and items that would fill the memory if all of them were taken at once.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_large_items_in_many_slots_stay_within_the_bound() {
    let (items, held) = if acceptance().is_some() { (2000, 64) } else { (200, 16) };
    let backlog = Rabbitmq::of(Queue::create(&amqp::brokers()[0], QueueKind::Classic).await);
    let body = vec![b'x'; MIB as usize];
    for number in 0..items {
        let id = lapin::BasicProperties::default().with_message_id(number.to_string().into());
        backlog.0.publish(&body, id).await;
    }
    let worker = Worker::start(Duration::from_millis(20)).await;
    let admin = free_address();
    let more = format!(
        "    limits: {{ item_bytes: 4MiB, held_bytes: {held}MiB }}\nadmin: {{ listen: \"{admin}\" }}\n"
    );
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 2000, &more));
    let probes = Probes::start(admin);
    reaches("all items to be done", items as u64, async || worker.done() as u64).await;
    let what = format!("{items} items of 1 MiB in 2,000 slots");
    bridge.drains_within_the_bound(&what, held * MIB).await;
    probes.end(&what);
    backlog.remove().await;
}

/// Sizes that change, and bodies above `item_bytes`, which only the dead letter gets.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_bodies_of_changing_sizes_stay_within_the_bound() {
    const KIB: usize = 1024;
    let times = if acceptance().is_some() { 10 } else { 1 };
    let mixed = [KIB, 2 * MIB as usize].repeat(25 * times);
    let refused = vec![4 * MIB as usize; 10 * times];
    let cases =
        [("2 MiB and 1 KiB in turn", mixed, "8MiB", 40), ("4 MiB above item_bytes", refused, "1MiB", 32)];
    for (what, sizes, item_bytes, held) in cases {
        let backlog = Rabbitmq::of(Queue::create(&amqp::brokers()[0], QueueKind::Classic).await);
        let graveyard = Rabbitmq::of(Queue::create(&amqp::brokers()[0], QueueKind::Classic).await);
        let count = sizes.len() as u64;
        for (number, size) in sizes.into_iter().enumerate() {
            let id = lapin::BasicProperties::default().with_message_id(number.to_string().into());
            backlog.0.publish(&vec![b'x'; size], id).await;
        }
        let worker = Worker::start(Duration::from_millis(20)).await;
        let admin = free_address();
        let more = format!(
            "    limits: {{ item_bytes: {item_bytes}, held_bytes: {held}MiB }}\n    dead_letter: {}\nadmin: {{ listen: \"{admin}\" }}\n",
            graveyard.target()
        );
        let bridge = Longhaul::run(&config(&backlog.source(), &worker, 200, &more));
        let probes = Probes::start(admin);
        let ended = async || worker.done() as u64 + graveyard.left().await;
        reaches("all items to end", count, ended).await;
        bridge.drains_within_the_bound(what, held * MIB).await;
        probes.end(what);
        backlog.remove().await;
        graveyard.remove().await;
    }
}

/// Every item waits for its second attempt, with the kept part of a long answer.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_long_answers_to_waiting_items_stay_within_the_bound() {
    let items = if acceptance().is_some() { 3600 } else { 300 };
    let backlog = Rabbitmq::of(Queue::create(&amqp::brokers()[0], QueueKind::Classic).await);
    backlog.fill((0..items).map(|number| number.to_string().into_bytes())).await;
    let worker = Worker::with_answer(Duration::ZERO, |_| {
        (StatusCode::INTERNAL_SERVER_ERROR, "x".repeat(64 * 1024)).into_response()
    })
    .await;
    let admin = free_address();
    let more = format!(
        "    breaker: {{ failures: 0 }}\n    retry: {{ backoff: 1h, backoff_max: 1h }}\n    limits: {{ held_bytes: 64MiB }}\nadmin: {{ listen: \"{admin}\" }}\n"
    );
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, items, &more));
    let probes = Probes::start(admin);
    reaches("all items to wait", items as u64, async || worker.done() as u64).await;
    let what = format!("{items} answers of 64 KiB");
    bridge.drains_within_the_bound(&what, 64 * MIB).await;
    probes.end(&what);
    backlog.remove().await;
}

/// More connections than the usual limit of descriptors: idle ones, and heads that never end.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_strangers_at_the_admin_port_stop_nothing() {
    let backlog = Rabbitmq::of(Queue::create(&amqp::brokers()[0], QueueKind::Classic).await);
    let worker = Worker::start(Duration::ZERO).await;
    let admin = free_address();
    let more = format!("    limits: {{ held_bytes: 16MiB }}\nadmin: {{ listen: \"{admin}\" }}\n");
    let bridge = Longhaul::run_limited(&config(&backlog.source(), &worker, 20, &more), 1024);
    eventually("the admin port", async || TcpStream::connect(admin).await.is_ok()).await;
    let probes = Probes::start(admin);
    let mut strangers = Vec::new();
    for number in 0..1010 {
        let Ok(mut stranger) = TcpStream::connect(admin).await else { continue };
        if number % 2 == 0 {
            let endless = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(600 * 1024));
            let _ =
                tokio::time::timeout(Duration::from_millis(5), stranger.write_all(endless.as_bytes())).await;
        }
        strangers.push(stranger);
    }
    backlog.fill((0..50).map(|number| number.to_string().into_bytes())).await;
    eventually("all items to be done", async || worker.done() == 50).await;
    drop(strangers);
    bridge.drains_within_the_bound("1,010 strangers", 16 * MIB).await;
    probes.end("1,010 strangers");
    backlog.remove().await;
}

/// The soft limit of descriptors is far below the number of requests.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_many_requests_need_no_raised_limit() {
    let slots = if acceptance().is_some() { 2000 } else { 1100 };
    let backlog = Rabbitmq::of(Queue::create(&amqp::brokers()[0], QueueKind::Classic).await);
    backlog.fill((0..slots).map(|number| number.to_string().into_bytes())).await;
    let worker = Worker::held().await;
    let admin = free_address();
    let more = format!("    limits: {{ held_bytes: 64MiB }}\nadmin: {{ listen: \"{admin}\" }}\n");
    let bridge = Longhaul::run_with_soft_limit(&config(&backlog.source(), &worker, slots, &more), 1024);
    let probes = Probes::start(admin);
    reaches("all requests", slots as u64, async || worker.log().open as u64).await;
    worker.release_all();
    reaches("all items to be done", slots as u64, async || worker.done() as u64).await;
    let what = format!("{slots} requests");
    bridge.drains_within_the_bound(&what, 64 * MIB).await;
    probes.end(&what);
    backlog.remove().await;
}

/// The key counts as much as the body.
#[tokio::test(flavor = "multi_thread")]
async fn kafka_large_keys_stay_within_the_bound() {
    let backlog = Kafka::create().await;
    let key = vec![b'k'; 900_000];
    for number in 0..20 {
        let body = number.to_string().into_bytes();
        let headers = rdkafka::message::OwnedHeaders::new();
        backlog.0.produce_one(&backlog.0.name, Some(&key), Some(&body), headers).await;
    }
    let worker = Worker::start(Duration::from_millis(50)).await;
    let admin = free_address();
    let more = format!(
        "    on_failed: hold\n    limits: {{ held_bytes: 32MiB, held_max: 100 }}\nadmin: {{ listen: \"{admin}\" }}\n"
    );
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 20, &more));
    let probes = Probes::start(admin);
    // Such a key does not fit into the head of a request, so these items fail, and are held.
    eventually("all records to be read", async || {
        let text = get(admin, "/metrics").await.unwrap_or_default();
        text.contains("longhaul_items_held{pipeline=\"test\"} 20")
    })
    .await;
    bridge.drains_within_the_bound("20 keys of 900 KB", 32 * MIB).await;
    probes.end("20 keys of 900 KB");
    backlog.remove().await;
}
