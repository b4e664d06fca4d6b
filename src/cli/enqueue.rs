//! `longhaul enqueue`: writes items to a queue or a topic.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::exit;
use super::tools::{self, End};
use crate::publish::Broker;
use crate::tools::Failure;
use crate::tools::enqueue::rate::Rate;
use crate::tools::enqueue::state::State;
use crate::tools::enqueue::template::Template;
use crate::tools::enqueue::{self, Form, From, Input, Job, LISTED, Listed, Summary, Survey};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("input").required(true).multiple(false))]
pub struct Options {
    #[command(flatten)]
    target: tools::Target,

    /// A file with one JSON document on each line; `-` is standard input.
    #[arg(long, env = "LONGHAUL_JSON_LINES", value_name = "FILE", group = "input")]
    json_lines: Option<PathBuf>,
    /// A CSV file whose first row has the names of the columns; each row becomes a JSON object, or
    /// the `--template`. `-` is standard input.
    #[arg(long, env = "LONGHAUL_CSV", value_name = "FILE", group = "input")]
    csv: Option<PathBuf>,
    /// The files that match this pattern, each one item: 'scans/**/*.tif'.
    #[arg(long, env = "LONGHAUL_FILES", value_name = "GLOB", group = "input")]
    files: Option<String>,
    /// So many items of the `--template`.
    #[arg(long, env = "LONGHAUL_COUNT", value_name = "N", group = "input", requires = "template")]
    count: Option<u64>,
    /// `-`: each line of standard input is an item, as it is.
    #[arg(value_name = "-", group = "input", value_parser = clap::builder::PossibleValuesParser::new(["-"]))]
    lines: Option<String>,
    /// The body. A name in braces stands for a value: n for the number from 1, the name of a column
    /// for the value of the CSV row. Double braces stand for the braces of JSON.
    #[arg(long, env = "LONGHAUL_TEMPLATE", value_name = "TEXT")]
    template: Option<Template>,
    /// The character between the columns of the CSV file.
    #[arg(long, env = "LONGHAUL_DELIMITER", default_value = ",", value_parser = delimiter)]
    delimiter: u8,

    /// Where the id comes from: a column of the CSV file, a JSON pointer such as `/order/id`,
    /// `file` for the path, `hash` for the content, or `number` [default: `file` for --files,
    /// `number` for --count, else `hash`]
    #[arg(long, env = "LONGHAUL_ID_FROM", value_name = "PART")]
    id_from: Option<From>,
    /// Where the key of a Kafka record comes from, as for --id-from [default: the id]
    #[arg(long, env = "LONGHAUL_KEY_FROM", value_name = "PART")]
    key_from: Option<From>,
    /// Write CloudEvents in binary mode; plain messages without it.
    #[arg(long, env = "LONGHAUL_CLOUDEVENTS")]
    cloudevents: bool,
    /// The CloudEvents' attribute `type`.
    #[arg(long, env = "LONGHAUL_TYPE", default_value = "dev.longhaul.item", value_name = "TYPE")]
    r#type: String,
    /// The CloudEvents' attribute `source`.
    #[arg(long, env = "LONGHAUL_SOURCE", default_value = "/longhaul/enqueue", value_name = "URI")]
    source: String,
    /// The content type [default: by the input]
    #[arg(long, env = "LONGHAUL_CONTENT_TYPE", value_name = "TYPE")]
    content_type: Option<String>,
    /// A header of every message. May be repeated.
    #[arg(long = "header", env = "LONGHAUL_HEADER", value_name = "NAME=VALUE", value_parser = super::pair, value_delimiter = '\n')]
    headers: Vec<(String, String)>,

