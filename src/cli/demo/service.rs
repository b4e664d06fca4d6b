//! Starts the service of the demo: the one of `longhaul serve`, with this program as its worker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Failure;
use super::worker::{BEGIN, END, WORKER_COMMAND};
use crate::knative::manifest;
use crate::knative::serve::{Command, Handle, Line, Program, Server, Settings};

/// How often each item ran, by the CloudEvent's id. The worker reports this, not the bridge.
#[derive(Default)]
pub struct Runs(Mutex<Log>);

#[derive(Default)]
struct Log {
    by_id: HashMap<String, u32>,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// The runs that the worker saw.
pub struct Tally {
    /// Items that ran exactly once.
    pub once: u32,
    pub more_than_once: u32,
    /// The time from the first request to the last answer.
    pub took: Duration,
}

impl Runs {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a line of a worker.
    fn note(&self, line: &str) {
        if let Some(id) = line.strip_prefix(BEGIN) {
            self.begin(id);
        } else if line.starts_with(END) {
            self.end();
        }
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

/// Starts the service at zero replicas, with the settings of `deploy/`, but with a window of six
/// seconds, so that the way back to zero can be watched. Each replica is another process of this
/// program, as a worker that reports the items it begins and ends.
pub async fn start(wait: Duration, max_scale: u32, runs: Arc<Runs>) -> Result<Handle, Failure> {
    let defect = "this is a defect of longhaul: please report it";
    let service = manifest_of(wait, max_scale);
    let loaded = manifest::load(("demo", &service), Some(("demo", CONFIG_MAP)))
        .map_err(|error| Failure::part(error, defect))?;
    let longhaul = std::env::current_exe().map_err(|error| {
        Failure::part(format!("the file of this program is unknown: {error}"), "start it by its full path")
    })?;
    let program = Program::Command(Command {
        words: vec![longhaul.display().to_string(), WORKER_COMMAND.to_owned()],
        longhaul,
        output: Arc::new(move |line: Line<'_>| runs.note(line.text)),
    });
    let settings = Settings {
        cold_start: Duration::from_secs(1),
        stop_grace: Duration::from_secs(2),
        ..Settings::new(loaded.service, program)
    };
    Server::start(settings).await.map_err(|error| {
        Failure::part(format!("the service can't be started: {error}"), "free a loopback port")
    })
}

const CONFIG_MAP: &str = r#"
kind: ConfigMap
metadata: { name: config-autoscaler }
data: { allow-zero-initial-scale: "true" }
"#;

fn manifest_of(wait: Duration, max_scale: u32) -> String {
    format!(
        r#"
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {{ name: demo }}
spec:
  template:
    metadata:
      annotations:
        autoscaling.knative.dev/target-utilization-percentage: "100"
        autoscaling.knative.dev/target-burst-capacity: "-1"
        autoscaling.knative.dev/panic-threshold-percentage: "110"
        autoscaling.knative.dev/window: 6s
        autoscaling.knative.dev/initial-scale: "0"
        autoscaling.knative.dev/max-scale: "{max_scale}"
    spec:
      containerConcurrency: 1
      timeoutSeconds: 3600
      responseStartTimeoutSeconds: 0
      containers:
        - image: longhaul
          env:
            - {{ name: TARGET, value: demo }}
            - {{ name: WAITSECOND, value: "{wait:?}" }}
            - {{ name: OUTCOME_HEADER, value: "true" }}
"#
    )
}
