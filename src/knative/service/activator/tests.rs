//! On a paused clock, without a socket.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::knative::kpa::{Cluster, Config};

fn settings(annotations: &[(&str, &str)]) -> Settings {
    let cluster = Cluster { allow_zero_initial_scale: true, initial_scale: 0, ..Cluster::default() };
    let annotations: BTreeMap<String, String> = annotations
        .iter()
        .map(|(key, value)| (format!("autoscaling.knative.dev/{key}"), value.to_string()))
        .collect();
    Settings::new(Config::resolve(&cluster, &annotations, 1))
}

/// What the demo runs with.
fn eager() -> Settings {
    settings(&[
        ("window", "6s"),
        ("target-utilization-percentage", "100"),
        ("target-burst-capacity", "-1"),
        ("panic-threshold-percentage", "110"),
        ("max-scale", "10"),
    ])
}

fn started(settings: Settings, worker: impl Worker) -> (Arc<Activator>, tokio::task::JoinHandle<()>) {
    let activator = Activator::new(settings, worker);
    let driver = tokio::spawn(Arc::clone(&activator).drive());
    (activator, driver)
}

fn sleeper(seconds: u64) -> impl Worker {
    move |_: Request| async move {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        plain(StatusCode::OK, "done")
    }
}

fn request() -> Request {
    Request::new(Body::from("item"))
}

async fn text(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1 << 10).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn replicas_follow_the_load_from_zero_and_back() {
    let busy = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let worker = {
        let (busy, most) = (Arc::clone(&busy), Arc::clone(&most));
        move |_: Request| {
            let (busy, most) = (Arc::clone(&busy), Arc::clone(&most));
            async move {
                most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_secs(20)).await;
                busy.fetch_sub(1, Ordering::SeqCst);
                plain(StatusCode::OK, "done")
            }
        }
    };
    let (activator, driver) = started(eager(), worker);
    let mut counts = activator.counts();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(counts.borrow_and_update().desired, 0);

    let start = Instant::now();
    let held: Vec<_> = (0..10).map(|_| tokio::spawn(Arc::clone(&activator).hold(request()))).collect();
    counts.wait_for(|now| now.ready == 10 && now.queued == 0).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(8), "all run after {:?}", start.elapsed());
    for answer in held {
        assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(most.load(Ordering::SeqCst), 10);
    let idle = Instant::now();
    counts.wait_for(|now| now.ready + now.starting + now.terminating == 0).await.unwrap();
    assert!(idle.elapsed() < Duration::from_secs(13), "zero after {:?}", idle.elapsed());
    assert_eq!(counts.borrow().most_ready_ever, 10);
    driver.abort();
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_runs_while_a_request_waits() {
    let limited = Settings { timeout: Duration::from_secs(30), ..settings(&[("max-scale", "1")]) };
    let (activator, driver) = started(limited, sleeper(20));
    let start = Instant::now();
    let first = tokio::spawn(Arc::clone(&activator).hold(request()));
    tokio::task::yield_now().await;
    let second = tokio::spawn(Arc::clone(&activator).hold(request()));
    let third = tokio::spawn(Arc::clone(&activator).hold(request()));
    assert_eq!(text(first.await.unwrap()).await.0, 200);
    // One ran for some seconds, the other never started; a client sees the same.
    for late in [second, third] {
        assert_eq!(text(late.await.unwrap()).await, (504, "activator request timeout".into()));
    }
    assert_eq!(start.elapsed().as_secs(), 30);
    let counts = *activator.counts().borrow();
    assert_eq!((counts.queued, counts.in_flight), (0, 0), "a timeout frees slot and place");
    driver.abort();
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once() {
    let shallow = Settings { queue_depth: 1, ..settings(&[]) };
    let (activator, driver) = started(shallow, sleeper(1));
    let waits = tokio::spawn(Arc::clone(&activator).hold(request()));
    tokio::task::yield_now().await;
    let refused = Arc::clone(&activator).hold(request()).await;
    assert_eq!(text(refused).await, (503, "pending request queue full\n".into()));
    assert_eq!(waits.await.unwrap().status(), StatusCode::OK);
    driver.abort();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_frees_its_slot_or_its_place() {
    let (activator, driver) = started(settings(&[("max-scale", "1")]), sleeper(3600));
    let mut counts = activator.counts();
    let running = tokio::spawn(Arc::clone(&activator).hold(request()));
    counts.wait_for(|now| now.in_flight == 1 && now.queued == 0).await.unwrap();
    let waiting = tokio::spawn(Arc::clone(&activator).hold(request()));
    let behind = tokio::spawn(Arc::clone(&activator).hold(request()));
    counts.wait_for(|now| now.queued == 2).await.unwrap();
    waiting.abort();
    counts.wait_for(|now| now.queued == 1).await.unwrap();
    running.abort();
    counts.wait_for(|now| now.queued == 0 && now.in_flight == 1).await.unwrap();
    behind.abort();
    counts.wait_for(|now| now.in_flight == 0).await.unwrap();
    driver.abort();
}

#[tokio::test(start_paused = true)]
async fn a_streamed_answer_keeps_its_slot_until_its_end() {
    let worker = |_: Request| async {
        let parts = futures_util::stream::iter(["a", "b"]).then(|part| async move {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Ok::<_, std::io::Error>(part)
        });
        Response::new(Body::from_stream(parts))
    };
    let (activator, driver) = started(settings(&[]), worker);
    let counts = activator.counts();
    let response = Arc::clone(&activator).hold(request()).await;
    assert_eq!(counts.borrow().in_flight, 1);
    assert_eq!(text(response).await.1, "ab");
    assert_eq!(counts.borrow().in_flight, 0);
    driver.abort();
}
