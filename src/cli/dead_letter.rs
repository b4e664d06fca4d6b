//! `longhaul dead-letter`: lists dead letters, shows one, brings them back, removes them.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use regex::bytes::Regex;
use tokio_util::sync::CancellationToken;

use super::tools::{self, End};
use super::{ConfigFile, exit};
use crate::event::{Message, Value};
use crate::tools::dead_letter::{self, Destination, Filter, Report, Selection, Shown, Work};
use crate::tools::{Failure, Place, pipeline};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the letters, and leave them in place.
    List {
        #[command(flatten)]
        which: Which,
        /// List the letters of a topic that were handled before, too.
        #[arg(long, env = "LONGHAUL_ALL")]
        all: bool,
        /// The most letters that are listed.
        #[arg(long, env = "LONGHAUL_LIMIT", default_value_t = 1000, value_name = "N")]
        limit: u64,
    },
    /// Show letters whole: headers, and the body.
    Show {
        /// The letter's id, or a pattern such as `order-*`.
        #[arg(value_name = "ID", value_parser = pattern)]
        id: glob::Pattern,
        #[command(flatten)]
        which: Which,
        /// The most letters that are shown.
        #[arg(long, env = "LONGHAUL_LIMIT", default_value_t = 20, value_name = "N")]
        limit: u64,
    },
    /// Bring letters back to the queue or topic that they came from.
    Redrive {
        #[command(flatten)]
        which: Which,
        /// Another target: `amqp://host/queue` or `kafka://host:port/topic`. Without the last part:
        /// the broker of the queue or topic that each letter names.
        #[arg(long, env = "LONGHAUL_TO", value_name = "URL", hide_env_values = true)]
        to: Option<String>,
        /// Bring back letters that lack a part of their item, too.
        #[arg(long, env = "LONGHAUL_INCOMPLETE")]
        incomplete: bool,
        /// How long one write is tried again.
        #[arg(long, env = "LONGHAUL_RETRY_FOR", default_value = "30s", value_name = "DURATION", value_parser = super::duration)]
        retry_for: Duration,
        #[command(flatten)]
        how: How,
    },
    /// Remove letters for good. In a topic they are only recorded as handled.
    Purge {
        #[command(flatten)]
        which: Which,
        /// Needed, because the items are lost.
        #[arg(long, env = "LONGHAUL_YES")]
        yes: bool,
        #[command(flatten)]
        how: How,
    },
}

#[derive(Debug, clap::Args)]
pub struct How {
    /// The most letters that are handled.
    #[arg(long, env = "LONGHAUL_LIMIT", value_name = "N")]
    limit: Option<u64>,
    /// Say what would be done, and change nothing.
    #[arg(long, env = "LONGHAUL_DRY_RUN")]
    dry_run: bool,
    /// Show no progress.
    #[arg(short, long, env = "LONGHAUL_QUIET")]
    quiet: bool,
}

/// The letters that are meant.
#[derive(Debug, clap::Args)]
pub struct Which {
    #[command(flatten)]
    file: ConfigFile,
    /// The pipeline whose `dead_letter` is meant; needed if there are several.
    #[arg(long, env = "LONGHAUL_PIPELINE", value_name = "NAME")]
    pipeline: Option<String>,
    /// The queue or topic of the letters, instead of the pipeline's: `amqp://host/queue` or
    /// `kafka://host:port/topic`. May hold `${env:NAME}` and `${file:/path}`.
    #[arg(long, env = "LONGHAUL_FROM", value_name = "URL", hide_env_values = true)]
    from: Option<String>,
    #[command(flatten)]
    librdkafka: tools::Librdkafka,
    /// The consumer group that remembers the handled letters of a topic [default:
    /// longhaul-dead-letter-TOPIC]
    #[arg(long, env = "LONGHAUL_GROUP", value_name = "NAME")]
    group: Option<String>,

    /// Only letters with this id, or with ids like `order-*`. May be repeated.
    #[arg(long = "id", env = "LONGHAUL_ID", value_name = "PATTERN", value_parser = pattern)]
    ids: Vec<glob::Pattern>,
    /// Only letters with this reason, such as `rejected`. May be repeated.
    #[arg(long = "reason", env = "LONGHAUL_REASON", value_delimiter = ',')]
    reasons: Vec<String>,
    /// Only letters whose last answer had this status. May be repeated.
    #[arg(long = "code", env = "LONGHAUL_CODE", value_delimiter = ',', value_name = "STATUS")]
    codes: Vec<u16>,
    /// Only letters that are at least this old.
    #[arg(long, env = "LONGHAUL_OLDER", value_name = "DURATION", value_parser = super::duration)]
    older: Option<Duration>,
    /// Only letters that are younger than this.
    #[arg(long, env = "LONGHAUL_NEWER", value_name = "DURATION", value_parser = super::duration)]
    newer: Option<Duration>,
    /// Only letters whose body matches this regular expression.
    #[arg(long = "match", env = "LONGHAUL_MATCH", value_name = "REGEX", value_parser = dead_letter::regex)]
    body: Option<Regex>,
    /// Print JSON.
    #[arg(long, env = "LONGHAUL_JSON")]
    json: bool,
}

