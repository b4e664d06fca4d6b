//! The commands. Each one prints to the given writers and returns an exit code.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use longhaul_places::units::{Span, UnitError};

use crate::knative::serve::guard;
use crate::telemetry::{LogFilter, LogFormat, init_logging};

pub mod check;
mod client;
pub mod dead_letter;
pub mod debug;
#[cfg(feature = "kafka")]
pub mod demo;
pub mod enqueue;
pub mod exit;
pub mod health;
pub mod init;
pub mod intake;
pub mod items;
pub mod man;
pub mod migrate;
pub mod pipeline;
pub mod plan;
pub mod ps;
pub mod run;
pub mod schema;
pub mod serve;
mod table;
mod tools;
pub mod top;
pub mod version;
pub mod worker;

/// Reads a duration in the syntax of the configuration file.
fn duration(text: &str) -> Result<Duration, String> {
    text.parse().map(Span::get).map_err(|UnitError { reason, help }| format!("{reason}: {help}"))
}

/// The help for a service that scales on its rate. Neither `serve` nor `plan` supports that.
const INSTEAD_OF_RPS: &str = "scale on concurrency: requests held open for long say nothing by their rate";

/// Turns a RabbitMQ queue or a Kafka topic into long HTTP requests to a Knative Service, one item a
/// replica.
#[derive(Debug, Parser)]
#[command(name = "longhaul", version, about)]
pub struct Cli {
    /// Log lines for people or for machines.
    #[arg(long, env = "LONGHAUL_LOG_FORMAT", value_enum, default_value = "text", global = true)]
    log_format: LogFormat,
    /// The lowest level that is logged: off, error, warn, info, debug or trace; also by part, such
    /// as `warn,longhaul=debug`.
    #[arg(long, env = "LONGHAUL_LOG", default_value = "info", global = true)]
    log: LogFilter,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Move items until SIGTERM.
    Run {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Check a configuration file, and list all mistakes at once; with --connect also the brokers,
    /// the service and the chain of timeouts.
    Check(check::Options),
    /// Write items to the pipeline's queue or topic: lines, rows, files or a template, each with an
    /// id, each confirmed, and resumed after an interruption.
    Enqueue(Box<enqueue::Options>),
    /// Accept items over HTTP for a queue or topic: 202 after the confirm, once for each id.
    Intake(intake::Options),
    /// List dead letters, and bring them back to their origin.
    #[command(subcommand)]
    DeadLetter(dead_letter::Command),
    /// Write a commented configuration to start from.
    Init(init::Options),
    /// Convert a RabbitmqSource, a KafkaSource, a ScaledJob, a ScaledObject or a Redpanda Connect
    /// pipeline to a configuration and manifests, and report what becomes of each value.
    Migrate(migrate::Options),
    /// Print the JSON Schema of the configuration file.
    Schema(schema::Options),
    /// Show the pipelines of a running bridge: state, backlog, problems and forecast.
    Ps(ps::Options),
    /// List the items of a running bridge, and act on them.
    Items(Box<items::Options>),
    /// Show pipelines and items in the terminal, live, and act on them.
    Top(top::Options),
    /// Start nothing new in a running pipeline or in one of its partitions; running items continue.
    Pause(pipeline::Pause),
    /// Continue a paused or drained pipeline or a paused partition, or close the breaker.
    Resume(pipeline::Resume),
    /// Let a pipeline finish its running items and leave its broker.
    Drain(pipeline::Options),
    /// Set the number of requests that a running pipeline may have open.
    Limit(pipeline::Limit),
    /// Tell by the exit code whether a running bridge is ready, and print the reasons.
    Health(health::Options),
    /// Forecast a backlog for a Knative Service: time to drain, replicas, cost, and settings that
    /// hurt.
    Plan(Box<plan::Options>),
    /// Run a Knative Service on this machine: real manifest, one process for each replica, scaled
    /// as Knative scales.
    Serve(serve::Options),
    /// Run any program as a worker: an HTTP server that starts the command for each item.
    Worker(Box<worker::Options>),
    /// Collect facts for a report.
    #[command(subcommand)]
    Debug(debug::Command),
    /// Print the version, and the parts that this build has.
    Version(version::Options),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        #[arg(value_enum, env = "LONGHAUL_SHELL")]
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder, one for each command.
    Man(man::Options),
    #[command(name = guard::GUARD_COMMAND, hide = true)]
    WorkerGuard,
    #[command(name = guard::WORKER_COMMAND, hide = true)]
    WorkerStart {
        #[arg(last = true)]
        command: Vec<String>,
    },
    #[cfg(feature = "kafka")]
    #[command(name = demo::WORKER_COMMAND, hide = true)]
    DemoWorker,
    /// Show the whole thing on this machine, with nothing else installed.
    #[cfg(feature = "kafka")]
    Demo(demo::Options),
}

/// The files that are looked for if none is named.
const DEFAULT_FILES: [&str; 2] = ["longhaul.yaml", "/etc/longhaul/longhaul.yaml"];

#[derive(Clone, Debug, clap::Args)]
struct ConfigFile {
    /// The configuration file; `-` is standard input [default: longhaul.yaml, else
    /// /etc/longhaul/longhaul.yaml]
    #[arg(short, long = "config", env = "LONGHAUL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    fn path(&self) -> PathBuf {
        let existing = || DEFAULT_FILES.iter().find(|file| std::path::Path::new(file).exists());
        let default = || PathBuf::from(existing().unwrap_or(&DEFAULT_FILES[0]));
        self.config.clone().unwrap_or_else(default)
    }
}

