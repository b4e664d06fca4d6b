//! The demo's service: hellotest behind the in-process activator and autoscaler.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::Request;
use tokio::time::Instant;

use super::Failure;
use crate::knative::hellotest::{self, OutcomeHeader, Wait};
use crate::knative::kpa::{Cluster, Config};
use crate::knative::service::{Handle, Service, Settings};

/// How often each item ran, by the CloudEvent's id: the worker's own word, not the bridge's.
#[derive(Default)]
pub struct Runs(Mutex<Log>);

#[derive(Default)]
struct Log {
    by_id: HashMap<String, u32>,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// What the worker saw.
pub struct Tally {
    /// Items that ran exactly once.
    pub once: u32,
    pub more_than_once: u32,
    /// From the first request to the last answer.
    pub took: Duration,
}

impl Runs {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, id: &str) {
        let mut log = self.log();
        *log.by_id.entry(id.to_owned()).or_default() += 1;
        log.first.get_or_insert_with(Instant::now);
    }

    fn end(&self) {
        self.log().last = Some(Instant::now());
    }

    pub fn tally(&self) -> Tally {
        let log = self.log();
        let once = log.by_id.values().filter(|runs| **runs == 1).count() as u32;
        let took = log.first.zip(log.last).map_or(Duration::ZERO, |(first, last)| last - first);
        Tally { once, more_than_once: log.by_id.len() as u32 - once, took }
    }
}

/// Starts the service at zero replicas, with the settings that `deploy/` uses, but a window of six
/// seconds, so that the way back to zero can be watched.
pub async fn start(wait: Duration, max_scale: u32, runs: Arc<Runs>) -> Result<Handle, Failure> {
    let cluster = Cluster {
        allow_zero_initial_scale: true,
        initial_scale: 0,
        target_utilization: 1.0,
        target_burst_capacity: -1.0,
        stable_window: Duration::from_secs(6),
        panic_threshold_percentage: 110.0,
        max_scale,
        ..Cluster::default()
    };
    let worker = Arc::new(hellotest::Settings {
        target: "demo".to_owned(),
        wait: Wait::PerRequest(Arc::new(move |_| wait)),
        outcome: OutcomeHeader::Done,
        ..hellotest::Settings::default()
    });
    let settings = Settings::new(Config::resolve(&cluster, &Default::default(), 1));
    let settings =
        Settings { timeout: Duration::from_secs(3600), stop_grace: Duration::from_secs(1), ..settings };
    Service::start(settings, move |request: Request| {
        let id = request.headers().get("ce-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
        runs.begin(id);
        let (worker, runs) = (worker.clone(), runs.clone());
        async move {
            let answer = worker.answer(request).await;
            runs.end();
            answer
        }
    })
    .await
    .map_err(|error| Failure::part(format!("the service can't listen: {error}"), "free a loopback port"))
}
