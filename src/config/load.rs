//! Turns the text of a configuration file into a [`Config`], or into the list of all its mistakes.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path as FilePath, PathBuf};

use super::Env;
use super::Mistakes;
use super::path::Path;
use super::report::Report;
use super::schema::schema;
use super::types::Config;
use super::yaml::{self, Document, Range, Spot};
use super::{shape, validate};

/// A configuration that can be run.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// Warnings for a person to read: settings that are allowed but look unintended.
    pub warnings: Mistakes,
}

/// The features of this build. A file that needs a missing feature is refused.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    pub kafka: bool,
    pub kafka_tls: bool,
    pub guard: bool,
}

/// The reasons why a file gives no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the configuration file {} cannot be read: {source}\n  help: {}", file.display(), hint(file, source))]
    Unreadable { file: PathBuf, source: io::Error },
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
}

/// Reads and checks a file, with the features of this build. `-` is standard input.
pub fn read(file: &FilePath, env: Env<'_>) -> Result<Loaded, LoadError> {
    let is_input = file.as_os_str() == "-";
    let bytes = if is_input { input() } else { std::fs::read(file) }
        .map_err(|source| LoadError::Unreadable { file: file.to_owned(), source })?;
    let name = if is_input { "standard input".to_owned() } else { file.display().to_string() };
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(load(&name, text, Features::BUILD, env)?),
        Err(error) => Err(LoadError::Mistakes(not_utf8(&name, &bytes[..error.valid_up_to()]))),
    }
}

/// A configuration is never this large.
const INPUT_BYTES: u64 = 16 * 1024 * 1024;

fn input() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(INPUT_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks the text of a file and reads the files that its secrets name. `file` is used only as a
/// name in the mistakes.
pub fn load(file: &str, text: &str, features: Features, env: Env<'_>) -> Result<Loaded, Mistakes> {
    let mut report = Report::default();
    let config = match yaml::parse(text) {
        Ok(document) => check(&document, features, env, &mut report),
        Err(error) => {
            report.hide(values_of_line(text, error.at.start));
            report.at(error.at.start, &Path::default(), error.reason, error.help);
            None
        }
    };
    let (mistakes, warnings) = report.finish(file, text);
    match config {
        Some(config) if mistakes.list.is_empty() => Ok(Loaded { config, warnings }),
        _ => Err(mistakes),
    }
}

fn check(document: &Document, features: Features, env: Env<'_>, report: &mut Report) -> Option<Config> {
    let root = Path::default();
    for error in &document.errors {
        report.at(error.at.start, &root, error.reason.as_str(), error.help.as_str());
    }
    for range in &document.hidden {
        report.hide(*range);
    }
    let json = shape::check(&document.root, &schema(), env, report);
    match serde_json::from_value::<Config>(json) {
        Ok(config) => {
            validate::check(&config, features, env, report);
            Some(config)
        }
        // The schema is made from the types, so a tree that fits the schema can be read. If reading
        // fails all the same, the parser's error is reported.
        Err(error) => {
            let help = "compare the file with the output of `longhaul schema`";
            report.at(document.root.range.start, &root, error.to_string(), help);
            None
        }
    }
}

/// Returns the part of a line to hide. In a line that is not YAML any part may be a password, so
/// only the key at its start is shown.
fn values_of_line(text: &str, spot: Spot) -> Range {
    let line = text.lines().nth(spot.line.saturating_sub(1)).unwrap_or_default();
    let indented = line.trim_start_matches([' ', '\t', '-']);
    let is_key = |key: &str| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let after_key = indented.split_once(": ").filter(|(key, _)| is_key(key)).map(|(_, value)| value);
    let shown = line.len() - after_key.unwrap_or(indented).len();
    let column = line[..shown].chars().count() + 1;
    Range { start: Spot { line: spot.line, column }, end: Spot { line: spot.line, column: usize::MAX } }
}

fn not_utf8(file: &str, valid: &[u8]) -> Mistakes {
    let text = String::from_utf8_lossy(valid);
    let line = text.lines().count().max(1);
    let column = text.lines().next_back().map_or(0, |last| last.chars().count()) + 1;
    let mut report = Report::default();
    report.at(Spot { line, column }, &Path::default(), "this is not UTF-8 text", "save the file as UTF-8");
    report.finish(file, "").0
}

fn hint(file: &FilePath, source: &io::Error) -> impl fmt::Display {
    match source.kind() {
        io::ErrorKind::NotFound => "create it, or name another one with --config".to_owned(),
        io::ErrorKind::PermissionDenied => "give the user that runs longhaul the right to read it".to_owned(),
        _ if file.is_dir() => "this is a folder; name the file in it".to_owned(),
        _ => "name a file with --config".to_owned(),
    }
}

impl Features {
    /// The features that this binary was built with.
    pub const BUILD: Features = Features {
        kafka: cfg!(feature = "kafka"),
        kafka_tls: cfg!(feature = "kafka-tls"),
        guard: cfg!(feature = "guard"),
    };
}

#[cfg(test)]
mod tests;
