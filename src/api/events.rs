//! Server-sent events: every change of the items and pipelines.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, StreamExt, select_all};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Api, Caller, Failure, ask, unless_ended};
use crate::bridge::Control;
use crate::view::Change;

/// The time between two comments that keep an idle connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

pub(super) async fn stream(State(api): State<Arc<Api>>, caller: Caller) -> Response {
    let opening = async {
        api.may_read(&caller)?;
        let permit = api.readers.clone().try_acquire_owned().map_err(|_| Failure {
            status: StatusCode::SERVICE_UNAVAILABLE,
            error: "too many connections read events".to_owned(),
            help: "close one, or read /api/v1/pipelines from time to time".to_owned(),
        })?;
        let mut all = Vec::new();
        for (_, pipeline) in &api.pipelines {
            let changes = unless_ended(ask(pipeline, |answer| Control::Watch { answer }).await)?;
            all.extend(changes.map(|changes| changes_of(changes).boxed()));
        }
        Ok((select_all(all), permit))
    };
    match opening.await {
        Ok((changes, permit)) => {
            let events = changes.map(move |event| {
                // The reader counts for as long as its stream lives.
                let _ = &permit;
                Ok::<_, Infallible>(event)
            });
            let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
            let stream = Sse::new(events).keep_alive(keep_alive).into_response();
            if api.knows(&caller) { Caller::known(stream) } else { stream }
        }
        Err(failure) => caller.failure(&failure),
    }
}

/// The changes of one pipeline. A reader that is too slow is told that it missed some, and reads
/// the lists again.
fn changes_of(changes: broadcast::Receiver<Change>) -> impl Stream<Item = Event> + Send {
    futures_util::stream::unfold(changes, async |mut changes| {
        let event = match changes.recv().await {
            Ok(change) => event(&change),
            Err(RecvError::Lagged(missed)) => Event::default().event("missed").data(missed.to_string()),
            Err(RecvError::Closed) => return None,
        };
        Some((event, changes))
    })
}

fn event(change: &Change) -> Event {
    let name = match change {
        Change::Item(_) => "item",
        Change::Gone { .. } => "gone",
        Change::Pipeline(_) => "pipeline",
    };
    let event = Event::default().event(name);
    let data = serde_json::to_string(change).unwrap_or_default();
    event.data(data)
}
