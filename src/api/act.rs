//! Actions of people on items and pipelines.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use tokio::sync::mpsc;

use super::checked::Checked;
use super::read::{Selection, unknown};
use super::replicas::Heard;
use super::{Api, Caller, Failure, ask, ask_within, unless_ended};
use crate::bridge::{Control, Person};
use crate::peers::Method;
use crate::view::{Action, Changed, Filter, Matched, PartitionChange, Then};

/// The longest time of an action on many items. The pipeline does its other work in between.
const MOST: Duration = Duration::from_secs(60);

/// The items that an action is about.
enum Scope {
    /// The item or items of this id.
    Item(String),
    /// The items of this pipeline that the query selects.
    Pipeline(String),
}

pub(super) async fn on_item(
    State(api): State<Arc<Api>>,
    Checked(Path((id, action))): Checked<Path<(String, String)>>,
    Checked(Query(selection)): Checked<Query<Selection>>,
    caller: Caller,
) -> Response {
    let acted = act(&api, &caller, &action, &Scope::Item(id), &selection).await;
    answer(&caller, &action, acted)
}

pub(super) async fn on_items(
    State(api): State<Arc<Api>>,
    Checked(Path((name, action))): Checked<Path<(String, String)>>,
    Checked(Query(selection)): Checked<Query<Selection>>,
    caller: Caller,
) -> Response {
    let acted = act(&api, &caller, &action, &Scope::Pipeline(name), &selection).await;
    answer(&caller, &action, acted)
}

pub(super) async fn on_pipeline(
    State(api): State<Arc<Api>>,
    Checked(Path((name, action))): Checked<Path<(String, String)>>,
    Checked(Query(selection)): Checked<Query<Selection>>,
    caller: Caller,
) -> Response {
    let acting = async {
        api.may_change(&caller)?;
        let pipeline = api.pipeline(&name)?;
        let by = caller.person();
        let changed = match action.as_str() {
            "pause" => ask(pipeline, |answer| Control::Pause { by, answer }).await?,
            "resume" => {
                let help = "write resume?from=earliest, from=latest or from=2026-01-31T12:00:00Z";
                let from = selection.from.as_deref().map(str::parse).transpose();
                let from = from.map_err(|error: String| Failure::bad_request(error, help))?;
                ask(pipeline, |answer| Control::Resume { from, by, answer }).await?
            }
            "drain" => ask(pipeline, |answer| Control::Drain { by, answer }).await?,
            "limit" => {
                let most = selection.max_in_flight.ok_or_else(|| {
                    Failure::bad_request("the new limit is missing", "write limit?max_in_flight=5")
                })?;
                ask(pipeline, |answer| Control::Limit { most, by, answer }).await?
            }
            _ => {
                return Err(Failure {
                    status: StatusCode::NOT_FOUND,
                    error: format!("{action:?} is not an action on a pipeline"),
                    help: "the actions are pause, resume, drain and limit".to_owned(),
                });
            }
        };
        Ok(changed)
    };
    changed(&caller, acting.await)
}

pub(super) async fn on_partition(
    State(api): State<Arc<Api>>,
    Checked(Path((name, topic, partition, action))): Checked<Path<(String, String, i32, String)>>,
    Checked(Query(selection)): Checked<Query<Selection>>,
    caller: Caller,
) -> Response {
    let acting = async {
        api.may_change(&caller)?;
        let change = change_of(&action, &selection)?;
        let by = caller.person();
        let asked = topic.clone();
        let request = |answer| Control::Partition { topic: asked, partition, change, by, answer };
        let mut changed: Changed = ask(api.pipeline(&name)?, request).await?;
        if !changed.changed && !caller.is_replica {
            // Another replica may read the partition.
            let number = partition.to_string();
            let path = ["api", "v1", "pipelines", &name, "partitions", &topic, &number, &action];
            let query = [
                ("offset", selection.offset.map(|offset| offset.to_string()).unwrap_or_default()),
                ("then", selection.then.clone().unwrap_or_default()),
                ("dry_run", selection.dry_run.map(|dry_run| dry_run.to_string()).unwrap_or_default()),
            ];
            let heard: Heard<Changed> = api.ask_others(Method::Post, &path, &query).await;
            let elsewhere = heard.answers.into_iter().map(|(_, answer)| answer).find(|answer| answer.changed);
            changed = elsewhere.unwrap_or(changed);
        }
        Ok(changed)
    };
    changed(&caller, acting.await)
}

