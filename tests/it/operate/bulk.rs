//! Actions on many items: a retry under SIGKILL, and a cancel that the worker sees at once.

#![expect(clippy::print_stdout, reason = "the time is the result of a measurement")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::IntoResponse;

use crate::api::{Admin, path_of};
use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::run::config;
use crate::support::process::Longhaul;
use crate::support::worker::Worker;
use crate::support::{eventually, is_full_size};

/// Items that are held for another reason than the others, and that the action does not select.
const OTHERS: usize = 10;

/// A worker whose verdict gets milder: first it refuses everything, then it accepts the items that
/// it rejected, then all. Also the bodies that it accepted.
async fn lenient() -> (Worker, Arc<AtomicU8>, Arc<Mutex<BTreeSet<Vec<u8>>>>) {
    let (mildness, accepted) = (Arc::new(AtomicU8::new(0)), Arc::new(Mutex::new(BTreeSet::new())));
    let shared = (mildness.clone(), accepted.clone());
    let answer = move |body: &[u8]| {
        let is_other = body.starts_with(b"other");
        let is_accepted = shared.0.load(Ordering::SeqCst) > u8::from(is_other);
        if is_accepted {
            shared.1.lock().unwrap().insert(body.to_vec());
            return StatusCode::OK.into_response();
        }
        if is_other { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::UNPROCESSABLE_ENTITY }
            .into_response()
    };
    (Worker::with_answer(Duration::from_millis(20), answer).await, mildness, accepted)
}

/// The program is killed while it retries the items. None is lost, and none that the filter left
/// out has run until then.
async fn a_bulk_retry_survives_a_kill<B: Backlog>() {
    let selected = if is_full_size() { 1000 } else { 60 };
    let all = selected + OTHERS;
    let backlog = B::create().await;
    let bodies = (0..selected).map(|number| format!("item {number}"));
    let bodies = bodies.chain((0..OTHERS).map(|number| format!("other {number}")));
    backlog.fill(bodies.map(String::into_bytes)).await;
    let (worker, mildness, accepted) = lenient().await;
    let more = "    breaker: { failures: 0 }\n    retry: { attempts: 1 }\n    on_failed: hold\n    limits: { held_max: 5000 }\n";
    let run = |admin: &Admin| {
        Longhaul::run(&config(&backlog.source(), &worker, all, &format!("{more}{}", admin.config(""))))
    };
    let admin = Admin::free();
    let bridge = run(&admin);
    eventually("all items to be held", async || admin.total("held").await == all as u64).await;
    let filter = "/api/v1/pipelines/test/items/retry?state=held&reason=rejected";
    let (_, dry) = admin.post(&format!("{filter}&dry_run=true")).await;
    assert_eq!(dry["changed"].as_u64(), Some(selected as u64), "{dry}");
    assert_eq!(worker.log().second_runs(), 0, "nothing runs without an action");

    mildness.store(1, Ordering::SeqCst);
    let (_, retried) = admin.post(filter).await;
    assert_eq!(retried["changed"].as_u64(), Some(selected as u64), "{retried}");
    eventually("a part of the items to run", async || worker.log().second_runs() > 0).await;
    bridge.kill().await;
    let log = worker.log();
    let ran_others =
        log.bodies.iter().filter(|(id, body)| body.starts_with(b"other") && log.started[*id] > 1);
    assert_eq!(ran_others.count(), 0, "the filter left them out");

    // RabbitMQ hands the held items over again, and they run. On Kafka the counted attempts are
    // stored, so the items are held again until a person releases them.
    mildness.store(2, Ordering::SeqCst);
    let admin = Admin::free();
    let bridge = run(&admin);
    eventually("all items to be accepted", async || {
        admin.post("/api/v1/pipelines/test/items/release?state=held").await;
        accepted.lock().unwrap().len() == all
    })
    .await;
    eventually("nothing to be in hand", async || {
        let counts = admin.pipeline().await["counts"].clone();
        ["waiting", "asking", "running", "retrying", "writing", "held", "blocked"]
            .iter()
            .all(|state| counts[state] == 0)
    })
    .await;
    bridge.stop().await;
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    backlog.remove().await;
}

/// The worker sees the end of its connection, whatever the item becomes.
async fn a_cancel_closes_the_connection_at_once<B: Backlog>() {
    let backlog = B::create().await;
    backlog.fill([b"item".to_vec()].into_iter()).await;
    let worker = Worker::held().await;
    let admin = Admin::free();
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 1, &admin.config("")));
    eventually("the request", async || worker.log().open == 1).await;
    let (_, list) = admin.get("/api/v1/pipelines/test/items?state=running").await;
    let began = Instant::now();
    admin.post(&format!("{}/cancel?then=drop", path_of(&list["items"][0]))).await;
    eventually("the end of the connection", async || worker.log().open == 0).await;
    let took = began.elapsed();
    println!("the worker saw the end of its connection {took:?} after the cancel");
    assert!(!is_full_size() || took < Duration::from_secs(1), "{took:?}");
    let metrics = admin.metrics().await;
    let cancelled = "longhaul_attempts_total{pipeline=\"test\",outcome=\"cancelled\",code=\"none\"} 1\n";
    assert!(metrics.contains(cancelled), "{metrics}");
    bridge.stop().await;
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    backlog.remove().await;
}

macro_rules! for_both {
    ($($case:ident),*) => {
        mod rabbitmq { $(#[tokio::test(flavor = "multi_thread")] async fn $case() { super::$case::<super::Rabbitmq>().await; })* }
        mod kafka { $(#[tokio::test(flavor = "multi_thread")] async fn $case() { super::$case::<super::Kafka>().await; })* }
    };
}

for_both!(a_bulk_retry_survives_a_kill, a_cancel_closes_the_connection_at_once);
