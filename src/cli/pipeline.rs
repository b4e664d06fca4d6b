//! `longhaul pause`, `resume`, `drain` and `limit`: changes to a running pipeline, and to one of
//! its Kafka partitions.

use std::io::{self, Write};

use super::client::{self, Answer, Failure};
use crate::source::StartFrom;
use crate::view::Changed;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Name of the pipeline.
    pipeline: String,
    #[command(flatten)]
    client: client::Options,
}

#[derive(Debug, clap::Args)]
pub struct Pause {
    /// Only this partition of a Kafka topic.
    #[arg(long, value_name = "TOPIC/NUMBER", value_parser = Partition::parse)]
    partition: Option<Partition>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, clap::Args)]
pub struct Resume {
    #[command(flatten)]
    pause: Pause,
    /// Where Kafka partitions begin that have lost their committed offsets, or that `start: refuse`
    /// holds back: earliest, latest, or a time such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "START", conflicts_with = "partition")]
    from: Option<StartFrom>,
}

#[derive(Debug, clap::Args)]
pub struct Skip {
    /// Name of the pipeline.
    pipeline: String,
    /// The partition of the record.
    #[arg(value_name = "TOPIC/NUMBER", value_parser = Partition::parse)]
    partition: Partition,
    /// The offset of the record.
    #[arg(value_parser = clap::value_parser!(i64).range(0..))]
    offset: i64,
    /// Write no dead letter: the record is lost by choice.
    #[arg(long)]
    drop: bool,
    /// Only tell the effect.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    client: client::Options,
}

/// A partition of a Kafka topic.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Partition {
    topic: String,
    number: i32,
}

impl Partition {
    fn parse(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once('/').filter(|(topic, _)| !topic.is_empty());
        let parsed = parts.and_then(|(topic, number)| Some((topic.to_owned(), number.parse::<u16>().ok()?)));
        let (topic, number) = parsed.ok_or("write the topic and the number, such as orders/3")?;
        Ok(Partition { topic, number: i32::from(number) })
    }
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
    ask(&options.client, &options.pipeline, &[change], &[], out, err)
}

/// Pauses or resumes a pipeline, or one partition of it.
///
/// # Errors
/// If `out` or `err` cannot be written.
pub fn pause(change: &str, pause: &Pause, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let Pause { partition, options } = pause;
    let Some(Partition { topic, number }) = partition else { return run(change, options, out, err) };
    let path = ["partitions", topic, &number.to_string(), change];
    ask(&options.client, &options.pipeline, &path, &[], out, err)
}

/// Settles one Kafka record without its work.
///
/// # Errors
/// If `out` or `err` cannot be written.
pub fn skip(skip: &Skip, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let Partition { topic, number } = &skip.partition;
    let (number, offset) = (number.to_string(), skip.offset.to_string());
    let path = ["partitions", topic, &number, "skip"];
    let then = if skip.drop { "drop" } else { "dead-letter" };
    let mut query = vec![("offset", offset.as_str()), ("then", then)];
    query.extend(skip.dry_run.then_some(("dry_run", "true")));
    ask(&skip.client, &skip.pipeline, &path, &query, out, err)
}

/// # Errors
/// If `out` or `err` cannot be written.
pub fn resume(resume: &Resume, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let Resume { pause: options, from } = resume;
    let Some(from) = from else { return pause("resume", options, out, err) };
    let Options { pipeline, client } = &options.options;
    ask(client, pipeline, &["resume"], &[("from", &from.to_string())], out, err)
}

/// # Errors
/// If `out` or `err` cannot be written.
pub fn limit(options: &Limit, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let number = options.max_in_flight.to_string();
    ask(&options.client, &options.pipeline, &["limit"], &[("max_in_flight", &number)], out, err)
}

fn ask(
    options: &client::Options,
    pipeline: &str,
    change: &[&str],
    query: &[(&str, &str)],
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    client::run(&options.server, err, |client, _| {
        let answer: Result<Answer<Changed>, Failure> =
            client.change(&[&["api", "v1", "pipelines", pipeline], change].concat(), query);
        match answer {
            Ok(answer) if options.json => writeln!(out, "{}", answer.text).map(Ok),
            Ok(Answer { value: Changed { pipeline, text, .. }, .. }) => {
                writeln!(out, "pipeline {pipeline}: {text}").map(Ok)
            }
            Err(failure) => Ok(Err(client.about_pipeline(pipeline, failure))),
        }
    })
}