/// Carries out the command line and returns the exit code.
///
/// # Errors
/// If standard output or standard error cannot be written.
pub fn main() -> io::Result<u8> {
    if let Some(code) = worker::become_command(&mut io::stderr())? {
        return Ok(code);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            error.print()?;
            return Ok(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    match cli.command {
        Command::Schema(options) => {
            schema::print(&options, &mut out)?;
            return Ok(exit::OK);
        }
        Command::Version(options) => {
            version::print(&options, &mut out)?;
            return Ok(exit::OK);
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(
                shell,
                &mut <Cli as clap::CommandFactory>::command(),
                "longhaul",
                &mut script,
            );
            io::Write::write_all(&mut out, &script)?;
            return Ok(exit::OK);
        }
        Command::Man(options) => return man::run(&options, &mut err),
        Command::Init(options) => return init::run(&options, &mut out, &mut err),
        Command::Migrate(options) => return migrate::run(&options, &mut out, &mut err),
        Command::Ps(options) => return ps::run(&options, &mut out, &mut err),
        Command::Items(options) => return items::run(&options, &mut out, &mut err),
        Command::Top(options) => {
            drop(out);
            return top::run(&options, &mut err);
        }
        Command::Pause(options) => return pipeline::pause("pause", &options, &mut out, &mut err),
        Command::Resume(options) => return pipeline::resume(&options, &mut out, &mut err),
        Command::Drain(options) => return pipeline::run("drain", &options, &mut out, &mut err),
        Command::Limit(options) => return pipeline::limit(&options, &mut out, &mut err),
        Command::Health(options) => return health::run(&options, &mut out, &mut err),
        Command::Plan(options) => return plan::run(&options, &mut out, &mut err),
        Command::Worker(options) => {
            drop(out);
            return worker::run(*options, &mut err);
        }
        Command::WorkerGuard => return serve::worker::watch(),
        Command::WorkerStart { command } => return serve::worker::become_worker(&command, &mut err),
        #[cfg(feature = "kafka")]
        Command::DemoWorker => {
            drop(out);
            return demo::work(&mut err);
        }
        _ => drop(out),
    }
    // These commands show their own progress, and log lines would break it up.
    let quiet = shows_progress(&cli.command)
        && std::env::var_os("LONGHAUL_LOG").is_none()
        && cli.log == LogFilter::default();
    let filter = if quiet { LogFilter::errors() } else { cli.log };
    if let Err(error) = init_logging(cli.log_format, &filter) {
        exit::say(&mut err, &error, "use a level such as `info`, or `warn,longhaul=debug`")?;
        return Ok(exit::USAGE);
    }
    match cli.command {
        Command::Run { file } => run::run(&file.path(), &mut err),
        #[cfg(feature = "kafka")]
        Command::Demo(options) => demo::run(&options, &mut io::stdout(), &mut err),
        Command::Serve(options) => serve::run(options, &mut err),
        Command::Check(options) => check::carry_out(&options, &mut io::stdout(), &mut err),
        Command::Enqueue(options) => enqueue::run(*options, &mut io::stdout(), &mut err),
        Command::Intake(options) => intake::run(&options, &mut err),
        Command::Debug(command) => debug::run(command, &mut io::stdout(), &mut err),
        Command::DeadLetter(command) => dead_letter::run(command, &mut io::stdout(), &mut err),
        // The other commands returned before the log was set up.
        _ => Ok(exit::OK),
    }
}

fn shows_progress(command: &Command) -> bool {
    match command {
        Command::Check(_) | Command::Debug(_) | Command::Enqueue(_) | Command::DeadLetter(_) => true,
        #[cfg(feature = "kafka")]
        Command::Demo(_) => true,
        _ => false,
    }
}

/// `NAME=VALUE` on the command line.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}
