//! `longhaul serve`: a Knative Service on this machine, until SIGTERM or SIGINT; a second signal
//! ends it at once.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::exit;
use super::run::Signals;
use crate::knative::hellotest;
use crate::knative::kpa::Metric;
use crate::knative::manifest::{self, Loaded, Service, Source};
use crate::knative::serve::{self, Chaos, Command, Handle, Line, Program, Server, Settings, Stream, Worker};

pub mod worker;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// The Service's manifest, as for `kubectl apply`.
    #[arg(short, long, env = "LONGHAUL_FILE", value_name = "FILE")]
    file: PathBuf,
    /// The cluster's ConfigMap config-autoscaler; the file may hold config-defaults too. Knative's
    /// defaults without it.
    #[arg(long, env = "LONGHAUL_AUTOSCALER", value_name = "FILE")]
    autoscaler: Option<PathBuf>,
    /// Where requests are taken; port 0 takes a free one.
    #[arg(long, env = "LONGHAUL_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where `GET /replicas` shows the replicas, as JSON or, asked for text/event-stream, at every
    /// change.
    #[arg(long, env = "LONGHAUL_ADMIN", default_value = "127.0.0.1:8081", value_name = "ADDRESS")]
    admin: SocketAddr,
    /// How long a replica takes to start on top of the worker's own time, such as `5s` for an image
    /// that is pulled.
    #[arg(long, env = "LONGHAUL_COLD_START", default_value = "0s", value_name = "DURATION", value_parser = super::duration)]
    cold_start: Duration,
    /// After SIGTERM the service takes no new request and the workers get SIGTERM at once. A worker
    /// that does not end within this time is killed.
    #[arg(long, env = "LONGHAUL_STOP_GRACE", default_value = "10s", value_name = "DURATION", value_parser = super::duration)]
    stop_grace: Duration,
    /// Faults on purpose, such as `kill=0.1,refuse=0.05,reset=0.05,delay=5s`. The first three are
    /// shares of the requests: the replica is killed while it runs one, the worker refuses the
    /// connection (nothing ran), the worker does its work but the client's connection closes
    /// without the answer. `delay` is added to each cold start, a random part of it.
    #[arg(long, env = "LONGHAUL_CHAOS", value_name = "FAULTS")]
    chaos: Option<Chaos>,
    /// Seconds for Knative for each second here.
    #[arg(long, env = "LONGHAUL_TIME_SCALE", default_value_t = 1.0, value_parser = time_scale, hide = true)]
    time_scale: f64,
    /// The worker and its arguments: each replica is one such process, told its port in PORT.
    /// Without it the sample worker hellotest answers.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Serves until a signal. Returns the exit code.
