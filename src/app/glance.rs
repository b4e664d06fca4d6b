//! The first look at the brokers after the start: the cheap part of `longhaul check --connect`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::App;
use crate::config::{Config, Pipeline, process_env};
use crate::telemetry::Status;
use crate::tools::doctor::{self, Finding, Severity};

/// The time between two looks at the state of a pipeline.
const POLL: Duration = Duration::from_secs(1);

/// The longest time of a glance at one pipeline. It is beside the delivery, and delays nothing.
const LIMIT: Duration = Duration::from_secs(15);

impl App {
    /// Logs the faults of each source once, after its pipeline has connected. Delivery does not
    /// wait for it, and a broker that does not answer leaves the faults out.
    pub fn glance(&self, config: &Config) -> impl Future<Output = ()> + Send + 'static {
        let statuses: Vec<Arc<Status>> =
            self.pipelines.iter().map(|(parts, _)| parts.status.clone()).collect();
        let config = config.clone();
        async move {
            let all = config.pipelines.iter().zip(&statuses);
            join_all(all.map(|(pipeline, status)| look(pipeline, status))).await;
        }
    }
}

async fn look(pipeline: &Pipeline, status: &Status) {
    while !status.is_connected() {
        tokio::time::sleep(POLL).await;
    }
    let span = tracing::info_span!("pipeline", pipeline = pipeline.name);
    let tell = |finding: &Finding| span.in_scope(|| warn(finding));
    // A broker that stops to answer leaves out the rest.
    let _ = tokio::time::timeout(LIMIT, doctor::glance(pipeline, &process_env, &tell)).await;
}

fn warn(finding: &Finding) {
    let Finding { severity, kind, fact, consequence, fix, is_unavailable, .. } = finding;
    if *severity == Severity::Note || *is_unavailable {
        return;
    }
    tracing::warn!(
        kind,
        fact,
        consequence,
        help = fix,
        "The source has a fault that `check --connect` finds"
    );
}
