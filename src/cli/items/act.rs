//! `longhaul items retry`, `drop`, `dead-letter`, `hold`, `release` and `cancel`.

use std::io::{self, IsTerminal, Write};

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{Filter, about_item, failed};
use crate::cli::client::{self, Answer, Client, Failure, Outcome};
use crate::cli::table::{number, shown};
use crate::view::{Action, Matched, Then};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// The ids of the items.
    #[arg(value_name = "ID", conflicts_with_all = ["state", "reason", "older", "key", "all"])]
    ids: Vec<String>,
    /// The pipeline of the items. With a filter it is required.
    #[arg(long)]
    pipeline: Option<String>,
    #[command(flatten)]
    filter: Filter,
    /// Select all items of the pipeline.
    #[arg(long)]
    all: bool,
    /// Only tell how many items would change.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before many items are changed.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    client: client::Options,
}

#[derive(Debug, clap::Args)]
pub struct Cancel {
    /// The next step of the item: `requeue` tries it again after its backoff, `dead-letter` writes
    /// its dead letter and acks it, `drop` acks it without success.
    #[arg(long, default_value = "requeue", value_name = "STEP", value_parser = steps())]
    pub then: Then,
    #[command(flatten)]
    pub options: Options,
}

fn steps() -> impl TypedValueParser<Value = Then> {
    PossibleValuesParser::new(Then::ALL.map(Then::as_str)).try_map(|text| text.parse())
}

/// # Errors
/// If `out` or `err` cannot be written.
pub fn run(
    action: Action,
    then: Option<Then>,
    options: &Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let then = then.map(Then::as_str).unwrap_or_default();
    client::run(&options.client.server, err, |client, err| {
        if !options.ids.is_empty() {
            return on_ids(action, then, options, client, out, err);
        }
        let usage = |reason: &str, help: &str| failed(Failure::usage(reason, help));
        let Some(pipeline) = options.pipeline.as_deref() else {
            return usage(
                "no item is selected",
                "give ids, or --pipeline with a filter such as --state held",
            );
        };
        if options.filter.is_empty() && !options.all {
            return usage("no item is selected", "give a filter such as --state held, or --all");
        }
        on_filter(action, then, pipeline, options, client, out, err)
    })
}

/// The past participle of the action.
pub fn done(action: Action) -> &'static str {
    match action {
        Action::Retry => "sent on at once",
        Action::Drop => "dropped",
        Action::DeadLetter => "dead-lettered",
        Action::Hold => "held",
        Action::Release => "released",
        Action::Cancel => "cancelled",
    }
}

/// One request for each id, so that one wrong id does not keep the others from their change.
fn on_ids(
    action: Action,
    then: &str,
    options: &Options,
    client: &Client,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Outcome {
    let pipeline = options.pipeline.as_deref().unwrap_or_default();
    let query = [("pipeline", pipeline), ("then", then), ("dry_run", dry(options.dry_run))];
    let mut failures = Vec::new();
    for id in &options.ids {
        let answer: Result<Answer<Matched>, Failure> =
            client.change(&["api", "v1", "items", id, action.as_str()], &query);
        match answer {
            Ok(answer) if options.client.json => writeln!(out, "{}", answer.text)?,
            Ok(Answer { value, .. }) => writeln!(out, "{}: {}", shown(id), result(action, &value))?,
            Err(failure) => failures.push(about_item(id, failure)),
        }
    }
    let last = failures.pop();
    for failure in failures {
        failure.say(err)?;
    }
    Ok(last.map_or(Ok(()), Err))
}

fn result(action: Action, Matched { matched, changed, dry_run }: &Matched) -> String {
    let of =
        if *matched == 1 { String::new() } else { format!(" ({changed} of {matched} items with this id)") };
    match (changed, dry_run) {
        (0, _) => format!("nothing changed, since {} does not fit its state", action.as_str()),
        (_, true) => format!("would be {}{of}", done(action)),
        (_, false) => format!("{}{of}", done(action)),
    }
}

fn on_filter(
    action: Action,
    then: &str,
    pipeline: &str,
    options: &Options,
    client: &Client,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Outcome {
    let ask = |dry_run: bool| -> Result<Answer<Matched>, Failure> {
        let mut query = options.filter.query();
        query.extend([("then", then.to_owned()), ("dry_run", dry(dry_run).to_owned())]);
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let path = ["api", "v1", "pipelines", pipeline, "items", action.as_str()];
        client.change(&path, &query).map_err(|failure| client.about_pipeline(pipeline, failure))
    };
    if options.dry_run || !options.yes {
        let answer = match ask(true) {
            Ok(answer) => answer,
            Err(failure) => return failed(failure),
        };
        let Matched { matched, changed, .. } = answer.value;
        let of = format!("{} of {} items of {pipeline}", number(changed as u64), number(matched as u64));
        if options.dry_run {
            return match options.client.json {
                true => writeln!(out, "{}", answer.text),
                false => writeln!(out, "{of} would be {}", done(action)),
            }
            .map(Ok);
        }
        if !io::stdin().is_terminal() {
            return failed(Failure::usage(
                format!("{of} would be {}, and nobody can be asked", done(action)),
                "give --yes to do it, or --dry-run to count only",
            ));
        }
        write!(err, "{of} will be {}. Go on? [y/N] ", done(action))?;
        err.flush()?;
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        if !matches!(line.trim(), "y" | "Y" | "yes") {
            return writeln!(err, "nothing changed").map(Ok);
        }
    }
    match ask(false) {
        Ok(answer) if options.client.json => writeln!(out, "{}", answer.text).map(Ok),
        Ok(Answer { value: Matched { matched, changed, .. }, .. }) => {
            let (changed, matched) = (number(changed as u64), number(matched as u64));
            writeln!(out, "{changed} of {matched} items of {pipeline} {}", done(action)).map(Ok)
        }
        Err(failure) => failed(failure),
    }
}

fn dry(dry_run: bool) -> &'static str {
    if dry_run { "true" } else { "" }
}
