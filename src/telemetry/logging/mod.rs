//! Log lines on standard error, for people or for machines.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

mod escape;
mod json;
mod text;

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// The lines that are logged: a level, or levels for parts of the program such as
/// `warn,longhaul=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Sends log lines to standard error.
///
/// # Errors
/// If logging was set up before.
pub fn init_logging(format: LogFormat, filter: &LogFilter) -> Result<(), String> {
    let is_terminal = std::io::stderr().is_terminal();
    let subscriber = subscriber(format, filter, is_terminal, std::io::stderr)?;
    tracing_subscriber::util::SubscriberInitExt::try_init(subscriber).map_err(|error| error.to_string())
}

fn subscriber<W>(
    format: LogFormat,
    filter: &LogFilter,
    ansi: bool,
    writer: W,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, String>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter.env_filter()?).with_writer(writer);
    Ok(match format {
        LogFormat::Text => Box::new(builder.with_ansi(ansi).fmt_fields(text::TextFields).finish()),
        LogFormat::Json => {
            let builder = builder.with_ansi(false).fmt_fields(json::JsonFields);
            Box::new(builder.event_format(json::JsonEvent).finish())
        }
    })
}

impl Default for LogFilter {
    fn default() -> Self {
        LogFilter("info".to_owned())
    }
}

impl LogFilter {
    /// Returns a filter that shows only errors, and nothing of Kafka's client.
    pub fn errors() -> Self {
        LogFilter("error,rdkafka=off".to_owned())
    }

    fn env_filter(&self) -> Result<EnvFilter, String> {
        // A later directive wins. So a filter for one part leaves the others at `info` instead of
        // silencing them. lapin logs each lost connection as an error; the source logs it with the
        // pipeline's name.
        EnvFilter::try_new(format!("info,lapin=off,{}", self.0)).map_err(|error| error.to_string())
    }
}

impl FromStr for LogFilter {
    type Err = String;

    /// Refuses filters that silence the log by mistake: `EnvFilter` takes `verbose` for a part of
    /// the program, and then logs nothing else.
    fn from_str(text: &str) -> Result<Self, String> {
        let levels = LEVELS.join(", ");
        let is_level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
        for directive in text.split(',').map(str::trim) {
            match directive.rsplit_once('=') {
                _ if is_level(directive) => {}
                Some((part, level)) if !part.is_empty() && is_level(level) => {}
                Some((_, level)) => return Err(format!("`{level}` is not a level; use one of {levels}")),
                None if directive.is_empty() => {
                    return Err(format!("a level is missing; use one of {levels}"));
                }
                None => {
                    return Err(format!(
                        "`{directive}` is not a level; use one of {levels}, or `{directive}=debug` for a part of the program"
                    ));
                }
            }
        }
        let filter = LogFilter(text.replace(' ', ""));
        filter.env_filter()?;
        Ok(filter)
    }
}

#[cfg(test)]
mod tests;
