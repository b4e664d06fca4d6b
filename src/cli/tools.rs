//! The parts that the commands around a bridge share: exit codes, the runtime, progress, signals.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::run::Signals;
use super::{ConfigFile, exit};
use crate::config::{self, Config, LoadError, Secret, process_env};
use crate::tools::progress::Form;
use crate::tools::{Failure, FailureKind, Place, Progress, pipeline};

/// The reason why a command ends, and its exit code.
pub enum End {
    Failure(Failure),
    /// The mistakes of a configuration file; their text has its help.
    Config(String),
    Io(io::Error),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        End::Failure(failure)
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        End::Io(error)
    }
}

/// Prints the failure, and returns the exit code.
///
/// # Errors
/// If `err` cannot be written, or `out` could not be.
pub fn finish(result: Result<u8, End>, err: &mut dyn Write) -> io::Result<u8> {
    match result {
        Ok(code) => Ok(code),
        Err(End::Io(error)) => Err(error),
        Err(End::Config(text)) => {
            writeln!(err, "{text}")?;
            Ok(exit::CONFIG)
        }
        Err(End::Failure(failure)) => {
            exit::say(err, &failure, &failure.help)?;
            Ok(code(failure.kind))
        }
    }
}

pub fn code(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::Usage => exit::USAGE,
        FailureKind::Unavailable => exit::UNAVAILABLE,
        FailureKind::Config => exit::CONFIG,
    }
}

/// Reads the configuration file.
///
/// # Errors
/// Returns the mistakes of the file.
pub fn load(file: &Path) -> Result<Config, End> {
    config::read(file, &process_env).map(|loaded| loaded.config).map_err(|error| match error {
        LoadError::Mistakes(mistakes) => End::Config(mistakes.to_string()),
        unreadable @ LoadError::Unreadable { .. } => End::Config(format!("error: {unreadable}")),
    })
}

/// The queue or topic that gets items.
#[derive(Debug, clap::Args)]
pub struct Target {
    #[command(flatten)]
    file: ConfigFile,
    /// The pipeline whose queue or topic gets the items; needed if there are several.
    #[arg(long, env = "LONGHAUL_PIPELINE", value_name = "NAME", conflicts_with = "to")]
    pipeline: Option<String>,
    /// The queue or topic, without a configuration: `amqp://user:password@host/queue`,
    /// `amqp://host/vhost/queue` or `kafka://host:port/topic`. May hold `${env:NAME}` and
    /// `${file:/path}`.
    #[arg(long, env = "LONGHAUL_TO", value_name = "URL", hide_env_values = true)]
    to: Option<String>,
    #[command(flatten)]
    librdkafka: Librdkafka,
}

/// Options of the Kafka client.
#[derive(Debug, clap::Args)]
pub struct Librdkafka {
    /// A librdkafka option for addresses that begin with `kafka://`, such as
    /// `security.protocol=sasl_ssl`. May be repeated.
    #[arg(long = "option", env = "LONGHAUL_OPTION", value_name = "NAME=VALUE", value_parser = super::pair, value_delimiter = '\n', hide_env_values = true)]
    options: Vec<(String, String)>,
}

impl Target {
    /// Returns the place, and the consumer group of the pipeline that reads it.
    ///
    /// # Errors
    /// Returns an error if the address or the configuration cannot be used.
    pub fn place(&self) -> Result<(Place, Option<String>), End> {
        if let Some(url) = &self.to {
            return Ok((Place::parse(url, &self.librdkafka.secrets()?)?, None));
        }
        let config = load(&self.file.path())?;
        let pipeline = pipeline(&config, self.pipeline.as_deref())?;
        let group = pipeline.source.kafka.as_ref().map(|source| source.group.clone());
        Ok((Place::source(pipeline)?, group))
    }
}

impl Librdkafka {
    /// Returns the options for this address, and none for RabbitMQ.
    ///
    /// # Errors
    /// Returns an error for a value with a wrong placeholder.
    pub fn of(&self, url: &str) -> Result<BTreeMap<String, Secret>, Failure> {
        if url.starts_with("kafka://") { self.secrets() } else { Ok(BTreeMap::new()) }
    }

    fn secrets(&self) -> Result<BTreeMap<String, Secret>, Failure> {
        let secret = |(name, value): &(String, String)| match value.parse() {
            Ok(value) => Ok((name.clone(), value)),
            Err(error) => {
                Err(Failure::usage(format!("--option {name}: {error}"), "write ${env:NAME} or ${file:/path}"))
            }
        };
        self.options.iter().map(secret).collect()
    }
}

/// Runs the work. The first signal cancels the token, the second one ends the process.
///
/// # Errors
/// Returns the error of the work, or of the runtime.
pub fn work<F>(make: impl FnOnce(CancellationToken) -> F) -> Result<u8, End>
where
    F: Future<Output = Result<u8, End>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        let signals = Signals::listen()?;
        tokio::spawn(signals.stop_then_exit(stop.clone()));
        make(stop).await
    });
    // A thread that waits for standard input must not keep the process.
    runtime.shutdown_background();
    result
}

/// The progress of a command on standard error.
pub fn progress(verb: &'static str, is_silent: bool) -> Progress {
    let form = match (is_silent, io::stderr().is_terminal()) {
        (true, _) => Form::Silent,
        (false, true) => Form::Bar,
        (false, false) => Form::Lines,
    };
    Progress::new(Box::new(io::stderr()), form, verb, None)
}
