//! `longhaul items`: the items of a running bridge, and actions on them.

use std::io::{self, Write};

use clap::Subcommand;

use super::client::{self, Client, Failure, Outcome};
use super::{duration, pipeline};
use crate::view::{Action, Item, ItemState, PipelineList};

mod act;
pub mod list;
mod tail;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: list::Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List items: unfinished ones in order of arrival, then finished ones, the latest first.
    List(list::Options),
    /// Show one item: state, attempt, last answer, place in the broker, progress.
    Show(One),
    /// Make the next attempt, or repeat the failed write, without a further wait.
    Retry(act::Options),
    /// Ack without success: nothing of the item is kept.
    Drop(act::Options),
    /// Write the dead letter, then ack.
    DeadLetter(act::Options),
    /// Keep items with the broker until a person decides.
    Hold(act::Options),
    /// End the hold: the items start again with all their attempts.
    Release(act::Options),
    /// Close the running requests.
    Cancel(act::Cancel),
    /// Settle one Kafka record without its work, also one that cannot be decoded.
    Skip(pipeline::Skip),
    /// Follow the log of a running item until it ends.
    Tail(One),
}

/// One item by its id.
#[derive(Debug, clap::Args)]
pub struct One {
    /// The id of the item.
    id: String,
    /// Look in this pipeline only.
    #[arg(long)]
    pipeline: Option<String>,
    #[command(flatten)]
    client: client::Options,
}

/// The selection of a list or of an action on many items.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub struct Filter {
    /// The states of the items, such as `held,retrying`.
    #[arg(long, value_delimiter = ',', value_name = "STATE")]
    state: Vec<ItemState>,
    /// Why the items are held or were dead-lettered, such as `rejected`.
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: Option<String>,
    /// In their present state for at least this long, such as `5m`.
    #[arg(long, value_name = "DURATION", value_parser = duration_text)]
    older: Option<String>,
    /// A part of the id, or a pattern with `*` for the whole id.
    #[arg(long, value_name = "PATTERN", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    key: Option<String>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.state.is_empty() && self.reason.is_none() && self.older.is_none() && self.key.is_none()
    }

    /// The parameters of the query.
    fn query(&self) -> Vec<(&'static str, String)> {
        let states: Vec<&str> = self.state.iter().map(|state| state.as_str()).collect();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        vec![
            ("state", states.join(",")),
            ("reason", text(&self.reason)),
            ("older", text(&self.older)),
            ("key", text(&self.key)),
        ]
    }
}

fn duration_text(text: &str) -> Result<String, String> {
    duration(text).map(|_| text.to_owned())
}

/// Runs `longhaul items` and returns the exit code.
///
/// # Errors
/// Returns an error if `out` or `err` cannot be written.
pub fn run(options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let act = |action, options: &act::Options, out: &mut dyn Write, err: &mut dyn Write| {
        act::run(action, None, options, out, err)
    };
    match &options.command {
        None => list::run(&options.list, out, err),
        Some(Command::List(options)) => list::run(options, out, err),
        Some(Command::Show(one)) => {
            client::run(&one.client.server, err, |client, _| list::show(client, one, out))
        }
        Some(Command::Tail(one)) => {
            client::run(&one.client.server, err, |client, err| tail::follow(client, one, out, err))
        }
        Some(Command::Skip(skip)) => pipeline::skip(skip, out, err),
        Some(Command::Retry(options)) => act(Action::Retry, options, out, err),
        Some(Command::Drop(options)) => act(Action::Drop, options, out, err),
        Some(Command::DeadLetter(options)) => act(Action::DeadLetter, options, out, err),
        Some(Command::Hold(options)) => act(Action::Hold, options, out, err),
        Some(Command::Release(options)) => act(Action::Release, options, out, err),
        Some(Command::Cancel(cancel)) => {
            act::run(Action::Cancel, Some(cancel.then), &cancel.options, out, err)
        }
    }
}

/// Explains a failure of a request about this item.
fn about_item(id: &str, failure: Failure) -> Failure {
    if failure.status != Some(404) {
        return failure;
    }
    Failure {
        reason: format!("no item here has the id {id}"),
        help: "`longhaul items` lists them; finished items are remembered for some time only, and another replica may have it".to_owned(),
        ..failure
    }
}

/// The names of the pipelines to look at: the given one, or all.
fn names(client: &Client, given: Option<&str>) -> Result<Vec<String>, Failure> {
    if let Some(name) = given {
        return Ok(vec![name.to_owned()]);
    }
    let PipelineList { pipelines, .. } = client.pipelines()?.value;
    Ok(pipelines.into_iter().map(|pipeline| pipeline.name).collect())
}

/// An item by its id.
fn find(client: &Client, one: &One) -> Result<client::Answer<Item>, Failure> {
    let pipeline = one.pipeline.as_deref().unwrap_or_default();
    let answer = client.read(&["api", "v1", "items", &one.id], &[("pipeline", pipeline)]);
    answer.map_err(|failure| about_item(&one.id, failure))
}

/// Wraps a failure as an [`Outcome`]. The outer result is `Ok`, because writing did not fail.
fn failed(failure: Failure) -> Outcome {
    Ok(Err(failure))
}
