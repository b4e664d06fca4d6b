//! Reads: pipelines and items.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::checked::Checked;
use super::replicas::{self, Heard};
use super::{Api, Caller, Failure, ask, unless_ended};
use crate::bridge::Control;
use crate::peers::Method;
use crate::view::{Filter, Item, ItemList, Pipeline, PipelineList, Replica};

/// Items on one page, and the most that a caller may ask for.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1000;

/// The query parameters of a list of items, and of an action on several items.
/// A parameter that is not known is refused: a misspelt filter would select everything.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    pub state: Option<String>,
    pub reason: Option<String>,
    pub older: Option<String>,
    pub key: Option<String>,
    pub limit: Option<usize>,
    pub after: Option<String>,
    pub then: Option<String>,
    pub dry_run: Option<bool>,
    pub pipeline: Option<String>,
    pub max_in_flight: Option<u32>,
    pub offset: Option<i64>,
    pub from: Option<String>,
    pub replicas: Option<String>,
}

impl Selection {
    /// # Errors
    /// Returns an error if one of these parameters of an action is given although the action does
    /// not use it, or if a part of the filter is empty. Either would select more than was meant.
    pub fn has_only(&self, used: &[&str]) -> Result<(), Failure> {
        let texts = [
            ("state", &self.state),
            ("reason", &self.reason),
            ("older", &self.older),
            ("key", &self.key),
            ("after", &self.after),
            ("pipeline", &self.pipeline),
            ("from", &self.from),
            ("replicas", &self.replicas),
        ];
        let numbers = [
            ("limit", self.limit.is_some()),
            ("max_in_flight", self.max_in_flight.is_some()),
            ("offset", self.offset.is_some()),
        ];
        let given = texts.iter().map(|(name, text)| (*name, text.is_some())).chain(numbers);
        let unused = given.filter(|(name, is_given)| *is_given && !used.contains(name)).map(|(name, _)| name);
        let empty = texts.iter().filter(|(_, text)| text.as_deref() == Some("")).map(|(name, _)| *name);
        match unused.chain(empty).next() {
            None => Ok(()),
            Some(name) => Err(Failure::bad_request(
                format!("the parameter {name} is empty or has no meaning for this action"),
                "leave it out; see docs/api.md for the parameters of each call",
            )),
        }
    }

    /// Whether all replicas are meant, and not this one only.
    fn is_of_all(&self, api: &Api, caller: &Caller) -> Result<bool, Failure> {
        match self.replicas.as_deref() {
            None | Some("one") => Ok(false),
            Some("all") => Ok(api.peers.is_some() && !caller.is_replica),
            Some(other) => Err(Failure::bad_request(
                format!("replicas={other:?} is not known"),
                "write replicas=all for all replicas, or replicas=one for the one that is asked",
            )),
        }
    }

    pub fn filter(&self) -> Result<Filter, Failure> {
        let text = |text: &'_ Option<String>| text.clone();
        let (state, reason) = (text(&self.state), text(&self.reason));
        Filter::parse(state.as_deref(), reason.as_deref(), self.older.as_deref(), self.key.as_deref())
            .map_err(|error| {
                let help = "the filter is state, reason, older and key, such as ?state=held&older=10m";
                Failure::bad_request(error.to_string(), help)
            })
    }
}

pub(super) async fn pipelines(
    State(api): State<Arc<Api>>,
    Checked(Query(selection)): Checked<Query<Selection>>,
    caller: Caller,
) -> Response {
    let listing = async {
        api.may_read(&caller)?;
        selection.has_only(&["replicas"])?;
        let is_of_all = selection.is_of_all(&api, &caller)?;
        let mut pipelines = Vec::new();
        for (_, pipeline) in &api.pipelines {
            let overview = |answer| Control::Overview { with_history: false, answer };
            pipelines.extend(unless_ended(ask(pipeline, overview).await)?);
        }
        for pipeline in &mut pipelines {
            pipeline.replica.clone_from(&api.replica);
        }
        let own = PipelineList { pipelines, replicas: Vec::new() };
        Ok(if is_of_all { api.add_pipelines(own).await } else { own })
    };
    caller.json(listing.await)
}

pub(super) async fn pipeline(
    State(api): State<Arc<Api>>,
    Checked(Path(name)): Checked<Path<String>>,
    caller: Caller,
) -> Response {
    let reading = async {
        api.may_read(&caller)?;
        let overview = |answer| Control::Overview { with_history: true, answer };
        let pipeline = ask(api.pipeline(&name)?, overview).await?;
        Ok(Pipeline { replica: api.replica.clone(), ..pipeline })
    };
    caller.json(reading.await)
}

