//! Replicas that know what a test tells them, and a peer that follows a script.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::*;

pub const TIMEOUT: Duration = Duration::from_millis(500);

/// A replica's items by identity, and what was asked of it.
#[derive(Default)]
pub struct Items {
    known: Mutex<HashMap<String, watch::Sender<Status>>>,
    offsets: Mutex<Vec<i64>>,
    claims: watch::Sender<Vec<Claim>>,
    released: Mutex<Vec<String>>,
    drains: AtomicBool,
}

impl Items {
    pub fn none() -> Arc<Self> {
        Arc::default()
    }

    pub fn with(identity: &str, status: Status) -> Arc<Self> {
        let items = Items::none();
        items.set(identity, status);
        items
    }

    pub fn set(&self, identity: &str, status: Status) {
        let mut known = self.known.lock().unwrap();
        let unknown = || watch::channel(Status::Unknown).0;
        known.entry(identity.to_owned()).or_insert_with(unknown).send_replace(status);
    }

    pub fn set_offsets(&self, offsets: Vec<i64>) {
        *self.offsets.lock().unwrap() = offsets;
    }

    pub fn claims(&self) -> Vec<Claim> {
        self.claims.borrow().clone()
    }

    pub fn drain(&self) {
        self.drains.store(true, Ordering::SeqCst);
    }

    pub fn released(&self) -> Vec<String> {
        self.released.lock().unwrap().clone()
    }

    /// Waits for a claim that is to be held.
    pub async fn asked_to_wait(&self) {
        let mut claims = self.claims.subscribe();
        let held = claims.wait_for(|claims| claims.iter().any(|claim| claim.wait_seconds > 0));
        timeout(Duration::from_secs(20), held).await.unwrap().unwrap();
    }
}

impl Answer for Items {
    async fn claim(&self, claim: Claim) -> Status {
        self.claims.send_modify(|claims| claims.push(claim.clone()));
        let known = self.known.lock().unwrap().get(&claim.identity).map(watch::Sender::subscribe);
        let Some(mut status) = known else { return Status::Unknown };
        let wait = Duration::from_secs(claim.wait_seconds);
        let _ = timeout(wait, status.wait_for(|status| *status != Status::Running)).await;
        status.borrow().clone()
    }

    async fn in_flight(&self, _: InFlight) -> Vec<i64> {
        self.offsets.lock().unwrap().clone()
    }

    async fn release(&self, release: Release) {
        self.released.lock().unwrap().push(release.delivery);
    }

    async fn stays(&self, _: Stay) -> bool {
        !self.drains.load(Ordering::SeqCst)
    }
}

/// A replica's answering side, which takes its connections along when it is dropped, as a killed process does.
pub struct Replica {
    pub address: String,
    runtime: Option<Runtime>,
}

impl Replica {
    pub fn start(items: &Arc<Items>) -> Self {
        Self::start_as(Instance::random(), items)
    }

    pub fn start_as(instance: Instance, items: &Arc<Items>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = router(items.clone(), instance, token("secret"));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        Replica { address, runtime: Some(runtime) }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A peer that gives these answers, one on each connection and at once, and closes without a word where there is none.
/// Its address, and the number of its questions so far.
pub fn script(
    answers: impl IntoIterator<Item = Option<String>, IntoIter: Send + 'static>,
) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, mut answers) = (Arc::clone(&asked), answers.into_iter());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Some(answer) = answers.next() else { return };
            let mut stream = stream.unwrap();
            let mut question = Vec::new();
            // A question is one JSON object, and the last thing in its request.
            while !question.ends_with(b"}") {
                let mut buffer = [0; 4096];
                let read = stream.read(&mut buffer).unwrap();
                question.extend_from_slice(&buffer[..read]);
            }
            count.fetch_add(1, Ordering::SeqCst);
            if let Some(body) = answer {
                let length = body.len();
                let head =
                    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
                // The other end stops reading where it has read enough.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
            }
        }
    });
    (address, asked)
}

pub fn token(text: &'static str) -> Token {
    Arc::new(move || Ok(text.to_owned()))
}

pub fn peers(addresses: &[&String]) -> Peers {
    peers_as(Instance::random(), addresses)
}

pub fn peers_as(instance: Instance, addresses: &[&String]) -> Peers {
    let discovery = Discovery::Fixed(addresses.iter().map(|&address| address.clone()).collect());
    let (token, proof) = (token("secret"), Duration::ZERO);
    Peers::new(Settings { instance, discovery, token, timeout: TIMEOUT, proof }).unwrap()
}
