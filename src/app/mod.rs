//! The only place that knows every part: builds them from the configuration, and owns the order in
//! which they start and stop.
//!
//! The admin server is bound before anything is taken from a broker, and answers until the last
//! pipeline has ended, so that a drain can be watched.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::admin;
use crate::bridge::{Parts, Pipeline, Report};
use crate::config::{Config, Env};
use crate::source::{Source, SourceError};
use crate::telemetry::{self, Metrics, Status};

mod brokers;
mod build;
mod control;
mod error;
mod peers;

pub use build::policy;
use control::Controls;
pub use error::{BuildError, BuildErrorKind};

/// Everything that `run` starts.
pub struct App {
    pipelines: Vec<(Parts, AnySource)>,
    metrics: Arc<Metrics>,
    admin: Option<admin::Server>,
    /// What other replicas and people ask for, at the admin server.
    requests: axum::Router,
}

/// Either broker's source.
enum AnySource {
    Rabbitmq(crate::source::rabbitmq::Source),
    #[cfg(feature = "kafka")]
    Kafka(crate::source::kafka::Source),
}

/// How everything ended.
#[derive(Debug)]
pub enum End {
    /// Nothing was lost or cut.
    Drained,
    /// So many items' work was cut short.
    Cut(usize),
    /// A broker refused for good.
    Refused(SourceError),
}

impl App {
    /// Builds all parts. Connects to nothing, but binds the admin server.
    ///
    /// # Errors
    /// The first part that can't be built, with what to do.
    pub async fn build(config: &Config, env: Env<'_>) -> Result<Self, BuildError> {
        let metrics = Arc::new(Metrics::new());
        let mut pipelines = Vec::new();
        let mut replicas = peers::replicas(config)?;
        let mut controls = Controls::new(config.admin.token.clone());
        for pipeline in &config.pipelines {
            let mut parts = build::parts(pipeline, config, &metrics, env)?;
            parts.control = Some(controls.of(&pipeline.name));
            if let Some(replicas) = &mut replicas {
                parts.replicas = replicas.of(&pipeline.name);
            }
            pipelines.push((parts, brokers::source(pipeline, config.peers.is_some())?));
        }
        let admin = match &config.admin.listen {
            Some(address) => {
                Some(admin::Server::bind(address).await.map_err(|error| BuildError::listen(address, error))?)
            }
            None => None,
        };
        let questions = replicas.map(|replicas| replicas.router).unwrap_or_default();
        let requests = questions.merge(controls.router());
        Ok(App { pipelines, metrics, admin, requests })
    }

    /// The counters that the parts count with.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Runs until every pipeline has ended: after `drain` is cancelled, or because its broker refused.
    pub async fn run(self, drain: CancellationToken) -> End {
        let statuses: Vec<Arc<Status>> =
            self.pipelines.iter().map(|(parts, _)| parts.status.clone()).collect();
        let reminder = AbortOnDropHandle::new(tokio::spawn(telemetry::remind(statuses.clone())));
        let stop_admin = CancellationToken::new();
        let admin = self.admin.map(|server| {
            let view = admin::View { metrics: self.metrics.clone(), pipelines: statuses };
            tokio::spawn(server.run(view, self.requests, stop_admin.clone()))
        });
        let mut running = JoinSet::new();
        for (parts, source) in self.pipelines {
            let drain = drain.clone();
            running.spawn(async move {
                match source {
                    AnySource::Rabbitmq(source) => run_pipeline(parts, source, drain).await,
                    #[cfg(feature = "kafka")]
                    AnySource::Kafka(source) => run_pipeline(parts, source, drain).await,
                }
            });
        }
        let end = collect(running).await;
        drop(reminder);
        stop_admin.cancel();
        if let Some(admin) = admin {
            // An open connection to the admin server is no reason to stay.
            let _ = tokio::time::timeout(Duration::from_secs(1), admin).await;
        }
        end
    }
}

async fn run_pipeline(
    parts: Parts,
    source: impl Source,
    drain: CancellationToken,
) -> Result<Report, SourceError> {
    let name = parts.name.clone();
    let result = Pipeline::run(parts, source, drain).await;
    match &result {
        Ok(report) => tracing::info!(pipeline = name, cut = report.cut, "Pipeline ended"),
        Err(error) => {
            tracing::error!(pipeline = name, %error, hint = error.hint, "Pipeline stopped for good")
        }
    }
    result
}

/// The worst of all ends: a pipeline that was refused outweighs one that was cut.
async fn collect(mut running: JoinSet<Result<Report, SourceError>>) -> End {
    let mut cut = 0;
    let mut refused = None;
    while let Some(joined) = running.join_next().await {
        match joined {
            Ok(Ok(report)) => cut += report.cut,
            Ok(Err(error)) => {
                refused.get_or_insert(error);
            }
            Err(error) => {
                tracing::error!(%error, "A pipeline's task ended abnormally; its items stay with the broker");
                cut += 1;
            }
        }
    }
    match refused {
        Some(error) => End::Refused(error),
        None if cut > 0 => End::Cut(cut),
        None => End::Drained,
    }
}
