//! The only module that depends on every part. It builds the parts from the configuration, starts
//! them, and stops them in order.
//!
//! The admin server is bound before an item is taken from a broker. It answers until the last
//! pipeline has ended, so that a drain can be watched.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::admin;
use crate::api::Api;
use crate::bridge::{Parts, Pipeline, Report};
use crate::config::{self, Config, Env};
use crate::guard;
use crate::progress::Registry;
use crate::source::{Source, SourceError};
use crate::telemetry::traces::Exporter;
use crate::telemetry::{self, Metrics, Status, Traces};

mod brokers;
mod build;
pub mod descriptors;
mod error;
mod glance;
mod intake;
mod peers;

pub use build::policy;
pub use error::{BuildError, BuildErrorKind};

/// How long the end of the process waits until the last spans are sent.
const TRACES_FLUSH: Duration = Duration::from_secs(5);

/// How long the end of the process waits for items that are being written.
const INTAKE_END: Duration = Duration::from_secs(5);

/// The parts that `run` starts.
pub struct App {
    pipelines: Vec<(Parts, AnySource)>,
    metrics: Arc<Metrics>,
    admin: Option<admin::Server>,
    /// The routes of other replicas and of changes by people.
    requests: axum::Router,
    guard: Option<Guarded>,
    traces: Option<Exporter>,
    intake: Option<intake::Bound>,
}

/// The guard of busy pods.
struct Guarded {
    settings: config::Guard,
    lookout: Arc<guard::Lookout>,
}

/// All parts but the bound port.
struct Built {
    pipelines: Vec<(Parts, AnySource)>,
    metrics: Arc<Metrics>,
    tls: Option<admin::Tls>,
    requests: axum::Router,
    guard: Option<Guarded>,
    traces: Option<Exporter>,
}

/// The source of either broker.
enum AnySource {
    Rabbitmq(crate::source::rabbitmq::Source),
    #[cfg(feature = "kafka")]
    Kafka(crate::source::kafka::Source),
}

impl AnySource {
    /// Lets the status watch the source's own thread, if it has one.
    fn watched(self, status: &Arc<Status>) -> Self {
        match self {
            #[cfg(feature = "kafka")]
            AnySource::Kafka(source) => {
                let status = status.clone();
                AnySource::Kafka(source.with_pulse(move || status.pulse("kafka poll thread")))
            }
            other @ AnySource::Rabbitmq(_) => {
                let _ = status;
                other
            }
        }
    }
}

/// The end of all pipelines.
#[derive(Debug)]
pub enum End {
    /// No work was lost or cut.
    Drained,
    /// The work of this many items was cut short.
    Cut(usize),
    /// A source gave up for good.
    Refused(SourceError),
}

impl App {
    /// Builds all parts and binds the admin server. Opens no other connection.
    ///
    /// # Errors
    /// Returns the first part that cannot be built.
    pub async fn build(config: &Config, env: Env<'_>) -> Result<Self, BuildError> {
        let Built { pipelines, metrics, tls, requests, guard, traces } =
            build(config, env).map_err(|mut errors| errors.remove(0))?;
        descriptors::check(config, descriptors::raise_limit())?;
        let admin = match &config.admin.listen {
            Some(address) => {
                let known = descriptors::known_connections(config);
                let bound = admin::Server::bind(address, tls, known).await;
                Some(bound.map_err(|error| BuildError::listen("admin.listen", address, error))?)
            }
            None => None,
        };
        let intake = intake::bind(config, &metrics).await?;
        Ok(App { pipelines, metrics, admin, requests, guard, traces, intake })
    }

    /// Builds all parts like [`App::build`], without a broker or a port, and drops them. Returns
    /// all errors that [`App::build`] would return. The second list contains the resources that
    /// this machine lacks; another machine may have them.
    pub fn check(config: &Config, env: Env<'_>) -> (Vec<BuildError>, Vec<BuildError>) {
        let mut offline = config.clone();
        brokers::without_servers(&mut offline);
        let errors = build(&offline, env).err().unwrap_or_default();
        (errors, descriptors::check(config, descriptors::raise_limit()).err().into_iter().collect())
    }

