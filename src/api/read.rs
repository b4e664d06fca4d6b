//! Reads: pipelines and items.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::{Api, Caller, Failure, ask, unless_ended};
use crate::bridge::Control;
use crate::view::{Filter, Item, ItemList, PipelineList};

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
            Some(name) => Err(Failure {
                status: StatusCode::BAD_REQUEST,
                error: format!("the parameter {name} is empty or has no meaning for this action"),
                help: "leave it out; see docs/api.md for the parameters of each call".to_owned(),
            }),
        }
    }

    pub fn filter(&self) -> Result<Filter, Failure> {
        let text = |text: &'_ Option<String>| text.clone();
        let (state, reason) = (text(&self.state), text(&self.reason));
        Filter::parse(state.as_deref(), reason.as_deref(), self.older.as_deref(), self.key.as_deref())
            .map_err(|error| Failure {
                status: StatusCode::BAD_REQUEST,
                error: error.to_string(),
                help: "the filter is state, reason, older and key, such as ?state=held&older=10m".to_owned(),
            })
    }
}

pub(super) async fn pipelines(State(api): State<Arc<Api>>, caller: Caller) -> Response {
    let listing = async {
        api.may_read(&caller)?;
        let mut pipelines = Vec::new();
        for (_, pipeline) in &api.pipelines {
            let overview = |answer| Control::Overview { with_history: false, answer };
            pipelines.extend(unless_ended(ask(pipeline, overview).await)?);
        }
        Ok(PipelineList { pipelines })
    };
    caller.json(listing.await)
}

pub(super) async fn pipeline(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    caller: Caller,
) -> Response {
    let reading = async {
        api.may_read(&caller)?;
        let overview = |answer| Control::Overview { with_history: true, answer };
        ask(api.pipeline(&name)?, overview).await
    };
    caller.json(reading.await)
}

pub(super) async fn items(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Query(selection): Query<Selection>,
    caller: Caller,
) -> Response {
    let listing = async {
        api.may_read(&caller)?;
        let filter = selection.filter()?;
        let most = selection.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
        let after = selection.after.clone();
        ask(api.pipeline(&name)?, |answer| Control::List { filter, most, after, answer }).await
    };
    caller.json(listing.await)
}

pub(super) async fn item(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Query(selection): Query<Selection>,
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
            return Ok(item);
        }
    }
    Err(unknown(id))
}

pub(super) async fn log(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Query(selection): Query<Selection>,
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
        Err(unknown(&id))
    };
    match reading.await {
        Ok(log) => caller.answer(&log, || log.lines.join("\n")),
        Err(failure) => caller.failure(&failure),
    }
}

/// No item of this id is in hand, and none is remembered.
pub(super) fn unknown(id: &str) -> Failure {
    Failure {
        status: StatusCode::NOT_FOUND,
        error: format!("no item {id:?} is in hand here, and none of the latest finished items has this id"),
        help: "list the items with /api/v1/pipelines/NAME/items; another replica may have this one"
            .to_owned(),
    }
}
