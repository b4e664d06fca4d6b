//! The HTTP entry point of a running bridge (`intake:`).

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::error::BuildError;
use crate::config::{self, Config};
use crate::telemetry::Metrics;
use crate::tools::intake::{self, Settings};
use crate::tools::{Failure, Place, pipeline};

/// A bound entry point.
pub(super) struct Bound {
    settings: Settings,
    listener: TcpListener,
}

/// Binds the address, if an entry point is configured.
///
/// # Errors
/// The address is taken, or the configuration names no queue or topic.
pub(super) async fn bind(config: &Config, metrics: &Metrics) -> Result<Option<Bound>, BuildError> {
    let Some(intake) = &config.intake else { return Ok(None) };
    let settings = settings(intake, config, metrics)
        .map_err(|Failure { what, help, .. }| BuildError::whole(format!("intake: {what}"), &help))?;
    let listener = TcpListener::bind(&intake.listen).await;
    let listener = listener.map_err(|error| BuildError::listen("intake.listen", &intake.listen, error))?;
    Ok(Some(Bound { settings, listener }))
}

fn settings(intake: &config::Intake, config: &Config, metrics: &Metrics) -> Result<Settings, Failure> {
    let pipeline = pipeline(config, intake.pipeline.as_deref())?;
    Ok(Settings {
        to: Place::source(pipeline)?,
        group: pipeline.source.kafka.as_ref().map(|source| source.group.clone()),
        backlog_max: intake.backlog,
        window: intake.window.into(),
        body_bytes: usize::try_from(intake.body_bytes.get()).unwrap_or(usize::MAX),
        remember: usize::try_from(intake.remember).unwrap_or(usize::MAX),
        token: intake.token.clone(),
        counts: metrics.intake(),
    })
}

impl Bound {
    /// Accepts items until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        match intake::run(self.settings, self.listener, stop).await {
            Ok(()) => tracing::info!("Intake has ended"),
            Err(Failure { what, help, .. }) => {
                tracing::error!(error = what, help, "Intake has ended; the pipelines go on");
            }
        }
    }
}
