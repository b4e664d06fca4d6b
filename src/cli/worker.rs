//! `longhaul worker`: any program as a worker. The small program `longhaul-worker` has only this
//! command.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use longhaul_places::units::{ByteCount, UnitError};

use super::exit;
use crate::worker::outcome::{ExitCodes, Outcome};
use crate::worker::{self, Error, InputKind, OnGone, OnStop, Settings, Stopped, process};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// The port for requests; 0 takes a free one.
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,
    /// The address for requests.
    #[arg(long, env = "LONGHAUL_HOST", default_value = "0.0.0.0", value_name = "ADDRESS")]
    host: IpAddr,
    /// How the command gets the item's data.
    #[arg(long, env = "LONGHAUL_INPUT", value_enum, default_value = "stdin")]
    input: InputKind,
    /// The command stays alive: it reads one JSON line for each item and writes one JSON line with
    /// the `outcome`.
    #[arg(long, env = "LONGHAUL_SERVE", conflicts_with_all = ["exit", "reply"])]
    serve: bool,
    /// The outcome of an exit code, such as `65=reject`: done, reject, retry, interrupted or
    /// failed. May be repeated.
    #[arg(long, env = "LONGHAUL_EXIT", value_name = "CODE=OUTCOME", value_delimiter = ',', value_parser = exit_code)]
    exit: Vec<(i32, Outcome)>,
    /// The file with the reply in JSON, relative to the item's working directory. Without it the
    /// last JSON line of standard output is the reply.
    #[arg(long, env = "LONGHAUL_REPLY", value_name = "FILE")]
    reply: Option<PathBuf>,
    /// The command starts in the present working directory. Without it the command starts in the
    /// item's own, which CE_WORK_DIR names in both cases.
    #[arg(long, env = "LONGHAUL_KEEP_CWD")]
    keep_cwd: bool,
    /// The folder in which the items' working directory is made [default: the folder for temporary
    /// files]
    #[arg(long, env = "LONGHAUL_FOLDER", value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// What SIGTERM means for the running item.
    #[arg(long, env = "LONGHAUL_ON_STOP", value_enum, default_value = "finish")]
    on_stop: OnStop,
    /// The longest wait for the running item after SIGTERM; then it is interrupted [default: no
    /// limit]
    #[arg(long, env = "LONGHAUL_GRACE", value_name = "DURATION", value_parser = super::duration)]
    grace: Option<Duration>,
    /// What a lost client means for the running item.
    #[arg(long, env = "LONGHAUL_ON_GONE", value_enum, default_value = "stop")]
    on_gone: OnGone,
    /// The time between SIGTERM and SIGKILL to the command.
    #[arg(long, env = "LONGHAUL_STOP_TIMEOUT", default_value = "10s", value_name = "DURATION", value_parser = super::duration)]
    stop_timeout: Duration,
    /// The longest time for an item [default: no limit]
    #[arg(long, env = "LONGHAUL_TIMEOUT", value_name = "DURATION", value_parser = super::duration)]
    timeout: Option<Duration>,
    /// The memory of the command and its descendants together, such as `512MiB` [default: no limit]
    #[arg(long, env = "LONGHAUL_MEMORY", value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// The CPU time of the command and its descendants together [default: no limit]
    #[arg(long, env = "LONGHAUL_CPU_TIME", value_name = "DURATION", value_parser = super::duration)]
    cpu_time: Option<Duration>,
    /// The longest body that is accepted.
    #[arg(long, env = "LONGHAUL_BODY_BYTES", default_value = "64MiB", value_name = "SIZE", value_parser = size)]
    body_bytes: u64,
    /// Report no progress, also if the event names a progress URL.
    #[arg(long, env = "LONGHAUL_NO_PROGRESS")]
    no_progress: bool,
    /// The pod's name for progress reports.
    #[arg(long, env = "HOSTNAME", value_name = "NAME", hide = true)]
    pod: Option<String>,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs any program as a worker: an HTTP server that starts the command for each item.
#[derive(Debug, Parser)]
#[command(name = "longhaul-worker", version, about)]
struct Alone {
    #[command(flatten)]
    options: Options,
}

/// Runs the program `longhaul-worker`.
///
/// # Errors
/// If standard output or standard error cannot be written.
pub fn main() -> io::Result<u8> {
    let mut err = io::stderr();
    if let Some(code) = become_command(&mut err)? {
        return Ok(code);
    }
    match Alone::try_parse() {
        Ok(alone) => run(alone.options, &mut err),
        Err(error) => {
            error.print()?;
            Ok(if error.use_stderr() { exit::USAGE } else { exit::OK })
        }
    }
}

/// Becomes the command, if this process was started for that: the worker starts its own program for
/// each item. Returns `None` if this process was started in another way.
///
/// # Errors
/// If `err` cannot be written.
pub fn become_command(err: &mut dyn Write) -> io::Result<Option<u8>> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != process::BECOME) {
        return Ok(None);
    }
    let arguments: Vec<OsString> = arguments.collect();
    let error = process::become_command(&arguments);
    let shown = arguments.get(1).map(|path| path.to_string_lossy()).unwrap_or_default();
    writeln!(err, "`{shown}` cannot be started: {error}")?;
    Ok(Some(process::NO_PROGRAM))
}

/// Runs items until SIGTERM. Returns the exit code.
///
/// # Errors
/// If `err` cannot be written.
pub fn run(options: Options, err: &mut dyn Write) -> io::Result<u8> {
    let error = match worker::run(settings(options)) {
        Ok(Stopped::Drained) => return Ok(exit::OK),
        Ok(Stopped::Cut) => return Ok(exit::CUT),
        Err(error) => error,
    };
    let (help, code) = match error {
        Error::Command(_) => ("name a program in PATH, or its path, after `--`", exit::USAGE),
        Error::Listen { .. } => ("name a free port with --port or PORT", exit::UNAVAILABLE),
        Error::Folder { .. } => {
            ("name a writable folder with --folder, for example an emptyDir", exit::UNAVAILABLE)
        }
        Error::Other(_) => ("check that more processes and threads may be started", exit::UNAVAILABLE),
    };
    exit::say(err, &error, help)?;
    Ok(code)
}

fn settings(options: Options) -> Settings {
    Settings {
        host: options.host,
        port: options.port,
        command: options.command,
        input: options.input,
        serve: options.serve,
        keeps_folder: options.keep_cwd,
        folder: options.folder.unwrap_or_else(std::env::temp_dir),
        exit_codes: ExitCodes::new(&options.exit),
        reply: options.reply,
        grace: options.grace,
        on_stop: options.on_stop,
        on_gone: options.on_gone,
        stop_timeout: options.stop_timeout,
        timeout: options.timeout,
        memory: options.memory,
        cpu_time: options.cpu_time,
        body_bytes: options.body_bytes,
        posts_progress: !options.no_progress,
        pod: options.pod,
    }
}

fn exit_code(text: &str) -> Result<(i32, Outcome), String> {
    let (code, outcome) = text.split_once('=').ok_or("write it as CODE=OUTCOME, such as 65=reject")?;
    let code = code.parse::<u8>().map_err(|_| format!("`{code}` is not an exit code from 0 to 255"))?;
    Ok((i32::from(code), outcome.parse()?))
}

fn size(text: &str) -> Result<u64, String> {
    let size: ByteCount = text.parse().map_err(|UnitError { reason, help }| format!("{reason}: {help}"))?;
    Ok(size.get())
}
