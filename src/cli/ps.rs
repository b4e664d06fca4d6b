//! `longhaul ps`: the pipelines of a running bridge, and their unfinished items.

use std::io::{self, Write};

use jiff::Timestamp;

use super::client::{self, Answer, Client, Failure, Outcome};
use super::items::list;
use super::table::{age, duration, number, shown, until};
use crate::view::{Binding, ItemState, Pipeline};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only this pipeline, with its unfinished items.
    pipeline: Option<String>,
    /// Show the unfinished items of all pipelines.
    #[arg(long)]
    items: bool,
    #[command(flatten)]
    client: client::Options,
}

/// # Errors
/// If `out` or `err` cannot be written.
pub fn run(options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    client::run(&options.client.server, err, |client, _| show(options, client, out))
}

fn show(options: &Options, client: &Client, out: &mut dyn Write) -> Outcome {
    let mut replicas = Vec::new();
    let pipelines = match &options.pipeline {
        Some(name) => match one(client, name) {
            Ok(answer) if options.client.json && !options.items => {
                return writeln!(out, "{}", answer.text).map(Ok);
            }
            Ok(answer) => vec![answer.value],
            Err(failure) => return Ok(Err(failure)),
        },
        None => match client.pipelines_of_all() {
            Ok(answer) if options.client.json && !options.items => {
                return writeln!(out, "{}", answer.text).map(Ok);
            }
            Ok(answer) => {
                replicas = answer.value.replicas;
                answer.value.pipelines
            }
            Err(failure) => return Ok(Err(failure)),
        },
    };
    let has_others = replicas.len() > 1;
    let now = Timestamp::now();
    for pipeline in &pipelines {
        if !options.client.json {
            print(pipeline, has_others, now, out)?;
        }
        if options.items || options.pipeline.is_some() {
            let wanted = list::Wanted::unfinished();
            if let Err(failure) =
                list::print(client, &[pipeline.name.as_str()], &wanted, options.client.json, out)?
            {
                return Ok(Err(failure));
            }
        }
    }
    for error in replicas.iter().filter_map(|replica| replica.error.as_ref()).filter(|_| !options.client.json)
    {
        writeln!(out, "! a replica gives no answer: {}", shown(error))?;
    }
    Ok(Ok(()))
}

/// One pipeline.
fn one(client: &Client, name: &str) -> Result<Answer<Pipeline>, Failure> {
    let answer = client.read(&["api", "v1", "pipelines", name], &[]);
    answer.map_err(|failure| client.about_pipeline(name, failure))
}

fn print(pipeline: &Pipeline, has_others: bool, now: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    let at = if has_others { format!(" at {}", shown(&pipeline.replica)) } else { String::new() };
    writeln!(out, "{}{at}: {}", pipeline.name, shown(&pipeline.sentence))?;
    writeln!(out, "  {}", figures(pipeline).join(", "))?;
    writeln!(out, "  {} -> {}", shown(&pipeline.source), shown(&pipeline.sink))?;
    for line in troubles(pipeline, now) {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

/// The numbers of a pipeline, each with its name.
pub fn figures(pipeline: &Pipeline) -> Vec<String> {
    let limit = &pipeline.limit;
    let mut parts = vec![
        pipeline
            .backlog
            .map_or("backlog not known".to_owned(), |backlog| format!("backlog {}", number(backlog))),
        format!("in flight {} of {} ({})", limit.running, limit.working, binding(pipeline)),
    ];
    let counts = ItemState::ALL.into_iter().filter(|state| *state != ItemState::Running);
    parts.extend(counts.filter_map(|state| match pipeline.counts.get(&state) {
        None | Some(0) => None,
        Some(count) => Some(format!("{state} {}", number(*count))),
    }));
    if pipeline.done_per_minute > 0.0 {
        parts.push(format!("{:.1} per minute", pipeline.done_per_minute));
    }
    parts.extend(pipeline.mean_seconds.map(|seconds| format!("{} each", duration(seconds))));
    if pipeline.pods > 0 {
        parts.push(format!("{} pods", pipeline.pods));
    }
    if !pipeline.paused_partitions.is_empty() {
        parts.push(format!("paused partitions {}", shown(&pipeline.paused_partitions.join(" "))));
    }
    parts
}

/// The bound of new requests.
pub fn binding(pipeline: &Pipeline) -> String {
    let limit = &pipeline.limit;
    match limit.binding {
        Binding::Backlog => "no item waits".to_owned(),
        Binding::MaxInFlight => "max_in_flight".to_owned(),
        Binding::Ceiling => format!("a person set it; max_in_flight is {}", limit.max_in_flight),
        Binding::Occupied => "items that wait or are held occupy the other slots".to_owned(),
        Binding::WorkingLimit => {
            format!("the service did not start more; max_in_flight is {}", limit.max_in_flight)
        }
        Binding::Rate => "the next item starts later, because of `rate`".to_owned(),
        Binding::HeldBytes => "limits.held_bytes is reached".to_owned(),
        Binding::HeldMax => "limits.held_max items are held".to_owned(),
        Binding::Breaker => "the breaker is open".to_owned(),
        Binding::Paused => "paused".to_owned(),
        Binding::Draining => "draining".to_owned(),
    }
}

/// The reasons why the pipeline is not ready, each with its start and the way to fix it.
pub fn troubles(pipeline: &Pipeline, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    for problem in &pipeline.problems {
        lines.push(format!("! {} (for {})", shown(&problem.text), age(&problem.since, now)));
        lines.push(format!("  help: {}", shown(&problem.help)));
    }
    if let Some(breaker) = &pipeline.breaker {
        let probe = breaker.probe.as_deref().map_or("an item tests the service now".to_owned(), |time| {
            format!("next test {}", until(time, now))
        });
        lines.push(format!(
            "! the breaker is open ({}, for {}): {}; {probe}",
            breaker.cause,
            age(&breaker.since, now),
            shown(&breaker.answer)
        ));
        lines.push(format!("  resume: {}", shown(&breaker.resume)));
    }
    lines
}