    /// Returns the counters of the parts.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Runs until every pipeline has ended, because `drain` was cancelled or because its source
    /// gave up.
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
        let stop_guard = CancellationToken::new();
        let guard = self.guard.map(|Guarded { settings, lookout }| {
            let after = settings.after.map(|after| after.get());
            let metrics = self.metrics.guard();
            let guard = guard::guard(settings.namespace, after, lookout, metrics, stop_guard.clone());
            tokio::spawn(guard)
        });
        let stop_traces = CancellationToken::new();
        let traces = self.traces.map(|exporter| tokio::spawn(exporter.run(stop_traces.clone())));
        let stop_intake = drain.child_token();
        let intake = self.intake.map(|intake| tokio::spawn(intake.run(stop_intake.clone())));
        let mut running = JoinSet::new();
        for (parts, source) in self.pipelines {
            let drain = drain.clone();
            // The span puts the pipeline's name on every log line of its tasks and threads.
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
        stop_guard.cancel();
        if let Some(guard) = guard {
            // Its marks go with it; that has a limit.
            let _ = guard.await;
        }
        drop(reminder);
        // The pipelines also end without a drain, if their sources give up.
        stop_intake.cancel();
        if let Some(intake) = intake {
            // It takes nothing new since the start of the drain. A write that hangs must not delay
            // the end.
            let _ = tokio::time::timeout(INTAKE_END, intake).await;
        }
        stop_traces.cancel();
        if let Some(traces) = traces {
            // A receiver that does not answer must not delay the end.
            let _ = tokio::time::timeout(TRACES_FLUSH, traces).await;
        }
        stop_admin.cancel();
        if let Some(admin) = admin {
            // An open connection to the admin server must not delay the end.
            let _ = tokio::time::timeout(Duration::from_secs(1), admin).await;
        }
        end
    }
}

/// Builds all parts. Otherwise returns all errors, at least one.
fn build(config: &Config, env: Env<'_>) -> Result<Built, Vec<BuildError>> {
    let metrics = Arc::new(Metrics::new());
    let (mut pipelines, mut errors) = (Vec::new(), Vec::new());
    let mut replicas = peers::replicas(config).unwrap_or_else(|error| {
        errors.push(error);
        None
    });
    let reports = Arc::new(Registry::new(build::reachable(&config.admin)));
    let replica = build::replica_name(config, env);
    let mut api = Api::new(config.admin.token.clone(), config.admin.read_token.clone(), reports.clone())
        .among(replica.clone(), replicas.as_ref().map(|replicas| replicas.client()));
    let guard =
        config.guard.as_ref().map(|settings| Guarded { settings: settings.clone(), lookout: Arc::default() });
    let (traces, exporter) =
        Traces::from_variables(env, &replica, metrics.traces()).unwrap_or_else(|error| {
            errors.push(BuildError::traces(&error));
            (Traces::default(), None)
        });
    for pipeline in &config.pipelines {
        match (
            build::parts(pipeline, config, &metrics, env),
            brokers::source(pipeline, config.peers.is_some()),
        ) {
            (Ok(mut parts), Ok(source)) => {
                let source = source.watched(&parts.status);
                parts.control = Some(api.of(&pipeline.name));
                parts.reports = reports.clone();
                parts.traces = traces.clone();
                parts.guard = guard.as_ref().map(|guard| build::post(pipeline, &guard.lookout, env));
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
    let api = Arc::new(api);
    let questions = replicas.map(|replicas| {
        replicas.answer_with(api.clone().local());
        replicas.router
    });
    let requests = questions.unwrap_or_default().merge(api.router());
    if errors.is_empty() {
        Ok(Built { pipelines, metrics, tls, requests, guard, traces: exporter })
    } else {
        Err(errors)
    }
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

/// Returns the worst of all ends: a source that gave up counts as worse than cut work.
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
