//! Test replicas whose items a test sets, and a peer that follows a script.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::*;
use crate::peers::seal::Key;

pub const TIMEOUT: Duration = Duration::from_millis(500);

/// The patience of the pipeline `p`. It is long for the tests that wait for a result, and short for
/// the test whose result never comes.
pub const PATIENCE: Duration = Duration::from_secs(6);

pub const SECRET: &str = "a secret of the replicas";

/// A replica's items by identity, and the questions that it got.
#[derive(Default)]
pub struct Items {
    known: Mutex<HashMap<String, watch::Sender<ItemStatus>>>,
    offsets: Mutex<Vec<i64>>,
    claims: watch::Sender<Vec<Claim>>,
    released: Mutex<Vec<String>>,
    drains: AtomicBool,
}

impl Items {
    pub fn none() -> Arc<Self> {
        Arc::default()
    }

    pub fn with(identity: &str, status: ItemStatus) -> Arc<Self> {
        let items = Items::none();
        items.set(identity, status);
        items
    }

    pub fn set(&self, identity: &str, status: ItemStatus) {
        let mut known = self.known.lock().unwrap();
        let unknown = || watch::channel(ItemStatus::Unknown).0;
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

    /// Waits until a claim asks to be held.
    pub async fn asked_to_wait(&self) {
        let mut claims = self.claims.subscribe();
        let held = claims.wait_for(|claims| claims.iter().any(|claim| claim.wait_seconds > 0));
        timeout(Duration::from_secs(20), held).await.unwrap().unwrap();
    }
}

impl Responder for Items {
    async fn claim(&self, claim: Claim) -> ItemStatus {
        self.claims.send_modify(|claims| claims.push(claim.clone()));
        let known = self.known.lock().unwrap().get(&claim.identity).map(watch::Sender::subscribe);
        let Some(mut status) = known else { return ItemStatus::Unknown };
        let wait = Duration::from_secs(claim.wait_seconds);
        let _ = timeout(wait, status.wait_for(|status| *status != ItemStatus::Running)).await;
        status.borrow().clone()
    }

    async fn in_flight(&self, _: InFlight) -> Vec<i64> {
        self.offsets.lock().unwrap().clone()
    }

    async fn release(&self, release: Release) {
        self.released.lock().unwrap().push(release.delivery);
    }

    async fn call(&self, call: Call) -> Called {
        Called { replica: "other".to_owned(), status: 200, body: call.target }
    }

    async fn stays(&self, _: Stay) -> bool {
        !self.drains.load(Ordering::SeqCst)
    }
}

/// A replica's answering side. Dropping it closes its connections, like a killed process.
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
        let router = router(items.clone(), instance, token(SECRET), 1000);
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

/// The answer of a scripted peer.
#[derive(Clone)]
pub enum Scripted {
    /// An answer with the proof that a replica gives.
    Proven(String),
    /// The whole response, as a stranger may send it.
    Raw(Vec<u8>),
    /// The connection is closed without an answer.
    Nothing,
}

/// Starts a peer that gives these answers, one on each connection and at once. Returns its address
/// and the number of its questions.
pub fn script(
    answers: impl IntoIterator<Item = Scripted, IntoIter: Send + 'static>,
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
            // A question is one JSON object, and the last part of its request.
            while !question.ends_with(b"}") {
                let mut buffer = [0; 4096];
                let Ok(read @ 1..) = stream.read(&mut buffer) else { break };
                question.extend_from_slice(&buffer[..read]);
            }
            count.fetch_add(1, Ordering::SeqCst);
            let response = match answer {
                Scripted::Proven(body) => proven(&String::from_utf8(question).unwrap(), &body),
                Scripted::Raw(response) => response,
                Scripted::Nothing => continue,
            };
            // The other end stops reading when it has read enough.
            let _ = stream.write_all(&response);
        }
    });
    (address, asked)
}

/// The response of a replica that knows the secret.
fn proven(question: &str, body: &str) -> Vec<u8> {
    let proof = question.lines().find_map(|line| line.strip_prefix("longhaul-proof: ")).unwrap();
    let code = Key::from_secret(SECRET).unwrap().answer(&proof.parse().unwrap(), body.as_bytes());
    response(&format!("longhaul-proof: {code}\r\n"), body)
}

pub fn response(headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n");
    [head.as_bytes(), body.as_bytes()].concat()
}

pub fn settings(instance: Instance, discovery: Discovery, token: Token) -> Settings {
    let patience = HashMap::from([("p".to_owned(), PATIENCE)]);
    let (tls, proof) = (crate::config::Tls::default(), Duration::ZERO);
    Settings { instance, discovery, token, tls, timeout: TIMEOUT, proof, patience }
}

pub fn token(text: &'static str) -> Token {
    Arc::new(move || Ok(text.to_owned()))
}

pub fn peers(addresses: &[&String]) -> Peers {
    peers_as(Instance::random(), addresses)
}

pub fn peers_as(instance: Instance, addresses: &[&String]) -> Peers {
    let discovery = Discovery::Fixed(addresses.iter().map(|&address| address.clone()).collect());
    Peers::new(settings(instance, discovery, token(SECRET))).unwrap()
}