pub(super) async fn items(
    State(api): State<Arc<Api>>,
    Checked(Path(name)): Checked<Path<String>>,
    Checked(Query(selection)): Checked<Query<Selection>>,
    caller: Caller,
) -> Response {
    let listing = async {
        api.may_read(&caller)?;
        let filter = selection.filter()?;
        let is_of_all = selection.is_of_all(&api, &caller)?;
        let page = if is_of_all { replicas::PAGE_MAX } else { PAGE_MAX };
        let most = selection.limit.unwrap_or(PAGE).clamp(1, page);
        let pipeline = api.pipeline(&name)?;
        let (after, most) = match api.own_cursor(selection.after.as_deref()) {
            Some(after) => (after, most),
            // Only the number of items is wanted.
            None => (None, 0),
        };
        let mut list = ask(pipeline, |answer| Control::List { filter, most, after, answer }).await?;
        if most == 0 {
            list.next = None;
        }
        for item in &mut list.items {
            item.replica.clone_from(&api.replica);
        }
        if is_of_all { api.add_items(&name, &selection, list).await } else { Ok(list) }
    };
    caller.json(listing.await)
}

pub(super) async fn item(
    State(api): State<Arc<Api>>,
    Checked(Path(id)): Checked<Path<String>>,
    Checked(Query(selection)): Checked<Query<Selection>>,
    caller: Caller,
) -> Response {
    caller.json(find(&api, &id, &selection, &caller).await)
}

async fn find(api: &Api, id: &str, selection: &Selection, caller: &Caller) -> Result<Item, Failure> {
    api.may_read(caller)?;
    for pipeline in api.of_request(selection.pipeline.as_deref())? {
        let filter = Filter::of_id(id);
        let list = ask(pipeline, |answer| Control::List { filter, most: 1, after: None, answer }).await;
        let list: ItemList = unless_ended(list)?.unwrap_or_default();
        if let Some(item) = list.items.into_iter().next() {
            return Ok(Item { replica: api.replica.clone(), ..item });
        }
    }
    elsewhere(api, &["api", "v1", "items", id], id, selection, caller).await
}

pub(super) async fn log(
    State(api): State<Arc<Api>>,
    Checked(Path(id)): Checked<Path<String>>,
    Checked(Query(selection)): Checked<Query<Selection>>,
    caller: Caller,
) -> Response {
    let reading = async {
        api.may_read(&caller)?;
        for pipeline in api.of_request(selection.pipeline.as_deref())? {
            let filter = Filter::of_id(&id);
            let log = unless_ended(ask(pipeline, |answer| Control::Log { filter, answer }).await)?;
            if let Some(log) = log.flatten() {
                return Ok(log);
            }
        }
        elsewhere(&api, &["api", "v1", "items", &id, "log"], &id, &selection, &caller).await
    };
    match reading.await {
        Ok(log) => caller.answer(&log, || log.lines.join("\n")),
        Err(failure) => caller.failure(&failure),
    }
}

/// The answer of the first other replica that knows the item.
async fn elsewhere<T: DeserializeOwned>(
    api: &Api,
    path: &[&str],
    id: &str,
    selection: &Selection,
    caller: &Caller,
) -> Result<T, Failure> {
    let mut replicas = Vec::new();
    if !caller.is_replica && selection.replicas.as_deref() != Some("one") {
        let query = [("pipeline", selection.pipeline.clone().unwrap_or_default())];
        let heard: Heard<T> = api.ask_others(Method::Get, path, &query).await;
        if let Some((_, found)) = heard.answers.into_iter().next() {
            return Ok(found);
        }
        replicas = heard.replicas;
    }
    Err(unknown(id, &replicas))
}

/// No item of this id is in hand, and none is remembered.
pub(super) fn unknown(id: &str, others: &[Replica]) -> Failure {
    let silent: Vec<&str> = others.iter().filter_map(|other| other.error.as_deref()).collect();
    let help = match silent.as_slice() {
        [] => "list the items with /api/v1/pipelines/NAME/items?replicas=all".to_owned(),
        silent => format!("these replicas gave no answer, and may have it: {}", silent.join("; ")),
    };
    Failure {
        status: StatusCode::NOT_FOUND,
        error: format!("no item {id:?} is in hand here, and none of the latest finished items has this id"),
        help,
    }
}