fn change_of(action: &str, selection: &Selection) -> Result<PartitionChange, Failure> {
    match action {
        "pause" | "resume" => {
            selection.has_only(&[])?;
            let is_pause = action == "pause";
            Ok(if is_pause { PartitionChange::Pause } else { PartitionChange::Resume })
        }
        "skip" => {
            selection.has_only(&["offset"])?;
            let offset = selection.offset.filter(|offset| *offset >= 0).ok_or_else(|| {
                let help = "write skip?offset=17, and then=drop to lose the record without a dead letter";
                Failure::bad_request("the offset is missing, or is negative", help)
            })?;
            let then = match selection.then.as_deref() {
                None | Some("dead-letter") => Then::DeadLetter,
                Some("drop") => Then::Drop,
                Some(other) => {
                    let error = format!("then={other:?} is not a step after a skip");
                    return Err(Failure::bad_request(error, "write then=dead-letter or then=drop"));
                }
            };
            let dry_run = selection.dry_run.unwrap_or(false);
            Ok(PartitionChange::Skip { offset, then, dry_run })
        }
        _ => Err(Failure {
            status: StatusCode::NOT_FOUND,
            error: format!("{action:?} is not an action on a partition"),
            help: "the actions are pause, resume and skip".to_owned(),
        }),
    }
}

fn changed(caller: &Caller, acted: Result<Changed, Failure>) -> Response {
    match acted {
        Ok(changed) => {
            let text = || format!("pipeline {}: {}", changed.pipeline, changed.text);
            Caller::known(caller.answer(&changed, text))
        }
        Err(failure) => caller.failure(&failure),
    }
}

async fn act(
    api: &Api,
    caller: &Caller,
    action: &str,
    scope: &Scope,
    selection: &Selection,
) -> Result<Matched, Failure> {
    api.may_change(caller)?;
    let (action, then) = action_of(action, selection)?;
    let (filter, pipelines) = match scope {
        Scope::Item(id) => {
            selection.has_only(&["pipeline"])?;
            let pipelines = api.of_request(selection.pipeline.as_deref())?;
            (Filter::of_id(id), pipelines)
        }
        Scope::Pipeline(name) => {
            selection.has_only(&["state", "reason", "older", "key"])?;
            (selection.filter()?, vec![api.pipeline(name)?])
        }
    };
    let dry_run = selection.dry_run.unwrap_or(false);
    let mut all = Matched { dry_run, ..Matched::default() };
    for &pipeline in &pipelines {
        let (filter, by) = (filter.clone(), caller.person());
        let request = |answer| Control::Act { filter, action, then, dry_run, by, answer };
        let Some(matched) = unless_ended(ask_within(MOST, pipeline, request).await)? else { continue };
        all.add(matched);
    }
    if let (Scope::Item(id), 0) = (scope, all.matched) {
        // No action fits an item that has ended.
        all.matched = remembered(&pipelines, id).await?;
        if all.matched == 0 {
            all = elsewhere(api, caller, id, action, selection, dry_run).await?;
        }
    }
    Ok(all)
}

/// The number of items of this id that have ended and are remembered.
async fn remembered(pipelines: &[&mpsc::Sender<Control>], id: &str) -> Result<usize, Failure> {
    let mut number = 0;
    for pipeline in pipelines {
        let filter = Filter::of_id(id);
        let list = ask(pipeline, |answer| Control::List { filter, most: 1, after: None, answer }).await;
        number += unless_ended(list)?.map_or(0, |list| list.total);
    }
    Ok(number)
}

/// Acts on an item that other replicas have.
async fn elsewhere(
    api: &Api,
    caller: &Caller,
    id: &str,
    action: Action,
    selection: &Selection,
    dry_run: bool,
) -> Result<Matched, Failure> {
    if caller.is_replica {
        return Err(unknown(id, &[]));
    }
    let query = [
        ("pipeline", selection.pipeline.clone().unwrap_or_default()),
        ("then", selection.then.clone().unwrap_or_default()),
        ("dry_run", dry_run.to_string()),
    ];
    let path = ["api", "v1", "items", id, action.as_str()];
    let heard: Heard<Matched> = api.ask_others(Method::Post, &path, &query).await;
    let mut all = Matched { dry_run, ..Matched::default() };
    for (_, matched) in heard.answers {
        all.add(matched);
    }
    if all.matched == 0 { Err(unknown(id, &heard.replicas)) } else { Ok(all) }
}

fn action_of(text: &str, selection: &Selection) -> Result<(Action, Then), Failure> {
    let action: Action = text.parse().map_err(|error: String| Failure {
        status: StatusCode::NOT_FOUND,
        error,
        help: "see docs/api.md".to_owned(),
    })?;
    let then = selection.then.as_deref().map(str::parse::<Then>).transpose();
    let help = "write then=requeue, then=dead-letter or then=drop";
    let then = then.map_err(|error| Failure::bad_request(error, help))?;
    Ok((action, then.unwrap_or_default()))
}

fn answer(caller: &Caller, action: &str, acted: Result<Matched, Failure>) -> Response {
    match acted {
        Ok(matched) => {
            let text = || {
                let would = if matched.dry_run { "would change" } else { "changed" };
                format!("{action}: {would} {} of {} items", matched.changed, matched.matched)
            };
            Caller::known(caller.answer(&matched, text))
        }
        Err(failure) => caller.failure(&failure),
    }
}

impl Caller {
    fn person(&self) -> Person {
        let has_token = self.headers.contains_key(axum::http::header::AUTHORIZATION);
        let right = match self.is_replica {
            true => "another replica",
            false if has_token => "admin.token",
            false => "loopback",
        };
        Person { right, from: self.from }
    }
}
