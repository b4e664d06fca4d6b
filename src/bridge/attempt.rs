//! Makes one attempt: sends the event and reports the result. The first attempt encodes the event,
//! and later attempts reuse it until a redelivery brings the message again.

use std::collections::BTreeMap;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio::time::{Instant, sleep_until};

use super::board::LastAnswer;
use super::work::{Work, kept_bytes};
use super::{Ended, Shared, Targets, spans};
use crate::delivery::{AttemptEnd, Input, ItemId, Outcome};
use crate::event::{self, Redelivered};
use crate::guard;
use crate::progress::Report;
use crate::sink::classify::CHECKPOINT_HEADER;
use crate::sink::{Answer, Request};

/// The headers of an answer that are shown to users.
const SHOWN_HEADERS: [&str; 7] = [
    "retry-after",
    "location",
    "www-authenticate",
    "content-type",
    "server",
    "longhaul-outcome",
    "longhaul-reason",
];

/// The number of characters that are shown of each header value.
const SHOWN_BYTES: usize = 256;

/// The attempt to make.
pub(super) struct Attempt {
    pub item: ItemId,
    pub number: u32,
    pub redelivered: bool,
    /// A number that no other request of this process has.
    pub request: u64,
}

/// Sends the request and waits for its end. `stalled_after` is the only time limit that is set
/// here.
pub(super) async fn run(shared: &Shared, work: &Work, attempt: Attempt) -> Ended {
    if let Some(guard) = &shared.guard {
        guard.settle().await;
    }
    let began = Instant::now();
    let mut answer = send(shared, work, &attempt).await;
    let took = began.elapsed();
    let outcome = answer.outcome;
    let seconds = took.as_secs_f64();
    if outcome == Outcome::Done {
        tracing::info!(id = work.id(shared), attempt = attempt.number, seconds, "Item done");
    }
    let last = shown(&answer);
    keep_checkpoint(work, &mut answer);
    let detail = (outcome != Outcome::Done).then(|| answer.detail.clone());
    let Targets { dead_letter, reply, .. } = &shared.targets;
    let is_used = if outcome == Outcome::Done { reply.is_some() } else { dead_letter.is_some() };
    let answer_bytes = if is_used { kept_bytes(&answer) } else { 0 };
    if is_used {
        work.keep_answer(answer);
    }
    let has_checkpoint = outcome != Outcome::Done && work.has_new_checkpoint();
    let end = AttemptEnd { outcome, took, answer_bytes, has_checkpoint };
    let input = Input::Completed { item: attempt.item, end };
    Ended { input, detail, last: Some(last), request: Some(attempt.request) }
}

async fn send(shared: &Shared, work: &Work, attempt: &Attempt) -> Answer {
    match work.event(shared) {
        Ok(event) => {
            tracing::info!(
                id = event.id(),
                attempt = attempt.number,
                attempts = shared.attempts,
                "Request started"
            );
            let report = work.begin_report(shared);
            let checkpoint = report.as_ref().and_then(|report| report.checkpoint());
            let ticket = report.as_ref().and_then(|report| shared.reports.open(report));
            let span = work.begin_span(shared, event, attempt, report.clone());
            let extensions = event::AttemptExtensions {
                number: attempt.number,
                redelivered: Redelivered(attempt.redelivered),
                progress_url: ticket.as_ref().map(|ticket| ticket.url.as_str()),
                checkpoint: checkpoint.as_deref(),
                trace: span.as_ref().map(|span| span.context()),
            };
            let (headers, body) = event.for_attempt(&extensions);
            let guarded = shared.guard.as_ref().map(|guard| guard.begin(report.clone()));
            let began = Instant::now();
            let sending = shared.sink.send(Request { headers, body });
            let answer = match (shared.stalled_after, &report) {
                (Some(limit), Some(report)) => tokio::select! {
                    answer = sending => answer,
                    () = silence(report, limit) => stalled(limit),
                },
                _ => sending.await,
            };
            let is_late = began.elapsed() >= shared.request_timeout;
            let answer = match guarded.filter(|_| !is_late) {
                Some(guarded) => explained(answer, &guarded),
                None => answer,
            };
            spans::end(span, &answer);
            answer
        }
        // The message cannot be encoded, so another attempt would not help.
        Err(error) => Answer {
            outcome: Outcome::Rejected,
            status: None,
            detail: format!("no CloudEvent can be made of the message: {error}"),
            response: None,
        },
    }
}

/// Counts a request as interrupted if a pod that was being stopped cut it. A timeout of Knative
/// (504) is not such a cut.
fn explained(answer: Answer, guarded: &guard::Ticket) -> Answer {
    let was_cut = answer.outcome == Outcome::Unknown && answer.status != Some(504);
    match was_cut.then(|| guarded.cut_by()).flatten() {
        Some(pod) => Answer {
            outcome: Outcome::Interrupted,
            detail: format!("the pod {pod} was being stopped: {}", answer.detail),
            ..answer
        },
        None => answer,
    }
}

/// Waits until a worker that has reported falls silent for `limit`. It waits without end for the
/// first report: until then nobody knows whether a worker has started, because a service may take
/// minutes to start one. `sink.timeout` ends such a request.
async fn silence(report: &Report, limit: Duration) {
    let mut end = report.heard().await + limit;
    while end > Instant::now() {
        sleep_until(end).await;
        end = report.heard().await + limit;
    }
}

fn stalled(limit: Duration) -> Answer {
    Answer {
        outcome: Outcome::Stalled,
        status: None,
        detail: format!(
            "the worker reported nothing for {limit:?} (stalled_after), and its request was closed"
        ),
        response: None,
    }
}

/// Moves the checkpoint in the header `Longhaul-Checkpoint` of an unsuccessful answer to the item's
/// report, for the next attempt.
fn keep_checkpoint(work: &Work, answer: &mut Answer) {
    if answer.outcome == Outcome::Done {
        return;
    }
    let headers = answer.response.as_mut().map(|response| &mut response.headers);
    let value = headers.and_then(|headers| headers.remove(CHECKPOINT_HEADER));
    let text = value.as_ref().and_then(|value| percent_decode_str(value.to_str().ok()?).decode_utf8().ok());
    if let Some(text) = text {
        work.report().keep_checkpoint(text.into_owned());
    }
}

/// The part of an answer that people see.
fn shown(answer: &Answer) -> LastAnswer {
    if answer.outcome == Outcome::Done {
        return LastAnswer::new(answer.status, answer.outcome, "", BTreeMap::new());
    }
    let headers = answer.response.as_ref().map(|response| &response.headers);
    let shown = SHOWN_HEADERS.iter().filter_map(|name| {
        let value = headers?.get(*name)?.to_str().ok()?;
        Some(((*name).to_owned(), value.chars().take(SHOWN_BYTES).collect()))
    });
    LastAnswer::new(answer.status, answer.outcome, &answer.detail, shown.collect())
}
