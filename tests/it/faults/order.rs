//! Runs `order: key` on Kafka with work that sometimes fails: the records of a key run one at a
//! time and in order, while other keys continue.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::IntoResponse;
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::run::backlog::{Backlog, Kafka};
use crate::run::config;
use crate::support::app::Bridge;
use crate::support::worker::Worker;
use crate::support::{DEADLINE, eventually};

const KEYS: usize = 40;
const OF_EACH: usize = 10;
const WORK: Duration = Duration::from_millis(20);
const PARTITIONS: i32 = 4;

/// For each key the number of each started record, and its time.
type Starts = BTreeMap<usize, Vec<(usize, Instant)>>;

/// Fills a topic with bodies `KEY NUMBER`, where the numbers of each key are in order.
async fn filled(keys: usize, of_each: usize) -> Kafka {
    let backlog = Kafka::with_partitions(PARTITIONS).await;
    let producer: FutureProducer = backlog.0.client().create().unwrap();
    for number in 0..of_each {
        for key in 0..keys {
            let (key, body) = (key.to_string(), format!("{key} {number}"));
            let record = FutureRecord::to(&backlog.0.name).key(&key).payload(&body);
            producer.send(record, DEADLINE).await.unwrap();
        }
    }
    backlog
}

fn by_key(backlog: &Kafka) -> String {
    backlog.source().replace("kafka: {", "kafka: { order: key,")
}

fn parsed(body: &[u8]) -> (usize, usize) {
    let (key, number) = std::str::from_utf8(body).unwrap().split_once(' ').unwrap();
    (key.parse().unwrap(), number.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_records_of_a_key_run_one_at_a_time_and_in_order() {
    let backlog = filled(KEYS, OF_EACH).await;
    let starts: Arc<Mutex<Starts>> = Arc::default();
    let seen = starts.clone();
    let chance = Mutex::new(fastrand::Rng::with_seed(1));
    let worker = Worker::with_answer(WORK, move |body| {
        let (key, number) = parsed(body);
        seen.lock().unwrap().entry(key).or_default().push((number, Instant::now()));
        let fails = chance.lock().unwrap().u8(..8) == 0;
        if fails { StatusCode::INTERNAL_SERVER_ERROR.into_response() } else { StatusCode::OK.into_response() }
    })
    .await;
    let more = "    retry: { attempts: 50, backoff: 50ms, backoff_max: 50ms }\n";
    let bridge = Bridge::start(&config(&by_key(&backlog), &worker, 20, more)).await;
    eventually("all records to be done", async || bridge.acked() == (KEYS * OF_EACH) as u64).await;
    bridge.stop().await;

    let mut again = 0;
    for (key, starts) in starts.lock().unwrap().iter() {
        for pair in starts.windows(2) {
            let [(before, at), (next, later)] = pair else { unreachable!() };
            assert!(*next == *before || *next == *before + 1, "key {key}: {next} after {before}");
            assert!(*later - *at >= WORK, "key {key}: {next} started while {before} ran");
            again += usize::from(next == before);
        }
    }
    assert!(again > 0, "nothing failed, so nothing was shown");
    assert!(worker.log().most_open > 1, "keys run in parallel");
    backlog.remove().await;
}

/// A held record waits for a person, and so does the rest of its key.
#[tokio::test(flavor = "multi_thread")]
async fn kafka_held_record_blocks_its_key_and_no_other() {
    let backlog = filled(4, 3).await;
    let verdict: fn(&[u8]) -> StatusCode = |body| match parsed(body) {
        (0, 0) => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::OK,
    };
    let worker = Worker::with_verdict(WORK, verdict).await;
    let bridge = Bridge::start(&config(&by_key(&backlog), &worker, 20, "")).await;
    eventually("the other keys to be done", async || bridge.acked() == 9).await;
    let gauge = |name| bridge.count(name, "pipeline=\"test\"");
    eventually("what waits behind it to be told", async || gauge("longhaul_items_blocked_by_key") == 2).await;
    assert_eq!(gauge("longhaul_items_held"), 1);
    assert_eq!(gauge("longhaul_items_received_total"), 12);
    bridge.stop().await;
    assert_eq!(worker.log().started.values().sum::<u32>(), 10, "the two behind it never started");
    backlog.remove().await;
}
