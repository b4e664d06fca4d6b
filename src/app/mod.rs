//! The only place that knows every part. It builds them from the configuration, starts them and stops them in order.
//!
//! The admin server is bound before an item is taken from a broker, and answers until the last pipeline has ended, so that
//! a drain can be watched.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::admin;
use crate::bridge::{Parts, Pipeline, Report};
use crate::config::{Config, Env};
use crate::source::{Source, SourceError};
use crate::telemetry::{self, Metrics, Status};

mod brokers;
mod build;
mod control;
pub mod descriptors;
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
    /// The routes of other replicas and of changes by people.
    requests: axum::Router,
}

/// All parts but the bound port.
struct Built {
    pipelines: Vec<(Parts, AnySource)>,
    metrics: Arc<Metrics>,
    tls: Option<admin::Tls>,
    requests: axum::Router,
}

/// Either broker's source.
enum AnySource {
    Rabbitmq(crate::source::rabbitmq::Source),
    #[cfg(feature = "kafka")]
    Kafka(crate::source::kafka::Source),
}

impl AnySource {
    /// Lets the status watch the source's own thread, if it has one.
    fn watched(self, status: &Status) -> Self {
        match self {
            #[cfg(feature = "kafka")]
            AnySource::Kafka(source) => {
                AnySource::Kafka(source.with_pulse(status.pulse("kafka poll thread")))
            }
            other @ AnySource::Rabbitmq(_) => {
                let _ = status;
                other
            }
        }
    }
}

/// How everything ended.
#[derive(Debug)]
pub enum End {
    /// Nothing was lost or cut.
    Drained,
    /// The work of this many items was cut short.
    Cut(usize),
    /// A broker refused for good.
    Refused(SourceError),
}

impl App {
    /// Builds all parts. Connects to nothing, but binds the admin server.
    ///
    /// # Errors
    /// The first part that cannot be built.
    pub async fn build(config: &Config, env: Env<'_>) -> Result<Self, BuildError> {
        let Built { pipelines, metrics, tls, requests } =
            build(config, env).map_err(|mut errors| errors.remove(0))?;
        descriptors::check(config, descriptors::raise_limit())?;
        let admin = match &config.admin.listen {
            Some(address) => {
                let known = descriptors::known_connections(config);
                let bound = admin::Server::bind(address, tls, known).await;
                Some(bound.map_err(|error| BuildError::listen(address, error))?)
            }
            None => None,
        };
        Ok(App { pipelines, metrics, admin, requests })
    }

    /// Builds all parts as [`App::build`] does, and drops them: everything that [`App::build`] would refuse, without a
    /// broker or a port. The second list is what this machine lacks, and another may have.
    pub fn check(config: &Config, env: Env<'_>) -> (Vec<BuildError>, Vec<BuildError>) {
        let mut offline = config.clone();
        brokers::without_servers(&mut offline);
        let errors = build(&offline, env).err().unwrap_or_default();
        (errors, descriptors::check(config, descriptors::raise_limit()).err().into_iter().collect())
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
        self.metrics.watch(&statuses);
        let stop_admin = CancellationToken::new();
        let admin = self.admin.map(|server| {
            let view = admin::View { metrics: self.metrics.clone(), pipelines: statuses };
            tokio::spawn(server.run(view, self.requests, stop_admin.clone()))
        });
        let mut running = JoinSet::new();
        for (parts, source) in self.pipelines {
            let drain = drain.clone();
            // Every log line of the pipeline's tasks and threads names it.
            let span = tracing::info_span!("pipeline", pipeline = parts.name);
            let pipeline = async move {
                match source {
                    AnySource::Rabbitmq(source) => run_pipeline(parts, source, drain).await,
                    #[cfg(feature = "kafka")]
                    AnySource::Kafka(source) => run_pipeline(parts, source, drain).await,
                }
            };
            running.spawn(pipeline.instrument(span));
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

/// All parts, or everything that cannot be built; then there is at least one error.
fn build(config: &Config, env: Env<'_>) -> Result<Built, Vec<BuildError>> {
    let metrics = Arc::new(Metrics::new());
    let (mut pipelines, mut errors) = (Vec::new(), Vec::new());
    let mut replicas = peers::replicas(config).unwrap_or_else(|error| {
        errors.push(error);
        None
    });
    let mut controls = Controls::new(config.admin.token.clone());
    for pipeline in &config.pipelines {
        match (
            build::parts(pipeline, config, &metrics, env),
            brokers::source(pipeline, config.peers.is_some()),
        ) {
            (Ok(mut parts), Ok(source)) => {
                let source = source.watched(&parts.status);
                parts.control = Some(controls.of(&pipeline.name));
                if let Some(replicas) = &mut replicas {
                    parts.replicas = replicas.of(&pipeline.name);
                }
                pipelines.push((parts, source));
            }
            (parts, source) => errors.extend(parts.err().into_iter().chain(source.err())),
        }
    }
    let tls = match &config.admin.tls {
        Some(tls) => admin::Tls::from_files(&tls.cert_file, &tls.key_file)
            .map_err(|error| {
                errors.push(BuildError::whole(
                    format!("admin.tls: {error}"),
                    "name PEM files that belong together",
                ));
            })
            .ok(),
        None => None,
    };
    let questions = replicas.map(|replicas| replicas.router).unwrap_or_default();
    let requests = questions.merge(controls.router());
    if errors.is_empty() { Ok(Built { pipelines, metrics, tls, requests }) } else { Err(errors) }
}

async fn run_pipeline(
    parts: Parts,
    source: impl Source,
    drain: CancellationToken,
) -> Result<Report, SourceError> {
    let result = Pipeline::run(parts, source, drain).await;
    match &result {
        Ok(report) => tracing::info!(cut = report.cut, "Pipeline ended"),
        Err(error) => tracing::error!(%error, help = error.hint, "Pipeline stopped for good"),
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
