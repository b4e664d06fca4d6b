//! The thread that asks the bridge.

use std::sync::mpsc::{Receiver, Sender};

use crate::cli::client::{Client, Failure};
use crate::view::{Action, Changed, Item, ItemList, ItemLog, Matched, Pipeline};

/// A request of the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// All pipelines, and a page of items of one of them.
    Refresh { pipeline: Option<String>, query: Vec<(&'static str, String)> },
    /// One item and its log.
    Item { id: String, pipeline: String },
    /// How many items an action would change.
    Count(Deed),
    /// The action itself.
    Act(Deed),
    /// A change of a pipeline.
    Change { pipeline: String, change: &'static str, query: Vec<(&'static str, String)> },
}

/// An action on one item or on all that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    pub action: Action,
    pub pipeline: String,
    /// None for all that match the query.
    pub id: Option<String>,
    pub query: Vec<(&'static str, String)>,
}

/// An answer for the screen.
#[derive(Debug)]
pub enum Told {
    State {
        pipelines: Vec<Pipeline>,
        chosen: Option<Box<Pipeline>>,
        items: ItemList,
    },
    Item(Box<Item>, Vec<String>),
    Counted(Deed, Matched),
    Done(String),
    Failed(Failure),
    /// The state could not be read.
    Lost(Failure),
}

/// Answers until the screen has gone.
pub fn serve(client: &Client, asked: &Receiver<Ask>, tell: &Sender<Told>) {
    while let Ok(request) = asked.recv() {
        let told = match request {
            Ask::Refresh { pipeline, query } => state(client, pipeline, &query).unwrap_or_else(Told::Lost),
            Ask::Item { id, pipeline } => item(client, &id, &pipeline).unwrap_or_else(Told::Failed),
            Ask::Count(deed) => match perform(client, &deed, true) {
                Ok(matched) => Told::Counted(deed, matched),
                Err(failure) => Told::Failed(failure),
            },
            Ask::Act(deed) => match perform(client, &deed, false) {
                Ok(Matched { matched, changed, .. }) => {
                    Told::Done(format!("{}: {changed} of {matched} changed", deed.action.as_str()))
                }
                Err(failure) => Told::Failed(failure),
            },
            Ask::Change { pipeline, change, query } => {
                let path = ["api", "v1", "pipelines", &pipeline, change];
                let answer = client.change::<Changed>(&path, &borrowed(&query));
                answer.map_or_else(Told::Failed, |answer| {
                    Told::Done(format!("{pipeline}: {}", answer.value.text))
                })
            }
        };
        if tell.send(told).is_err() {
            return;
        }
    }
}

fn borrowed<'a>(query: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    query.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

fn state(
    client: &Client,
    pipeline: Option<String>,
    query: &[(&'static str, String)],
) -> Result<Told, Failure> {
    let pipelines = client.pipelines()?.value.pipelines;
    let wanted = pipeline.filter(|name| pipelines.iter().any(|pipeline| pipeline.name == *name));
    let Some(name) = wanted.or_else(|| pipelines.first().map(|pipeline| pipeline.name.clone())) else {
        return Ok(Told::State { pipelines, chosen: None, items: ItemList::default() });
    };
    let chosen = client.read(&["api", "v1", "pipelines", &name], &[])?.value;
    let items = client.read(&["api", "v1", "pipelines", &name, "items"], &borrowed(query))?.value;
    Ok(Told::State { pipelines, chosen: Some(Box::new(chosen)), items })
}

fn item(client: &Client, id: &str, pipeline: &str) -> Result<Told, Failure> {
    let query = [("pipeline", pipeline)];
    let item = client.read(&["api", "v1", "items", id], &query)?.value;
    let log = client.read::<ItemLog>(&["api", "v1", "items", id, "log"], &query);
    Ok(Told::Item(Box::new(item), log.map(|log| log.value.lines).unwrap_or_default()))
}

fn perform(client: &Client, deed: &Deed, dry_run: bool) -> Result<Matched, Failure> {
    let Deed { action, pipeline, id, query } = deed;
    let dry = if dry_run { "true" } else { "" };
    let answer = match id {
        Some(id) => client.change(
            &["api", "v1", "items", id, action.as_str()],
            &[("pipeline", pipeline), ("dry_run", dry)],
        ),
        None => {
            let mut query = borrowed(query);
            query.push(("dry_run", dry));
            client.change(&["api", "v1", "pipelines", pipeline, "items", action.as_str()], &query)
        }
    };
    answer.map(|answer| answer.value)
}
