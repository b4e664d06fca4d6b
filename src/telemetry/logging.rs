//! Log lines on standard error, for people or for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Sends log lines to standard error. `filter` is a `tracing` directive such as `info` or `longhaul=debug`.
///
/// # Errors
/// When the filter can't be read, with the reason.
pub fn init_logging(format: LogFormat, filter: &str) -> Result<(), String> {
    // lapin logs each lost connection as an ERROR of its own; the source says it in our words. A later
    // directive for the same target wins, so `lapin=debug` still shows its lines.
    let filter = EnvFilter::try_new(format!("lapin=off,{filter}"))
        .map_err(|error| format!("log filter `{filter}`: {error}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let installed = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| error.to_string())
}
