//! Scales replicas by Knative's arithmetic in real runs, on a fast clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::super::support::within;
use super::support::{Manifest, Serve, split};
use super::worker;

/// Knative's seconds per real second.
const SCALE: u32 = 10;

fn scaled(options: &[&'static str]) -> Vec<&'static str> {
    [&["--time-scale", "10"], options].concat()
}

/// Returns the sample worker, with requests that last as long as the test.
fn long_requests() -> Manifest {
    Manifest::one_at_a_time()
        .spec("timeoutSeconds: 36000")
        .spec("responseStartTimeoutSeconds: 0")
        .env("WAITSECOND", "1h")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_start_a_second_and_a_third_replica_and_all_go_after_the_window() {
    let serve = Serve::start(
        &Manifest::one_at_a_time().spec("timeoutSeconds: 300"),
        &scaled(&["--cold-start", "1s"]),
        &worker::words(),
    )
    .await;
    serve.until("one is ready", |now| now["ready"] == 1).await;
    // These are twenty seconds of the service's time.
    let sent = [serve.post("/sleep/2000"), serve.post("/sleep/2000")];
    serve.until("three are ready", |now| now["desired"] == 3 && now["ready"] == 3).await;
    for answer in sent {
        assert_eq!(split(&answer.await.unwrap()), (200, "slept".into()));
    }
    let idle = Instant::now();
    serve.until("all are gone", |now| now["desired"] == 0 && now["ready"] == 0).await;
    let seconds = idle.elapsed().as_secs_f64() * f64::from(SCALE);
    assert!((55.0..90.0).contains(&seconds), "zero after {seconds:.0} s");
    // The first request after zero waits for the start, and then succeeds.
    assert_eq!(serve.ask("/status/200", "").await, (200, "item".into()));
    serve.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_stays_where_scale_to_zero_is_off() {
    let manifest =
        Manifest::one_at_a_time().cluster("enable-scale-to-zero", "false").cluster("stable-window", "6s");
    let serve = Serve::start(&manifest, &scaled(&[]), &worker::words()).await;
    let sent = [serve.post("/sleep/500"), serve.post("/sleep/500")];
    serve.until("it grows", |now| now["desired"].as_u64() > Some(1)).await;
    for answer in sent {
        answer.await.unwrap();
    }
    serve.until("one is left", |now| now["desired"] == 1 && now["ready"] == 1).await;
    tokio::time::sleep(Duration::from_secs(60) / SCALE).await;
    let now = serve.replicas().await;
    assert_eq!((&now["desired"], &now["ready"]), (&1.into(), &1.into()), "{now}");
    serve.stop().await;
}

/// The desired replicas for this many requests in flight, at a target utilization of 70, 80, 90 and
/// 100 %. They were measured with the real autoscaler.
const DESIRED: [(usize, [u64; 4]); 6] = [
    (1, [2, 2, 2, 1]),
    (3, [5, 4, 4, 3]),
    (5, [8, 7, 6, 5]),
    (10, [15, 13, 12, 10]),
    (20, [29, 25, 23, 20]),
    (100, [143, 125, 112, 100]),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_steady_load_settles_at_the_load_over_the_utilization() {
    for (column, utilization) in [70, 80, 90, 100].into_iter().enumerate() {
        let mut runs = Vec::new();
        for (in_flight, desired) in DESIRED {
            let manifest = long_requests().annotation("target-utilization-percentage", utilization);
            let serve = Serve::start(&manifest, &["--time-scale", "20"], &[]).await;
            let held: Vec<_> = (0..in_flight).map(|_| serve.post("/")).collect();
            runs.push((serve, in_flight, desired[column], held));
        }
        // This is longer than a whole window.
        tokio::time::sleep(Duration::from_secs(80) / 20).await;
        for (serve, in_flight, desired, held) in runs {
            // At the edge of a second two reports may fall into one, and a decision then sees too
            // many requests. So the most frequent decision counts.
            let mut seen: HashMap<u64, u32> = HashMap::new();
            for _ in 0..10 {
                *seen.entry(serve.replicas().await["desired"].as_u64().unwrap()).or_default() += 1;
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            let usual = seen.iter().max_by_key(|(_, count)| **count).unwrap();
            assert_eq!(*usual.0, desired, "{in_flight} in flight at {utilization} %: {seen:?}");
            held.iter().for_each(tokio::task::JoinHandle::abort);
            serve.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_replicas_are_a_hundred_processes() {
    let manifest = Manifest::one_at_a_time().annotation("min-scale", 100);
    let worker = [env!("CARGO_BIN_EXE_longhaul").to_owned(), "demo-worker".to_owned()];
    let serve = Serve::start(&manifest, &[], &worker).await;
    let now = serve.until("all are ready", |now| now["ready"] == 100).await;
    assert_eq!(now["replicas"].as_array().unwrap().len(), 100);
    let answers: Vec<_> = (0..100).map(|_| serve.post("/")).collect();
    for answer in answers {
        assert_eq!(split(&answer.await.unwrap()), (200, "Hello World!".into()));
    }
    serve.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_shown_at_every_change() {
    let serve = Serve::start(&long_requests(), &[], &[]).await;
    let mut stream = TcpStream::connect(&serve.admin).await.unwrap();
    let request = "GET /replicas HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut until = async |what: &str, is_so: fn(&Value) -> bool| {
        within(what, async {
            loop {
                let line = lines.next_line().await.unwrap().unwrap();
                let Some(json) = line.strip_prefix("data: ") else { continue };
                let now: Value = serde_json::from_str(json).unwrap();
                if is_so(&now) {
                    return now;
                }
            }
        })
        .await
    };
    let now = until("one is ready", |now| now["ready"] == 1).await;
    let keys: Vec<&String> = now.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["desired", "ready", "panic", "stable_average", "panic_average", "queued", "replicas"]);
    let held = serve.post("/work");
    let now = until("it works", |now| now["replicas"][0]["item"] == "POST /work").await;
    let replica = &now["replicas"][0];
    assert_eq!((&replica["name"], &replica["state"]), (&"hello-1".into(), &"ready".into()));
    assert!(replica["age_seconds"].is_number());
    held.abort();
    until("its client has gone", |now| now["replicas"][0]["item"].is_null()).await;
    drop(lines);
    serve.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_is_started_again_after_a_growing_pause() {
    let serve = Serve::start(
        &Manifest::one_at_a_time(),
        &scaled(&[]),
        &["sh".into(), "-c".into(), "echo up; exit 1".into()],
    )
    .await;
    serve.until("it crashed", |now| now["replicas"][0]["state"] == "crashed").await;
    let begun = Instant::now();
    // The starts follow at once, after 10 s and after 20 s.
    super::super::support::eventually("the fourth start", async || serve.output().len() >= 4).await;
    let seconds = begun.elapsed().as_secs_f64() * f64::from(SCALE);
    assert!((25.0..120.0).contains(&seconds), "{seconds}");
    assert!(serve.output().iter().all(|line| line == "[hello-1] up"), "{:?}", serve.output());
    serve.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_stopped_is_let_alone_then_asked_then_killed() {
    let manifest = Manifest::one_at_a_time().spec("timeoutSeconds: 60").cluster("stable-window", "6s");
    let deaf =
        [vec!["sh".into(), "-c".into(), "trap '' TERM; exec \"$0\" \"$@\"".into()], worker::words()].concat();
    // Knative waits 30 s for requests that are still on their way. A worker that ignores SIGTERM
    // then ends after its grace of 60 s.
    for (words, seconds) in [(worker::words(), 30.0), (deaf, 60.0)] {
        let serve = Serve::start(&manifest, &scaled(&[]), &words).await;
        serve.until("it is ready", |now| now["ready"] == 1).await;
        serve.until("it is stopped", |now| now["replicas"][0]["state"] == "terminating").await;
        let begun = Instant::now();
        serve.until("it is gone", |now| now["replicas"].as_array().is_some_and(Vec::is_empty)).await;
        let took = begun.elapsed().as_secs_f64() * f64::from(SCALE);
        assert!((seconds - 3.0..seconds + 25.0).contains(&took), "gone after {took:.0} s");
        serve.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_ready_when_its_probe_says_so() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let name = file.path().display().to_string();
    let exec = format!("{{ exec: {{ command: [test, -s, {name}] }} }}");
    let manifest = Manifest { probe: Some(exec), ..Manifest::one_at_a_time() };
    let serve = Serve::start(&manifest, &[], &worker::words()).await;
    let waits = serve.post("/status/200");
    serve.until("it waits", |now| now["queued"] == 1 && now["replicas"][0]["state"] == "starting").await;
    std::fs::write(&name, "ready").unwrap();
    assert_eq!(split(&waits.await.unwrap()).0, 200);
    serve.stop().await;
    for (path, ready) in [("/status/204", 1), ("/status/500", 0)] {
        let http = format!("{{ httpGet: {{ path: {path} }} }}");
        let manifest = Manifest { probe: Some(http), ..Manifest::one_at_a_time() };
        let serve = Serve::start(&manifest, &[], &worker::words()).await;
        super::super::support::eventually("it is up", async || !serve.output().is_empty()).await;
        if ready == 1 {
            serve.until("it is ready", |now| now["ready"] == 1).await;
        } else {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(serve.replicas().await["ready"], 0, "{path}");
        }
        serve.stop().await;
    }
}
