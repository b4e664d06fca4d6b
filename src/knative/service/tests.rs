//! Over real sockets, on the real clock.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::knative::hellotest::{self, Wait};
use crate::knative::kpa::{Cluster, Config};

const LIMIT: Duration = Duration::from_secs(20);

async fn service(wait: &str, settings: impl FnOnce(&mut Settings)) -> Handle {
    let mut with = Settings::new(Config::resolve(&Cluster::default(), &BTreeMap::new(), 1));
    with.cold_start = Duration::from_millis(20);
    settings(&mut with);
    let hello = Arc::new(hellotest::Settings { wait: Wait::fixed(wait), ..Default::default() });
    let worker = move |request: Request| {
        let hello = Arc::clone(&hello);
        async move { hello.answer(request).await }
    };
    Service::start(with, worker).await.unwrap()
}

async fn sent(handle: &Handle) -> TcpStream {
    let mut stream = TcpStream::connect(handle.address()).await.unwrap();
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\nitem";
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    timeout(LIMIT, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

async fn counts_until(handle: &Handle, done: impl FnMut(&Counts) -> bool) {
    timeout(LIMIT, handle.replicas().wait_for(done)).await.unwrap().unwrap();
}

#[tokio::test]
async fn answers_over_http_and_finishes_what_runs_when_it_stops() {
    let handle = service("300ms", |_| {}).await;
    let stream = sent(&handle).await;
    counts_until(&handle, |now| now.in_flight == 1).await;
    let (text, ()) = tokio::join!(answer(stream), handle.stop());
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\nHello World! wait time 300ms"), "{text}");
}

#[tokio::test]
async fn a_closed_connection_frees_the_slot_for_the_next_request() {
    let handle = service("1h", |settings| settings.autoscaling.max_scale = 1).await;
    let first = sent(&handle).await;
    counts_until(&handle, |now| now.in_flight == 1 && now.queued == 0).await;
    let second = sent(&handle).await;
    counts_until(&handle, |now| now.queued == 1).await;
    drop(first);
    counts_until(&handle, |now| now.in_flight == 1 && now.queued == 0).await;
    drop(second);
    counts_until(&handle, |now| now.in_flight == 0).await;
    handle.stop().await;
}

#[tokio::test]
async fn what_does_not_finish_within_the_grace_is_cut() {
    let handle = service("1h", |settings| settings.stop_grace = Duration::from_millis(100)).await;
    let stream = sent(&handle).await;
    counts_until(&handle, |now| now.in_flight == 1).await;
    handle.stop().await;
    let text = answer(stream).await;
    assert!(text.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{text}");
}
