//! `longhaul pause`, `resume`, `drain` and `limit`: changes to a running pipeline.

use std::io::{self, Write};

use super::client::{self, Answer, Failure};
use crate::view::Changed;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Name of the pipeline.
    pipeline: String,
    #[command(flatten)]
    client: client::Options,
}

#[derive(Debug, clap::Args)]
pub struct Limit {
    /// Name of the pipeline.
    pipeline: String,
    /// The number of requests that may be open, until the next restart.
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    max_in_flight: u32,
    #[command(flatten)]
    client: client::Options,
}

/// Asks the bridge for `change` and prints its answer, which says whether anything changed.
///
/// # Errors
/// If `out` or `err` cannot be written.
pub fn run(change: &str, options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    ask(&options.client, &options.pipeline, change, &[], out, err)
}

/// # Errors
/// If `out` or `err` cannot be written.
pub fn limit(options: &Limit, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let number = options.max_in_flight.to_string();
    ask(&options.client, &options.pipeline, "limit", &[("max_in_flight", &number)], out, err)
}

fn ask(
    options: &client::Options,
    pipeline: &str,
    change: &str,
    query: &[(&str, &str)],
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    client::run(&options.server, err, |client, _| {
        let answer: Result<Answer<Changed>, Failure> =
            client.change(&["api", "v1", "pipelines", pipeline, change], query);
        match answer {
            Ok(answer) if options.json => writeln!(out, "{}", answer.text).map(Ok),
            Ok(Answer { value: Changed { pipeline, text, .. }, .. }) => {
                writeln!(out, "pipeline {pipeline}: {text}").map(Ok)
            }
            Err(failure) => Ok(Err(client.about_pipeline(pipeline, failure))),
        }
    })
}