    /// The most items in a time, such as `10/s`, `30/m` or `500/h`.
    #[arg(long, env = "LONGHAUL_RATE", value_name = "RATE")]
    rate: Option<Rate>,
    /// Items that may wait for their confirm at once.
    #[arg(long, env = "LONGHAUL_WINDOW", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    window: u16,
    /// How long the write of an item is tried again.
    #[arg(long, env = "LONGHAUL_RETRY_FOR", default_value = "2m", value_name = "DURATION", value_parser = super::duration)]
    retry_for: Duration,
    /// Create the queue (quorum) or the topic if it does not exist.
    #[arg(long, env = "LONGHAUL_CREATE")]
    create: bool,
    /// Partitions of a topic that is created.
    #[arg(long, env = "LONGHAUL_PARTITIONS", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    partitions: u16,
    /// Leave out the parts of the input that have a mistake. Without it nothing is written then.
    #[arg(long, env = "LONGHAUL_SKIP_INVALID")]
    skip_invalid: bool,

    /// The file that remembers the confirmed items, so that the same command continues after an
    /// interruption [default: a file in the present folder]
    #[arg(long, env = "LONGHAUL_STATE", value_name = "FILE", conflicts_with = "no_state")]
    state: Option<PathBuf>,
    /// Keep no state: the same command begins again after an interruption.
    #[arg(long, env = "LONGHAUL_NO_STATE")]
    no_state: bool,
    /// Forget an interrupted run, and write every item again.
    #[arg(long, env = "LONGHAUL_RESTART", conflicts_with = "no_state")]
    restart: bool,
    /// The items that an interrupted run sent without a confirm: write them again (some may be
    /// there twice) or leave them out (some may be missing). They are listed in both cases.
    #[arg(long, env = "LONGHAUL_IN_DOUBT", value_enum, default_value = "repeat")]
    in_doubt: InDoubt,
    /// Read and check everything, and write nothing.
    #[arg(long, env = "LONGHAUL_DRY_RUN")]
    dry_run: bool,
    /// Print the summary as JSON.
    #[arg(long, env = "LONGHAUL_JSON")]
    json: bool,
    /// Show no progress.
    #[arg(short, long, env = "LONGHAUL_QUIET")]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum InDoubt {
    Repeat,
    Skip,
}

/// # Errors
/// If `out` or `err` cannot be written.
pub fn run(options: Options, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let result = tools::work(|stop| enqueue(options, stop, out, err));
    tools::finish(result, err)
}

