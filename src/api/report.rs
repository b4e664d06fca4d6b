//! The address of an attempt: its worker posts reports there, and reads the checkpoint of the
//! attempt before.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{Api, Caller, Failure};
use crate::progress::{Post, Report};

/// `POST /api/v1/progress/TOKEN` of a worker.
pub(super) async fn take(
    State(api): State<Arc<Api>>,
    Path(token): Path<String>,
    caller: Caller,
    body: axum::body::Bytes,
) -> Response {
    let taking = || {
        let report = report_of(&api, &token)?;
        let help = "send a JSON object with percent, note, log, checkpoint and pod, all optional";
        let wrong = |error: String| Failure::bad_request(error, help);
        let post: Post = serde_json::from_slice(&body).map_err(|error| wrong(error.to_string()))?;
        report.take(post, api.reports.log_bytes()).map_err(|error| wrong(error.to_string()))
    };
    match taking() {
        Ok(()) => Caller::known(StatusCode::NO_CONTENT.into_response()),
        Err(failure) => caller.failure(&failure),
    }
}

/// `GET /api/v1/progress/TOKEN`: the checkpoint, as plain text.
pub(super) async fn checkpoint(
    State(api): State<Arc<Api>>,
    Path(token): Path<String>,
    caller: Caller,
) -> Response {
    match report_of(&api, &token) {
        Ok(report) => match report.checkpoint() {
            Some(text) => {
                let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
                Caller::known((kind, text).into_response())
            }
            None => Caller::known(StatusCode::NO_CONTENT.into_response()),
        },
        Err(failure) => caller.failure(&failure),
    }
}

/// The report of the running attempt with this token.
fn report_of(api: &Api, token: &str) -> Result<Arc<Report>, Failure> {
    api.reports.of(token).ok_or_else(|| Failure {
        status: StatusCode::NOT_FOUND,
        error: "no running attempt has this address; the attempt has ended".to_owned(),
        help: "stop the work: its answer is not awaited any more".to_owned(),
    })
}
