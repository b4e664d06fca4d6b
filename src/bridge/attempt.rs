//! Makes one attempt: encodes the event (once for each item), sends it, and reports its end.

use tokio::time::Instant;

use super::work::{Work, kept_bytes};
use super::{Ended, Shared};
use crate::delivery::{Input, ItemId, Outcome};
use crate::event::Redelivered;
use crate::sink::{Answer, Request};

/// The attempt to make.
pub(super) struct Attempt {
    pub item: ItemId,
    pub number: u32,
    pub redelivered: bool,
}

/// Sends the request and waits for its end, without a bound of its own.
pub(super) async fn run(shared: &Shared, work: &Work, attempt: Attempt) -> Ended {
    let began = Instant::now();
    let answer = send(shared, work, &attempt).await;
    let took = began.elapsed();
    let outcome = answer.outcome;
    let seconds = took.as_secs_f64();
    shared.metrics.attempt(outcome);
    shared.metrics.duration.observe(seconds);
    if outcome == Outcome::Done {
        tracing::info!(id = work.id(shared), attempt = attempt.number, seconds, "Item done");
    }
    let detail = (outcome != Outcome::Done).then(|| answer.detail.clone());
    let is_used =
        if outcome == Outcome::Done { shared.reply.is_some() } else { shared.dead_letter.is_some() };
    let answer_bytes = if is_used { kept_bytes(&answer) } else { 0 };
    if is_used {
        work.keep_answer(answer);
    }
    Ended { input: Input::Completed { item: attempt.item, outcome, took, answer_bytes }, detail }
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
            let (headers, body) = event.for_attempt(attempt.number, Redelivered(attempt.redelivered));
            shared.sink.send(Request { headers, body }).await
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