async fn enqueue(
    options: Options,
    stop: CancellationToken,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, End> {
    let job = job(&options)?;
    let broker = job.to.broker();
    let exists = enqueue::exists(&job.to).await?;
    if !exists && !options.create {
        let kind = enqueue::kind(broker);
        return Err(Failure::unavailable(
            format!("{} does not exist at {}", job.to.shown(), job.to.address()),
            format!("correct the name, or create the {kind} with --create"),
        )
        .into());
    }
    let survey = match job.input.is_repeatable() || options.dry_run {
        true => Some(tokio::task::block_in_place(|| enqueue::survey(&job))?),
        false => None,
    };
    if let Some(survey) = &survey {
        if !survey.bad.is_empty() && (!options.skip_invalid || options.dry_run) {
            list(err, "error", &survey.bad)?;
        }
        if survey.messages == 0 && survey.bad.is_empty() {
            writeln!(err, "warning: the input has no items")?;
        }
        if survey.equal_ids > 0 {
            writeln!(
                err,
                "warning: {} items have the id of another item\n  help: choose another --id-from",
                survey.equal_ids
            )?;
        }
        if options.dry_run {
            return dry_run(&options, &job, survey, exists, out);
        }
        if !survey.bad.is_empty() && !options.skip_invalid {
            return Err(Failure::usage(
                format!("{} parts of the input make no item; nothing was written", survey.bad.len()),
                "correct them, or leave them out with --skip-invalid",
            )
            .into());
        }
    }
    let mut state = state(&options, &job, survey.as_ref())?;
    if !exists {
        enqueue::create(&job.to, options.partitions).await?;
        writeln!(err, "{} created", job.to.shown())?;
    }
    let resumed = state.confirmed();
    if resumed > 0 {
        writeln!(err, "continues an interrupted run: {resumed} items are confirmed")?;
    }
    let mut progress = tools::progress("confirmed", options.quiet);
    if let Some(survey) = &survey {
        progress.set_total(survey.messages);
    }
    let mut summary = enqueue::run(job, &mut state, &mut progress, stop).await?;
    drop(progress);
    if let Some(survey) = survey {
        // The writes found the same parts again.
        summary.refused.retain(|refused| refused.id.is_some());
        summary.refused.splice(0..0, survey.bad);
    }
    report(&options, state, &summary, out, err)
}

fn job(options: &Options) -> Result<Job, End> {
    let (to, _) = options.target.place()?;
    if to.name().is_none() {
        return Err(Failure::usage(
            "the address names no queue or topic",
            "write it as amqp://host/queue or kafka://host:9092/topic; a pipeline with several topics needs --to",
        )
        .into());
    }
    let template_only = |input: Input| match &options.template {
        Some(_) => Err(Failure::usage("--template is for --count and --csv", "leave it out")),
        None => Ok(input),
    };
    let input = match (&options.json_lines, &options.csv, &options.files, options.count) {
        (Some(file), ..) => template_only(Input::JsonLines(file.clone()))?,
        (_, Some(file), ..) => Input::Csv {
            file: file.clone(),
            delimiter: options.delimiter,
            template: options.template.clone(),
        },
        (_, _, Some(pattern), _) => template_only(Input::Files(pattern.clone()))?,
        (_, _, _, Some(count)) => {
            let template = options.template.clone();
            let template =
                template.ok_or_else(|| Failure::usage("--count needs --template", "write the body there"))?;
            if let Some(column) = template.unknown(&[]) {
                return Err(Failure::usage(
                    format!("the template names {{{column}}}, and --count has only {{n}}"),
                    "write {{ and }} for the braces of JSON",
                )
                .into());
            }
            Input::Count(count, template)
        }
        _ => template_only(Input::Lines)?,
    };
    let id = options.id_from.clone().unwrap_or(match &input {
        Input::Files(_) => From::File,
        Input::Count(..) => From::Number("item-".to_owned()),
        _ => From::Hash,
    });
    if options.key_from.is_some() && to.broker() == Broker::Rabbitmq {
        return Err(Failure::usage("--key-from is for Kafka only", "leave it out").into());
    }
    let event = options.cloudevents.then(|| (options.r#type.clone(), options.source.clone()));
    if event.as_ref().is_some_and(|(kind, source)| kind.is_empty() || source.is_empty()) {
        return Err(Failure::usage(
            "--type and --source may not be empty",
            "leave them out for the defaults",
        )
        .into());
    }
    Ok(Job {
        input,
        to,
        id,
        key: options.key_from.clone(),
        form: Form { event, content_type: options.content_type.clone(), headers: options.headers.clone() },
        rate: options.rate,
        window: options.window.into(),
        patience: options.retry_for,
        repeats_doubtful: options.in_doubt == InDoubt::Repeat,
        skips_bad: options.skip_invalid,
    })
}

/// Standard input can be read only once, so that a run over it keeps a state only if it is asked
/// to.
fn state(options: &Options, job: &Job, survey: Option<&Survey>) -> Result<State, Failure> {
    let fingerprint = job.fingerprint(survey);
    match (&options.state, options.no_state || survey.is_none()) {
        (Some(file), _) => State::open(file, &fingerprint, options.restart),
        (None, true) => Ok(State::none()),
        (None, false) => State::open(Path::new(&job.state_file()), &fingerprint, options.restart),
    }
}

fn dry_run(
    options: &Options,
    job: &Job,
    survey: &Survey,
    exists: bool,
    out: &mut dyn Write,
) -> Result<u8, End> {
    let code = if survey.bad.is_empty() || options.skip_invalid { exit::OK } else { exit::USAGE };
    if options.json {
        let facts = serde_json::json!({
            "dry_run": true, "target": job.to.address(), "exists": exists, "items": survey.messages,
            "bytes": survey.bytes, "refused": survey.bad, "equal_ids": survey.equal_ids, "first": survey.first,
        });
        writeln!(out, "{facts}")?;
        return Ok(code);
    }
    let to = job.to.address();
    writeln!(out, "dry run: {} items, {} bytes, would go to {to}", survey.messages, survey.bytes)?;
    if !exists {
        writeln!(out, "{} would be created", job.to.shown())?;
    }
    for Listed { place, id, .. } in &survey.first {
        writeln!(out, "  {place}: id {}", id.as_deref().unwrap_or_default())?;
    }
    Ok(code)
}

fn report(
    options: &Options,
    state: State,
    summary: &Summary,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, End> {
    let path = state.path().map(Path::to_owned);
    let is_whole = summary.failure.is_none() && !summary.is_interrupted;
    if !summary.refused.is_empty() {
        list(err, "refused", &summary.refused)?;
    }
    let mut list_file = None;
    if !summary.doubtful.is_empty() {
        let file = path.as_ref().map_or_else(
            || PathBuf::from("longhaul-enqueue.doubtful"),
            |path| path.with_extension("doubtful"),
        );
        let mut text = String::new();
        for one in &summary.doubtful {
            text.push_str(&serde_json::to_string(one).unwrap_or_default());
            text.push('\n');
        }
        let word = match (options.in_doubt, is_whole) {
            (InDoubt::Repeat, true) => "these items may be there twice",
            (InDoubt::Repeat, false) => "these items may be there already",
            (InDoubt::Skip, _) => "these items may be missing",
        };
        match std::fs::write(&file, text) {
            Ok(()) => writeln!(err, "{word} ({}, all in {}):", summary.doubtful.len(), file.display())?,
            Err(error) => writeln!(
                err,
                "{word} ({}; {} cannot be written: {error}):",
                summary.doubtful.len(),
                file.display()
            )?,
        }
        list(err, "in doubt", &summary.doubtful)?;
        list_file = Some(file);
    }
    if options.json {
        let mut facts = serde_json::to_value(summary).map_err(io::Error::from)?;
        facts["doubtful_file"] = serde_json::json!(list_file);
        facts["state"] = serde_json::json!(path.as_ref().filter(|_| !is_whole));
        writeln!(out, "{facts}")?;
    } else {
        let rate = (summary.confirmed - summary.earlier) as f64 / summary.seconds.max(0.001);
        writeln!(
            out,
            "{} items confirmed in {} ({} in this run, {:.1} s, {rate:.0}/s), {} refused, {} in doubt",
            summary.confirmed,
            summary.target,
            summary.confirmed - summary.earlier,
            summary.seconds,
            summary.refused.len(),
            summary.doubtful.len(),
        )?;
    }
    if is_whole {
        if let Err(error) = state.finish() {
            writeln!(err, "warning: the state file cannot be removed: {error}")?;
        }
        return Ok(if summary.refused.is_empty() { exit::OK } else { exit::UNAVAILABLE });
    }
    let help = match &path {
        Some(path) => {
            format!("run the same command again to continue; {} knows the confirmed items", path.display())
        }
        None => "no state file was kept, so the same command begins again from the first item".to_owned(),
    };
    match &summary.failure {
        Some(failure) => {
            exit::say(err, failure, &help)?;
            Ok(exit::UNAVAILABLE)
        }
        None => {
            writeln!(err, "interrupted\n  help: {help}")?;
            Ok(exit::CUT)
        }
    }
}

fn list(err: &mut dyn Write, word: &str, all: &[Listed]) -> io::Result<()> {
    for Listed { place, id, reason } in all.iter().take(LISTED) {
        let id = id.as_ref().map(|id| format!(" (id {id})")).unwrap_or_default();
        let reason = reason.as_ref().map(|reason| format!(" {reason}")).unwrap_or_default();
        writeln!(err, "{word}: {place}{id}{reason}")?;
    }
    if all.len() > LISTED {
        writeln!(err, "… and {} more", all.len() - LISTED)?;
    }
    Ok(())
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [one] if *one != b'"' => Ok(*one),
        b"\\t" => Ok(b'\t'),
        _ => Err("write one ASCII character such as `;`, or \\t for a tab".to_owned()),
    }
}