/// # Errors
/// If `out` or `err` cannot be written.
pub fn run(command: Command, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let result = tools::work(|stop| carry_out(command, stop, out, err));
    tools::finish(result, err)
}

async fn carry_out(
    command: Command,
    stop: CancellationToken,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, End> {
    match command {
        Command::List { which, all, limit } => {
            let (mut selection, _) = which.selection(Some(limit))?;
            selection.includes_handled = all;
            list(&which, &selection, &stop, out, err).await
        }
        Command::Show { id, mut which, limit } => {
            which.ids.push(id);
            let (mut selection, _) = which.selection(Some(limit))?;
            selection.includes_handled = true;
            show(&which, &selection, &stop, out).await
        }
        Command::Redrive { which, to, incomplete, retry_for, how } => {
            let (selection, brokers) = which.selection(how.limit)?;
            let destination = match to {
                None => Destination::Origin(brokers),
                Some(url) => {
                    let options = which.librdkafka.of(&url)?;
                    match Place::parse(&url, &options)? {
                        place if place.name().is_some() => Destination::Place(place),
                        broker => Destination::Origin([vec![broker], brokers].concat()),
                    }
                }
            };
            let work = Work {
                destination: Some(destination),
                is_dry_run: how.dry_run,
                takes_incomplete: incomplete,
                patience: retry_for,
            };
            handle(&which, &selection, &work, &how, stop, (out, err)).await
        }
        Command::Purge { which, yes, how } => {
            if !yes && !how.dry_run {
                return Err(Failure::usage(
                    "purge loses the items of the letters for good",
                    "see which ones with --dry-run, then say --yes",
                )
                .into());
            }
            let (selection, _) = which.selection(how.limit)?;
            let work = Work {
                destination: None,
                is_dry_run: how.dry_run,
                takes_incomplete: true,
                patience: Duration::ZERO,
            };
            handle(&which, &selection, &work, &how, stop, (out, err)).await
        }
    }
}

impl Which {
    /// The letters, and the brokers of their origins.
    fn selection(&self, limit: Option<u64>) -> Result<(Selection, Vec<Place>), End> {
        let (from, brokers) = match &self.from {
            Some(url) => {
                let from = Place::parse(url, &self.librdkafka.of(url)?)?;
                // A configuration that is named too tells the broker of the origins.
                let source = match &self.file.config {
                    Some(file) => {
                        let config = tools::load(file)?;
                        Some(Place::source(pipeline(&config, self.pipeline.as_deref())?)?)
                    }
                    None => None,
                };
                (from.clone(), source.into_iter().chain([from]).collect())
            }
            None => {
                let config = tools::load(&self.file.path())?;
                let pipeline = pipeline(&config, self.pipeline.as_deref())?;
                let from = Place::dead_letters(pipeline)?;
                (from.clone(), vec![Place::source(pipeline)?, from])
            }
        };
        if from.name().is_none() {
            return Err(Failure::usage(
                "the address names no queue or topic",
                "write it as amqp://host/queue or kafka://host:9092/topic",
            )
            .into());
        }
        let filter = Filter {
            ids: self.ids.clone(),
            reasons: self.reasons.clone(),
            codes: self.codes.clone(),
            older: self.older,
            newer: self.newer,
            body: self.body.clone(),
        };
        let group = self.group.clone();
        Ok((Selection { from, group, includes_handled: false, filter, limit }, brokers))
    }
}

async fn list(
    which: &Which,
    selection: &Selection,
    stop: &CancellationToken,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, End> {
    let listing = dead_letter::list(selection, false, stop).await?;
    if listing.renewed > 0 {
        writeln!(
            err,
            "{} letters were near the delivery limit of their queue and were written to its end again",
            listing.renewed
        )?;
    }
    if which.json {
        let facts = serde_json::json!({
            "from": selection.from.address(), "letters": listing.letters, "read": listing.read, "more": listing.is_cut,
        });
        writeln!(out, "{facts}")?;
        return Ok(exit::OK);
    }
    let rows: Vec<[String; 6]> = listing.letters.iter().map(row).collect();
    let head = ["ID", "REASON", "CODE", "ATTEMPTS", "AGE", "ORIGIN"].map(str::to_owned);
    let mut widths = head.clone().map(|name| name.len());
    for row in &rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = (*width).max(text.chars().count());
        }
    }
    if !rows.is_empty() {
        for row in std::iter::once(&head).chain(&rows) {
            let cells: Vec<String> =
                row.iter().zip(widths).map(|(text, width)| format!("{text:width$}")).collect();
            writeln!(out, "{}", cells.join("  ").trim_end())?;
        }
    }
    let more = if listing.is_cut { "; there are more (--limit)" } else { "" };
    writeln!(err, "{} letters of {} read{more}", rows.len(), listing.read)?;
    Ok(exit::OK)
}

