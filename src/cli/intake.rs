//! `longhaul intake`: an HTTP entry point to a queue or topic.

use std::io::{self, Write};

use longhaul_places::units::{ByteCount, UnitError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::exit;
use super::tools::{self, End};
use crate::config::Secret;
use crate::telemetry::IntakeCounts;
use crate::tools::intake::{self, Settings};
use crate::tools::{Failure, Place, enqueue};

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    target: tools::Target,
    /// The address for requests.
    #[arg(long, env = "LONGHAUL_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    listen: String,
    /// The bearer token that each item needs. May hold `${env:NAME}` and `${file:/path}`.
    #[arg(long, env = "LONGHAUL_INTAKE_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Items in the queue from which on requests are answered with 429. For a topic it needs a
    /// configuration, whose group tells the backlog.
    #[arg(long, env = "LONGHAUL_BACKLOG", value_name = "N")]
    backlog: Option<u64>,
    /// Requests at once.
    #[arg(long, env = "LONGHAUL_WINDOW", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    window: u16,
    /// The longest body that is accepted.
    #[arg(long, env = "LONGHAUL_BODY_BYTES", default_value = "1MiB", value_name = "SIZE", value_parser = size)]
    body_bytes: usize,
    /// Ids that are remembered, so that a repeated request writes nothing.
    #[arg(long, env = "LONGHAUL_REMEMBER", default_value_t = 100_000, value_name = "N")]
    remember: usize,
}

/// # Errors
/// If `err` cannot be written.
pub fn run(options: &Options, err: &mut dyn Write) -> io::Result<u8> {
    let result = tools::work(|stop| intake(options, stop));
    tools::finish(result, err)
}

async fn intake(options: &Options, stop: CancellationToken) -> Result<u8, End> {
    let (to, group) = options.target.place()?;
    let token =
        options.token.as_ref().map(|token| token.parse::<Secret>()).transpose().map_err(|error| {
            Failure::usage(format!("--token: {error}"), "write ${env:NAME} or ${file:/path}")
        })?;
    if options.backlog.is_some() && matches!(to, Place::Kafka(_)) && group.is_none() {
        return Err(Failure::usage(
            "the backlog of a topic is that of a consumer group, and --to names none",
            "use a configuration with -c, or leave --backlog out",
        )
        .into());
    }
    if !enqueue::exists(&to).await? {
        return Err(Failure::unavailable(
            format!("{} does not exist at {}", to.shown(), to.address()),
            "correct the name, or create it",
        )
        .into());
    }
    let listener = TcpListener::bind(&options.listen).await.map_err(|error| {
        Failure::unavailable(
            format!("cannot listen on {}: {error}", options.listen),
            "name a free address with --listen, such as 0.0.0.0:8080",
        )
    })?;
    let address = listener.local_addr()?;
    tracing::info!(%address, to = to.address(), "Intake is ready");
    let settings = Settings {
        to,
        group,
        backlog_max: options.backlog,
        window: options.window.into(),
        body_bytes: options.body_bytes,
        remember: options.remember,
        token,
        counts: IntakeCounts::default(),
    };
    intake::run(settings, listener, stop).await?;
    tracing::info!("Intake has ended");
    Ok(exit::OK)
}

fn size(text: &str) -> Result<usize, String> {
    let size: ByteCount = text.parse().map_err(|UnitError { reason, help }| format!("{reason}: {help}"))?;
    usize::try_from(size.get()).map_err(|error| error.to_string())
}