///
/// # Errors
/// If `err` cannot be written, or the runtime cannot be started.
pub fn run(options: Options, err: &mut dyn Write) -> io::Result<u8> {
    let loaded = match manifest::read(&options.file, options.autoscaler.as_deref()) {
        Ok(loaded) => loaded,
        Err(error @ manifest::Error::Unreadable { .. }) => {
            exit::say(err, &error, "name a file that is there and may be read")?;
            return Ok(exit::CONFIG);
        }
        Err(error) => {
            writeln!(err, "{error}")?;
            return Ok(exit::CONFIG);
        }
    };
    for warnings in &loaded.warnings {
        writeln!(err, "{warnings}")?;
    }
    // Knative's metric `rps` counts requests that end, and long work ends rarely. Scaling on
    // concurrency instead would show a different service.
    if loaded.service.autoscaling.metric != Metric::Concurrency {
        let what = format!("{}: metric `rps` can't be served", options.file.display());
        exit::say(err, &what, super::INSTEAD_OF_RPS)?;
        return Ok(exit::CONFIG);
    }
    let settings = match settings(&options, loaded) {
        Ok(settings) => settings,
        Err(Refused { what, hint }) => {
            exit::say(err, &what, hint)?;
            return Ok(exit::USAGE);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(until_stopped(settings, &options, err));
    runtime.shutdown_background();
    code
}

struct Refused {
    what: String,
    hint: &'static str,
}

async fn until_stopped(settings: Settings, options: &Options, err: &mut dyn Write) -> io::Result<u8> {
    let mut signals = Signals::listen()?;
    let name = settings.service.name.clone();
    let listener = match TcpListener::bind(options.admin).await {
        Ok(listener) => listener,
        Err(error) => {
            exit::say(err, &format!("{}: {error}", options.admin), "name a free address with --admin")?;
            return Ok(exit::UNAVAILABLE);
        }
    };
    let handle = match Server::start(settings).await {
        Ok(handle) => handle,
        Err(error) => {
            let hint = match error {
                serve::Error::Listen { .. } => "name a free address with --listen",
                serve::Error::Guard(_) => {
                    "check that longhaul's own file is still there and more processes may be started"
                }
            };
            exit::say(err, &error, hint)?;
            return Ok(exit::UNAVAILABLE);
        }
    };
    let admin = listener.local_addr()?;
    handle.admin(listener);
    show(Stream::Out, &format!("{name}: http://{}/ (replicas: http://{admin}/replicas)", handle.address()));
    signals.next().await;
    stop(handle, &mut signals).await
}

/// Stops after the first signal. The second ends everything at once, running requests included.
async fn stop(handle: Handle, signals: &mut Signals) -> io::Result<u8> {
    let stopped = tokio::spawn(handle.stop());
    tokio::select! {
        _ = stopped => Ok(exit::OK),
        number = signals.next() => {
            tracing::error!("Second signal: leaving at once; workers are killed and their requests are cut");
            Ok(u8::try_from(128 + number).unwrap_or(1))
        }
    }
}

fn settings(options: &Options, loaded: Loaded) -> Result<Settings, Refused> {
    let program = if options.command.is_empty() {
        Program::BuiltIn(sample(&loaded.service)?)
    } else {
        check_program(&options.command[0])?;
        Program::Command(Command {
            words: options.command.clone(),
            longhaul: this_program()?,
            output: Arc::new(|line: Line<'_>| {
                show(line.stream, &format!("[{}] {}", line.replica, line.text))
            }),
        })
    };
    Ok(Settings {
        listen: options.listen,
        cold_start: options.cold_start,
        stop_grace: options.stop_grace,
        chaos: options.chaos.clone().unwrap_or_default(),
        speed: options.time_scale,
        ..Settings::new(loaded.service, program)
    })
}

/// Returns hellotest with the manifest's variables.
fn sample(service: &Service) -> Result<Arc<dyn Worker>, Refused> {
    let variable = |name: &str| {
        let found = service.env.iter().rfind(|variable| variable.name == name);
        match found.map(|variable| &variable.source) {
            Some(Source::Value(value)) => Some(value.clone()),
            Some(Source::Elsewhere) => std::env::var(name).ok(),
            None => None,
        }
    };
    let hellotest = hellotest::Settings::read(variable)
        .map_err(|error| Refused { what: error.to_string(), hint: "correct the variable in the manifest" })?;
    let hellotest = Arc::new(hellotest);
    Ok(Arc::new(move |request| {
        let hellotest = Arc::clone(&hellotest);
        async move { hellotest.answer(request).await }
    }))
}

/// Refuses a program that does not exist. Otherwise the error would show at every request.
fn check_program(program: &str) -> Result<(), Refused> {
    let is_there = if program.contains('/') {
        Path::new(program).is_file()
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    if is_there {
        return Ok(());
    }
    Err(Refused {
        what: format!("the program `{program}` does not exist"),
        hint: "name one in PATH, or its file",
    })
}

fn this_program() -> Result<PathBuf, Refused> {
    std::env::current_exe().map_err(|error| Refused {
        what: format!("the file of this program is unknown: {error}"),
        hint: "start it by its full path",
    })
}

/// Writes a whole line at once, even if others write too. A reader that has left does not stop the
/// service.
fn show(stream: Stream, text: &str) {
    let _ = match stream {
        Stream::Out => writeln!(io::stdout().lock(), "{text}"),
        Stream::Err => writeln!(io::stderr().lock(), "{text}"),
    };
}

fn time_scale(text: &str) -> Result<f64, String> {
    let scale = text.parse().ok().filter(|scale| (0.01..=1000.0).contains(scale));
    scale.ok_or_else(|| "expected a number from 0.01 to 1000".into())
}