fn row(letter: &Shown) -> [String; 6] {
    let facts = &letter.facts;
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut reason = or_dash(facts.reason.clone());
    if letter.is_handled {
        reason.push_str(" (handled)");
    }
    if facts.left_out.is_some() {
        reason.push_str(" (incomplete)");
    }
    [
        printable(&facts.id),
        printable(&reason),
        or_dash(facts.code.map(|code| code.to_string())),
        or_dash(facts.attempts.map(|count| count.to_string())),
        or_dash(facts.age(SystemTime::now()).map(age)),
        printable(&or_dash(facts.origin.clone())),
    ]
}

/// Text from a message, without control characters that a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

fn age(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

async fn show(
    which: &Which,
    selection: &Selection,
    stop: &CancellationToken,
    out: &mut dyn Write,
) -> Result<u8, End> {
    let listing = dead_letter::list(selection, true, stop).await?;
    if listing.letters.is_empty() {
        return Err(Failure::usage(
            format!("none of the {} letters has such an id", listing.read),
            "see the ids with `longhaul dead-letter list`",
        )
        .into());
    }
    for letter in &listing.letters {
        let Some(message) = &letter.message else { continue };
        if which.json {
            writeln!(out, "{}", whole(letter, message))?;
            continue;
        }
        writeln!(out, "{}", printable(&letter.facts.id))?;
        for (name, value) in &message.headers {
            writeln!(out, "  {}: {}", printable(name), printable(&text(value)))?;
        }
        match std::str::from_utf8(&message.body) {
            Ok(body) => {
                let is_control =
                    |character: char| character.is_control() && !matches!(character, '\n' | '\t');
                writeln!(out, "\n{}\n", body.replace(is_control, "\u{fffd}"))?;
            }
            Err(_) => writeln!(
                out,
                "\n{} bytes that are not text (--json has them in base64)\n",
                message.body.len()
            )?,
        }
    }
    Ok(exit::OK)
}

fn whole(letter: &Shown, message: &Message) -> serde_json::Value {
    let mut json = serde_json::to_value(letter).unwrap_or_default();
    let headers: Vec<serde_json::Value> =
        message.headers.iter().map(|(name, value)| serde_json::json!([name, text(value)])).collect();
    json["headers"] = headers.into();
    match std::str::from_utf8(&message.body) {
        Ok(body) => json["body"] = body.into(),
        Err(_) => json["body_base64"] = BASE64_STANDARD.encode(&message.body).into(),
    }
    json
}

fn text(value: &Value) -> String {
    value.plain().unwrap_or_else(|| match value {
        Value::Bytes(bytes) => format!("base64:{}", BASE64_STANDARD.encode(bytes)),
        other => format!("{other:?}"),
    })
}

async fn handle(
    which: &Which,
    selection: &Selection,
    work: &Work,
    how: &How,
    stop: CancellationToken,
    (out, err): (&mut dyn Write, &mut dyn Write),
) -> Result<u8, End> {
    let mut progress = tools::progress("read", how.quiet);
    let report = dead_letter::handle(selection, work, &mut progress, &stop).await?;
    drop(progress);
    print(which, work, &report, out, err)?;
    Ok(match (&report.failure, report.is_interrupted) {
        (Some(_), _) => exit::UNAVAILABLE,
        (None, true) => exit::CUT,
        (None, false) if report.skipped.is_empty() => exit::OK,
        (None, false) => exit::UNAVAILABLE,
    })
}

fn print(
    which: &Which,
    work: &Work,
    report: &Report,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), End> {
    /// Lines of each kind; the JSON has all.
    const LINES: usize = 20;
    for skipped in report.skipped.iter().take(LINES) {
        writeln!(err, "stays: {}: {}", printable(&skipped.id), printable(&skipped.reason))?;
    }
    if report.skipped.len() > LINES {
        writeln!(err, "… and {} more", report.skipped.len() - LINES)?;
    }
    for id in report.doubtful.iter().take(LINES) {
        writeln!(err, "in doubt: {} may be at its target twice", printable(id))?;
    }
    if let Some(failure) = &report.failure {
        exit::say(
            err,
            failure,
            "the letters that were not handled are still there; run the same command again",
        )?;
    }
    if report.is_interrupted {
        writeln!(
            err,
            "interrupted\n  help: the letters that were not handled are still there; run the same command again"
        )?;
    }
    if which.json {
        let mut json = serde_json::to_value(report).map_err(io::Error::from)?;
        json["dry_run"] = work.is_dry_run.into();
        writeln!(out, "{json}")?;
        return Ok(());
    }
    let verb = match (&work.destination, work.is_dry_run) {
        (Some(_), true) => "would be brought back",
        (Some(_), false) => "brought back",
        (None, true) => "would be removed",
        (None, false) => "removed",
    };
    let (handled, matched) = (report.handled, report.matched);
    writeln!(
        out,
        "{handled} of {matched} letters {verb}, {} stay, {} in doubt",
        report.skipped.len(),
        report.doubtful.len()
    )?;
    Ok(())
}

fn pattern(text: &str) -> Result<glob::Pattern, String> {
    glob::Pattern::new(text).map_err(|error| error.to_string())
}
