//! A sink that only counts: the requests, and the times of the first and the last one. It answers
//! at once, or never below `/hold`, or after 0 to 5 ms below `/varied`.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};

#[derive(Clone, Copy, Default)]
struct Seen {
    count: u64,
    first: Option<Instant>,
    last: Option<Instant>,
    /// The time of the first request, in microseconds since 1970.
    first_at: u128,
}

static SEEN: Mutex<Seen> = Mutex::new(Seen { count: 0, first: None, last: None, first_at: 0 });

/// Prints its address, then serves until it is killed. `GET /take` answers `COUNT SECONDS` and
/// starts again at zero; `GET /count` changes nothing.
pub async fn serve() -> Result<()> {
    longhaul::app::descriptors::raise_limit();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let router = Router::new()
        .route("/", post(|_: Bytes| async { note() }))
        .route("/hold", post(|_: Bytes| async { hold().await }))
        .route("/varied", post(|_: Bytes| async { varied().await }))
        .route("/first", get(|| async { seen().first_at.to_string() }))
        .route("/count", get(|| async { seen().count.to_string() }))
        .route("/take", get(|| async { take() }));
    axum::serve(listener, router).await?;
    Ok(())
}

fn note() {
    arrived();
    ended();
}

async fn hold() {
    arrived();
    std::future::pending().await
}

async fn varied() {
    arrived();
    tokio::time::sleep(Duration::from_micros(fastrand::u64(0..5000))).await;
    ended();
}

fn arrived() {
    let mut seen = SEEN.lock().expect("no panic holds it");
    seen.count += 1;
    if seen.first.is_none() {
        seen.first = Some(Instant::now());
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        seen.first_at = since.expect("a clock after 1970").as_micros();
    }
}

fn ended() {
    SEEN.lock().expect("no panic holds it").last = Some(Instant::now());
}

fn seen() -> Seen {
    *SEEN.lock().expect("no panic holds it")
}

fn take() -> String {
    let seen = std::mem::take(&mut *SEEN.lock().expect("no panic holds it"));
    let took = seen.first.zip(seen.last).map_or(0.0, |(first, last)| (last - first).as_secs_f64());
    format!("{} {took}", seen.count)
}
