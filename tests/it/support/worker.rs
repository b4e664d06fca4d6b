//! A service that takes any number of items at once, and remembers its requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use tokio::sync::Semaphore;

/// Returns the answer to a body in its n-th attempt, after the work.
type Answers = Arc<dyn Fn(&[u8], u32) -> Response + Send + Sync>;

pub struct Worker {
    pub url: String,
    log: Arc<Mutex<Log>>,
    /// The permits to end a request, in a worker that holds its requests.
    gate: Option<Arc<Semaphore>>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Clone, Default)]
pub struct Log {
    /// The number of requests by the event's id.
    pub started: BTreeMap<String, u32>,
    pub finished: BTreeMap<String, u32>,
    pub bodies: BTreeMap<String, Vec<u8>>,
    /// The headers of the latest request.
    pub headers: BTreeMap<String, HeaderMap>,
    /// The time of each request.
    pub times: Vec<Instant>,
    pub open: usize,
    pub most_open: usize,
}

/// The time that the work takes.
#[derive(Clone)]
enum Work {
    Takes(Duration),
    /// Each request waits for a permit. A closed gate holds no request.
    Held(Arc<Semaphore>),
}

/// Counts a request that ends, however it ends.
struct Open(Arc<Mutex<Log>>);

impl Worker {
    /// Takes `wait` for each item and answers 200.
    pub async fn start(wait: Duration) -> Self {
        Worker::with_verdict(wait, |_| StatusCode::OK).await
    }

    /// Holds every request until the test releases it, and answers 200. The test decides when the
    /// work ends, so it does not depend on the speed of the machine.
    pub async fn held() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gate = Arc::new(Semaphore::new(0));
        let answer: Answers = Arc::new(|_, _| StatusCode::OK.into_response());
        let mut worker = Worker::serve(listener, Work::Held(gate.clone()), answer);
        worker.gate = Some(gate);
        worker
    }

    /// Lets `count` requests end, running ones first.
    pub fn release(&self, count: usize) {
        self.gate.as_ref().expect("a worker that holds").add_permits(count);
    }

    /// Lets all requests end, also the later ones.
    pub fn release_all(&self) {
        self.gate.as_ref().expect("a worker that holds").close();
    }

    pub async fn with_verdict(wait: Duration, verdict: fn(&[u8]) -> StatusCode) -> Self {
        Worker::with_answer(wait, move |body| verdict(body).into_response()).await
    }

    pub async fn with_answer(
        wait: Duration,
        answer: impl Fn(&[u8]) -> Response + Send + Sync + 'static,
    ) -> Self {
        Worker::listen(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(), wait, answer)
    }

    /// Answers depending on the number of the attempt.
    pub async fn with_attempts(wait: Duration, verdict: fn(&[u8], u32) -> StatusCode) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let answer: Answers = Arc::new(move |body, attempt| verdict(body, attempt).into_response());
        Worker::serve(listener, Work::Takes(wait), answer)
    }

    pub fn listen(
        listener: tokio::net::TcpListener,
        wait: Duration,
        answer: impl Fn(&[u8]) -> Response + Send + Sync + 'static,
    ) -> Self {
        Worker::serve(listener, Work::Takes(wait), Arc::new(move |body, _| answer(body)))
    }

    fn serve(listener: tokio::net::TcpListener, wait: Work, answer: Answers) -> Self {
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let log: Arc<Mutex<Log>> = Arc::default();
        let shared = log.clone();
        let router = Router::new()
            .fallback(move |request: Request| work(shared.clone(), request, wait.clone(), answer.clone()));
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Worker { url, log, gate: None, server }
    }

    pub fn log(&self) -> Log {
        self.log.lock().unwrap().clone()
    }

    /// Returns the number of items whose work was done at least once.
    pub fn done(&self) -> usize {
        self.log.lock().unwrap().finished.len()
    }
}

impl Log {
    /// Returns the number of requests beyond the first of each item.
    pub fn second_runs(&self) -> u32 {
        self.started.values().map(|runs| runs - 1).sum()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().unwrap().open -= 1;
    }
}

async fn work(log: Arc<Mutex<Log>>, request: Request, wait: Work, answers: Answers) -> Response {
    let (parts, body) = request.into_parts();
    let mut bytes = Vec::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        bytes.extend(chunk.unwrap());
    }
    let id = match parts.headers.get("ce-id") {
        Some(id) => String::from_utf8(id.as_bytes().to_vec()).unwrap(),
        // An event in structured mode.
        None => {
            serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["id"].as_str().unwrap().to_owned()
        }
    };
    // A dead letter has no such attribute.
    let attempt = parts.headers.get("ce-attempt").map_or(1, |value| value.to_str().unwrap().parse().unwrap());
    let answer = answers(&bytes, attempt);
    let _open = {
        let mut seen = log.lock().unwrap();
        *seen.started.entry(id.clone()).or_default() += 1;
        seen.bodies.insert(id.clone(), bytes);
        seen.headers.insert(id.clone(), parts.headers);
        seen.times.push(Instant::now());
        seen.open += 1;
        seen.most_open = seen.most_open.max(seen.open);
        Open(log.clone())
    };
    match wait {
        Work::Takes(wait) => tokio::time::sleep(wait).await,
        Work::Held(gate) => {
            if let Ok(permit) = gate.acquire().await {
                permit.forget();
            }
        }
    }
    let mut seen = log.lock().unwrap();
    *seen.finished.entry(id).or_default() += 1;
    answer
}
