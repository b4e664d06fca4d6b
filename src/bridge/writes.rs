//! Makes dead letters, replies and copies, writes them, and reports the result to the core.

use std::time::{Duration, SystemTime};

use super::work::Work;
use super::{Ended, Shared};
use crate::delivery::{Input, ItemId, Mark, Reason, Write, Written};
use crate::publish::copy::{Parked, copy};
use crate::publish::dead_letter::Letter;
use crate::publish::reply::AnsweredItem;
use crate::publish::{Outgoing, PublishError, PublishErrorKind};

/// Writes the message of `write` and waits for the confirm.
pub(super) async fn run(shared: &Shared, work: &Work, item: ItemId, write: Write) -> Ended {
    let result = match write {
        Write::DeadLetter { reason, attempts } => dead_letter(shared, work, reason, attempts).await,
        Write::Reply => reply(shared, work).await,
        Write::Park { mark, attempts, delay } => park(shared, work, mark, attempts, delay).await,
    };
    let (written, detail) = outcome_of(result);
    Ended::of(Input::Written { item, written }, detail)
}

/// Writes a copy of the item to its own queue and waits for the confirm.
pub(super) async fn copy_to_queue(
    shared: &Shared,
    work: &Work,
    item: ItemId,
    mark: Mark,
    attempts: u32,
) -> Ended {
    let result = match &shared.targets.copies {
        Some(copies) => copies.queue.publish(sealed_copy(shared, work, mark, attempts, Parked(false))).await,
        None => Err(PublishError::impossible("this broker takes no copies".to_owned())),
    };
    let (written, detail) = outcome_of(result);
    Ended::of(Input::CopyWritten { item, written }, detail)
}

fn outcome_of(result: Result<(), PublishError>) -> (Written, Option<String>) {
    match result {
        Ok(()) => (Written::Confirmed, None),
        Err(error) => {
            let written = match error.kind {
                PublishErrorKind::Transient => Written::Failed,
                PublishErrorKind::TooLarge => Written::TooLarge,
                PublishErrorKind::Impossible => Written::Impossible,
            };
            (written, Some(error.what))
        }
    }
}

/// The copy of an item, with the seal that proves that the bridge wrote it.
fn sealed_copy(shared: &Shared, work: &Work, mark: Mark, attempts: u32, parked: Parked) -> Outgoing {
    let seal = shared.seal.seal(mark, work.content, attempts);
    copy(&work.message, work.name(), mark, &seal, attempts, work.latest_checkpoint(), parked)
}

async fn park(
    shared: &Shared,
    work: &Work,
    mark: Mark,
    attempts: u32,
    delay: Duration,
) -> Result<(), PublishError> {
    let place = shared.targets.copies.as_ref().and_then(|copies| copies.parked_for(delay));
    let Some(place) = place else {
        return Err(PublishError::impossible("no retry.queue is configured".to_owned()));
    };
    place.publish(sealed_copy(shared, work, mark, attempts, Parked(true))).await?;
    shared.metrics.parked.inc();
    tracing::info!(
        id = work.id(shared),
        seconds = delay.as_secs_f64(),
        "Item parked in the broker until its next attempt"
    );
    Ok(())
}

async fn dead_letter(
    shared: &Shared,
    work: &Work,
    reason: Reason,
    attempts: u32,
) -> Result<(), PublishError> {
    let Some(target) = &shared.targets.dead_letter else {
        return Err(PublishError::impossible("no dead_letter is configured".to_owned()));
    };
    let answer = work.answer();
    let letter = Letter {
        message: work.message.clone(),
        event_id: work.id(shared),
        reason,
        code: answer.as_ref().and_then(|answer| answer.status),
        detail: answer.as_ref().map(|answer| answer.detail.clone()).unwrap_or_default(),
        data: answer.and_then(|answer| answer.response).map(|response| response.body).unwrap_or_default(),
        attempts,
        destination: shared.sink.destination().to_owned(),
        hops: shared.hops.of_dead_letter(&work.message)?,
        time: SystemTime::now(),
    };
    target.write(&letter, || work.event(shared).cloned()).await?;
    shared.metrics.dead_lettered(reason);
    tracing::warn!(id = work.id(shared), %reason, attempts, "Item dead-lettered");
    Ok(())
}

/// Publishes the worker's answer if it is a reply.
async fn reply(shared: &Shared, work: &Work) -> Result<(), PublishError> {
    let (Some(target), Some(answer)) = (&shared.targets.reply, work.answer()) else { return Ok(()) };
    let (Some(response), Some(status)) = (&answer.response, answer.status) else { return Ok(()) };
    let message = target.message(&AnsweredItem {
        item: &work.message,
        event_id: &work.id(shared),
        event_source: &work.source(),
        status,
        headers: &response.headers,
        body: &response.body,
        truncated: response.truncated,
        hops: &shared.hops,
        trace: work.context(shared),
    })?;
    let Some(message) = message else { return Ok(()) };
    target.publisher.publish(message).await?;
    shared.metrics.replies.inc();
    tracing::debug!(id = work.id(shared), "Reply written");
    Ok(())
}
