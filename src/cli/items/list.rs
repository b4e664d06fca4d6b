//! `longhaul items list` and `items show`.

use std::io::{self, Write};

use jiff::Timestamp;

use super::{Filter, One, failed, find, names};
use crate::cli::client::{self, Answer, Client, Failure, Outcome};
use crate::cli::table::{Table, age, answer, attempt, next, number, shown, terminal_width, until};
use crate::view::{Item, ItemList, ItemLog, ItemState};

/// The number of items of a request.
const PAGE: usize = 500;

#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// The pipeline; all of them without it.
    pipeline: Option<String>,
    #[command(flatten)]
    filter: Filter,
    /// List at most this many items of each pipeline; 0 for all.
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
    #[command(flatten)]
    client: client::Options,
}

/// A selection, and how many items of it.
pub struct Wanted {
    filter: Filter,
    limit: usize,
}

impl Wanted {
    /// All items that have not ended.
    pub fn unfinished() -> Self {
        let state = ItemState::ALL.into_iter().filter(|state| !state.is_finished()).collect();
        Wanted { filter: Filter { state, ..Filter::default() }, limit: 100 }
    }
}

/// # Errors
/// If `out` or `err` cannot be written.
pub fn run(options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let wanted = Wanted { filter: options.filter.clone(), limit: options.limit };
    client::run(&options.client.server, err, |client, _| {
        let names = match names(client, options.pipeline.as_deref()) {
            Ok(names) => names,
            Err(failure) => return failed(failure),
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        print(client, &names, &wanted, options.client.json, out)
    })
}

/// Prints the items of these pipelines. With several of them, a column names the pipeline.
pub fn print(
    client: &Client,
    pipelines: &[&str],
    wanted: &Wanted,
    json: bool,
    out: &mut dyn Write,
) -> Outcome {
    let now = Timestamp::now();
    let mut all = ItemList::default();
    for name in pipelines {
        match fetch(client, name, wanted) {
            Ok(list) => {
                all.items.extend(list.items);
                all.total += list.total;
                all.replicas = list.replicas;
            }
            Err(failure) => return failed(client.about_pipeline(name, failure)),
        }
    }
    if json {
        let text = serde_json::to_string(&all).map_err(io::Error::other)?;
        return writeln!(out, "{text}").map(Ok);
    }
    if all.items.is_empty() {
        let text = if wanted.filter.is_empty() { "no items" } else { "no item matches" };
        return writeln!(out, "{text}").map(Ok);
    }
    let mut head = vec!["ID", "STATE", "ATTEMPT", "FOR", "NEXT", "LAST ANSWER"];
    if pipelines.len() > 1 {
        head.insert(0, "PIPELINE");
    }
    let has_others = all.replicas.len() > 1;
    if has_others {
        head.push("REPLICA");
    }
    let mut table = Table::new(&head);
    for item in &all.items {
        let mut cells = vec![
            shown(&item.id),
            item.state.to_string(),
            attempt(item),
            age(&item.since, now),
            next(item, now),
            answer(item),
        ];
        if pipelines.len() > 1 {
            cells.insert(0, item.pipeline.clone());
        }
        if has_others {
            cells.push(shown(&item.replica));
        }
        table.row(cells);
    }
    table.print(out, terminal_width())?;
    for error in all.replicas.iter().filter_map(|replica| replica.error.as_ref()) {
        writeln!(out, "! a replica gives no answer: {}", shown(error))?;
    }
    if all.total > all.items.len() {
        let (shown, total) = (number(all.items.len() as u64), number(all.total as u64));
        writeln!(
            out,
            "{shown} of {total} items; --limit 0 lists all, --state, --reason, --older and --key select"
        )?;
    }
    Ok(Ok(()))
}

/// Reads pages until there are enough items.
fn fetch(client: &Client, pipeline: &str, wanted: &Wanted) -> Result<ItemList, Failure> {
    let mut all = ItemList::default();
    let mut after = String::new();
    loop {
        let left = if wanted.limit == 0 { PAGE } else { wanted.limit - all.items.len() };
        let mut query = wanted.filter.query();
        query.extend([
            ("limit", left.min(PAGE).to_string()),
            ("after", after),
            ("replicas", "all".to_owned()),
        ]);
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let page: Answer<ItemList> = client.read(&["api", "v1", "pipelines", pipeline, "items"], &query)?;
        let ItemList { items, total, next, replicas } = page.value;
        let is_empty = items.is_empty();
        all.items.extend(items);
        (all.total, all.replicas) = (total, replicas);
        let is_enough = wanted.limit != 0 && all.items.len() >= wanted.limit;
        match next {
            Some(next) if !is_empty && !is_enough => after = next,
            // A page has the items of all replicas.
            _ if wanted.limit != 0 => {
                all.items.truncate(wanted.limit);
                return Ok(all);
            }
            _ => return Ok(all),
        }
    }
}

/// Prints all that is known about one item.
pub fn show(client: &Client, one: &One, out: &mut dyn Write) -> Outcome {
    let item = match find(client, one) {
        Ok(answer) if one.client.json => return writeln!(out, "{}", answer.text).map(Ok),
        Ok(answer) => answer.value,
        Err(failure) => return failed(failure),
    };
    let path = ["api", "v1", "items", &one.id, "log"];
    let log = client.read::<ItemLog>(&path, &[("pipeline", &item.pipeline)]);
    let lines = log.map(|answer| answer.value.lines).unwrap_or_default();
    for (name, value) in facts(&item, Timestamp::now()) {
        writeln!(out, "{name:<9} {}", shown(&value))?;
    }
    if let Some(last) = &item.last {
        for (name, value) in &last.headers {
            writeln!(out, "          {}: {}", shown(name), shown(value))?;
        }
        for line in last.text.lines() {
            writeln!(out, "          {}", shown(line))?;
        }
    }
    let from = lines.len().saturating_sub(10);
    if !lines.is_empty() {
        writeln!(out, "log       the last {} of {} lines", lines.len() - from, lines.len())?;
    }
    for line in &lines[from..] {
        writeln!(out, "          {}", shown(line))?;
    }
    Ok(Ok(()))
}

/// The properties of an item that are known.
pub fn facts(item: &Item, now: Timestamp) -> Vec<(&'static str, String)> {
    let place = match (&item.queue, &item.topic) {
        (Some(queue), _) => Some(match item.delivery_tag {
            Some(tag) => format!("queue {queue}, delivery tag {tag}"),
            None => format!("queue {queue}"),
        }),
        (None, Some(topic)) => Some(format!(
            "topic {topic}, partition {}, offset {}",
            item.partition.unwrap_or_default(),
            item.offset.unwrap_or_default()
        )),
        (None, None) => None,
    };
    let progress = item.progress.as_ref().map(|progress| {
        let percent = progress.percent.map(|percent| format!("{percent:.0} %")).unwrap_or_default();
        let note = progress.note.as_deref().unwrap_or_default();
        format!("{percent} {note} (reported {} ago)", age(&progress.at, now))
    });
    let last = item.last.as_ref().map(|last| {
        let status = last.status.map(|status| format!(", status {status}")).unwrap_or_default();
        format!("{}{status}, {} ago", last.outcome, age(&last.at, now))
    });
    let known = [
        ("id", Some(item.id.clone())),
        ("pipeline", Some(item.pipeline.clone())),
        ("state", Some(format!("{} for {}, since {}", item.state, age(&item.since, now), item.since))),
        ("reason", item.reason.clone()),
        ("attempt", Some(attempt(item))),
        ("next", item.next.as_ref().map(|time| format!("{} ({time})", until(time, now)))),
        ("deadline", item.deadline.as_ref().map(|time| format!("{} ({time})", until(time, now)))),
        ("progress", progress),
        ("pod", item.pod.clone()),
        ("place", place),
        ("last", last),
    ];
    known.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
