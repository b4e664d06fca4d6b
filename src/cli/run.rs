//! `longhaul run`: moves items until SIGTERM or SIGINT, then drains. A second signal ends it at
//! once.

use std::io::{self, Write};
use std::path::Path;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::exit;
use crate::app::{App, BuildErrorKind, End};
use crate::config::{self, Config, process_env};

/// Runs the bridge and returns the exit code.
///
/// # Errors
/// If `err` cannot be written, or the runtime cannot be started.
pub fn run(file: &Path, err: &mut dyn Write) -> io::Result<u8> {
    let loaded = match config::read(file, &process_env) {
        Ok(loaded) => loaded,
        Err(error) => {
            writeln!(err, "{error}")?;
            return Ok(exit::CONFIG);
        }
    };
    for warning in &loaded.warnings.list {
        let (key, help) = (&warning.path, &warning.help);
        tracing::warn!(file = %file.display(), key, warning = warning.reason, help, "The configuration has a warning");
    }
    without_huge_pages();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(until_drained(&loaded.config, err));
    // A broker client that hangs must not keep the process running: all deliveries are settled or
    // given up by now.
    runtime.shutdown_background();
    code
}

/// The allocator asks for huge pages of 2 MiB, and the kernel then fills them at the first byte
/// that is used. A bridge with little work would hold twice the memory that it needs. A system
/// without such pages refuses, which is as good.
#[cfg(target_os = "linux")]
fn without_huge_pages() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

#[cfg(not(target_os = "linux"))]
fn without_huge_pages() {}

async fn until_drained(config: &Config, err: &mut dyn Write) -> io::Result<u8> {
    let drain = CancellationToken::new();
    let signals = Signals::listen()?;
    let app = match App::build(config, &process_env).await {
        Ok(app) => app,
        Err(error) => {
            exit::say(err, &error, error.hint())?;
            return Ok(exit_code(error.kind()));
        }
    };
    tokio::spawn(signals.drain_then_exit(drain.clone()));
    tokio::spawn(app.glance(config));
    match app.run(drain).await {
        End::Drained => Ok(exit::OK),
        End::Cut(items) => {
            tracing::warn!(items, "Drained, but work was cut short");
            Ok(exit::CUT)
        }
        End::Refused(error) => {
            exit::say(err, &error, &error.hint)?;
            Ok(exit::UNAVAILABLE)
        }
    }
}

fn exit_code(kind: BuildErrorKind) -> u8 {
    match kind {
        BuildErrorKind::Config => exit::CONFIG,
        BuildErrorKind::Unavailable => exit::UNAVAILABLE,
    }
}

/// The two signals that end the process.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub fn listen() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal and returns its number.
    pub async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        }
    }

    /// The same without a log line, for a command that shows its own progress.
    pub async fn stop_then_exit(mut self, stop: CancellationToken) {
        self.next().await;
        stop.cancel();
        let number = self.next().await;
        std::process::exit(128 + number);
    }

    /// Drains after the first signal, and exits at the second, even if requests run.
    async fn drain_then_exit(mut self, drain: CancellationToken) {
        self.next().await;
        drain.cancel();
        let number = self.next().await;
        tracing::error!(
            "Second signal: the process ends now, running requests are cut, and their items run again"
        );
        std::process::exit(128 + number);
    }
}
