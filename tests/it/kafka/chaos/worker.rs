//! A service that remembers every run: the record, the member, the start and the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The longest work on an item.
const LONGEST: Duration = Duration::from_millis(50);

pub struct Worker {
    pub url: String,
    runs: Arc<Mutex<Runs>>,
    server: JoinHandle<()>,
}

/// The runs of each event id, in the order of their start.
type Runs = BTreeMap<String, Vec<Run>>;

#[derive(Debug)]
struct Run {
    member: usize,
    started: Instant,
    /// `None` while it runs.
    ended: Option<Instant>,
    /// False also if its member disappeared before the end.
    finished: bool,
}

/// Records the end of a run, in whatever way it ends.
struct Open {
    runs: Arc<Mutex<Runs>>,
    id: String,
    number: usize,
}

impl Worker {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let runs = Arc::<Mutex<Runs>>::default();
        let shared = runs.clone();
        let router = Router::new().fallback(move |request: Request| work(shared.clone(), request));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Worker { url, runs, server }
    }

    /// Returns the number of records that were done at least once.
    pub fn finished(&self) -> usize {
        let runs = self.runs.lock().unwrap();
        runs.values().filter(|runs| runs.iter().any(|run| run.finished)).count()
    }

    pub fn second_runs(&self) -> usize {
        self.runs.lock().unwrap().values().map(|runs| runs.len() - 1).sum()
    }

    /// Counts the runs of a member that started by `until` and had not ended at `since`.
    pub fn in_hand(&self, member: usize, since: Instant, until: Instant) -> usize {
        let runs = self.runs.lock().unwrap();
        runs.values().flatten().filter(|run| run.is_in_hand(member, since, until)).count()
    }

    /// Prints the records that ran twice although no killed member had them, and returns their
    /// number.
    pub fn unexplained(&self, kills: &[(usize, Instant, Instant)], margin: Duration) -> usize {
        let mut unexplained = 0;
        for (id, runs) in self.runs.lock().unwrap().iter().filter(|(_, runs)| runs.len() > 1) {
            for pair in runs.windows(2) {
                let (first, second) = (&pair[0], &pair[1]);
                if kills.iter().any(|&(member, from, to)| first.is_in_hand(member, from - margin, to)) {
                    continue;
                }
                unexplained += 1;
                let kill = kills.iter().map(|kill| kill.2).filter(|&kill| kill < second.started).max();
                println!(
                    "{id}: member {} took {:?}; member {} began {:?} later, {:?} after a kill",
                    first.member,
                    first.ended.map(|ended| ended - first.started),
                    second.member,
                    second.started - first.started,
                    kill.map(|kill| second.started - kill),
                );
            }
        }
        unexplained
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Run {
    fn is_in_hand(&self, member: usize, since: Instant, until: Instant) -> bool {
        let runs = self.ended.is_none_or(|ended| ended >= since);
        self.member == member && self.started <= until && runs
    }
}

impl Open {
    fn with(&self, change: impl FnOnce(&mut Run)) {
        let mut runs = self.runs.lock().unwrap();
        change(&mut runs.get_mut(&self.id).unwrap()[self.number]);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.with(|run| run.ended = Some(Instant::now()));
    }
}

async fn work(runs: Arc<Mutex<Runs>>, request: Request) {
    let member = request.uri().path().trim_matches('/').parse().unwrap();
    let id = request.headers()["ce-id"].to_str().unwrap().to_owned();
    let number = {
        let mut runs = runs.lock().unwrap();
        let of_id = runs.entry(id.clone()).or_default();
        of_id.push(Run { member, started: Instant::now(), ended: None, finished: false });
        of_id.len() - 1
    };
    let open = Open { runs, id, number };
    tokio::time::sleep(LONGEST.mul_f64(fastrand::f64())).await;
    open.with(|run| run.finished = true);
}
