//! A sink that only counts: the requests, and the times of the first and the last one.

use std::sync::Mutex;
use std::time::Instant;

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};

#[derive(Clone, Copy, Default)]
struct Seen {
    count: u64,
    first: Option<Instant>,
    last: Option<Instant>,
}

static SEEN: Mutex<Seen> = Mutex::new(Seen { count: 0, first: None, last: None });

/// Prints its address, then serves until it is killed. `GET /take` answers `COUNT SECONDS` and
/// starts again at zero; `GET /count` changes nothing.
pub async fn serve() -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let router = Router::new()
        .route("/", post(|_: Bytes| async { note() }))
        .route("/count", get(|| async { seen().count.to_string() }))
        .route("/take", get(|| async { take() }));
    axum::serve(listener, router).await?;
    Ok(())
}

fn note() {
    let now = Instant::now();
    let mut seen = SEEN.lock().expect("no panic holds it");
    seen.count += 1;
    seen.first.get_or_insert(now);
    seen.last = Some(now);
}

fn seen() -> Seen {
    *SEEN.lock().expect("no panic holds it")
}

fn take() -> String {
    let seen = std::mem::take(&mut *SEEN.lock().expect("no panic holds it"));
    let took = seen.first.zip(seen.last).map_or(0.0, |(first, last)| (last - first).as_secs_f64());
    format!("{} {took}", seen.count)
}
