//! Dead letters and replies: what is written, and what the core hears of it.

use std::time::SystemTime;

use super::attempt::Work;
use super::{Ended, ReplyTo, Shared};
use crate::delivery::{Input, ItemId, Reason, Write, Written};
use crate::event::{Properties, Value, decode_response};
use crate::publish::dead_letter::Letter;
use crate::publish::{Outgoing, PublishError};
use crate::sink::Response;

/// Writes what `write` asks for and waits until it is confirmed.
pub(super) async fn run(shared: &Shared, work: &Work, item: ItemId, write: Write) -> Ended {
    let result = match write {
        Write::DeadLetter { reason, attempts } => dead_letter(shared, work, reason, attempts).await,
        Write::Reply => reply(shared, work).await,
    };
    let (written, detail) = match result {
        Ok(()) => (Written::Confirmed, None),
        Err(error) if error.transient => (Written::Failed, Some(error.what)),
        Err(error) => (Written::Impossible, Some(error.what)),
    };
    Ended { input: Input::Written { item, written }, detail }
}

async fn dead_letter(
    shared: &Shared,
    work: &Work,
    reason: Reason,
    attempts: u32,
) -> Result<(), PublishError> {
    let Some(target) = &shared.dead_letter else {
        return Err(PublishError { what: "no dead_letter is configured".to_owned(), transient: false });
    };
    let answer = work.answer();
    let letter = Letter {
        message: work.message.clone(),
        event_id: work.id(),
        reason,
        code: answer.as_ref().and_then(|answer| answer.status),
        detail: answer.as_ref().map(|answer| answer.detail.clone()).unwrap_or_default(),
        data: answer.and_then(|answer| answer.response).map(|response| response.body).unwrap_or_default(),
        attempts,
        destination: shared.sink.destination().to_owned(),
        time: SystemTime::now(),
    };
    target.write(&letter, || work.event(shared).cloned()).await?;
    shared.metrics.dead_lettered(reason);
    tracing::warn!(pipeline = shared.name, id = work.id(), %reason, attempts, "Item dead-lettered");
    Ok(())
}

/// Publishes the worker's answer where it is a CloudEvent, or any answer with a body if `wrap` is on.
async fn reply(shared: &Shared, work: &Work) -> Result<(), PublishError> {
    let Some(target) = &shared.reply else { return Ok(()) };
    let response = work.answer().and_then(|answer| answer.response);
    let Some(outgoing) = response.and_then(|response| answer_to_write(target, work, response)) else {
        return Ok(());
    };
    target.publisher.publish(outgoing).await?;
    shared.metrics.replies.inc();
    tracing::debug!(pipeline = shared.name, id = work.id(), "Reply written");
    Ok(())
}

fn answer_to_write(target: &ReplyTo, work: &Work, response: Response) -> Option<Outgoing> {
    let content_type = response.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut headers: Vec<(String, Value)> = Vec::new();
    match decode_response(&response.headers, &response.body) {
        Ok(Some(_)) => {
            let attributes = response.headers.iter().filter_map(|(name, value)| {
                let attribute = name.as_str().strip_prefix("ce-")?;
                Some((
                    attribute,
                    percent_encoding::percent_decode(value.as_bytes()).decode_utf8_lossy().into_owned(),
                ))
            });
            headers.extend(
                attributes.map(|(name, value)| (format!("{}{name}", target.prefix), Value::Text(value))),
            );
        }
        _ if target.wrap && !response.body.is_empty() => {
            let attributes = [
                ("specversion", "1.0"),
                ("id", &work.id()),
                ("source", &work.source()),
                ("type", "dev.longhaul.reply"),
            ];
            headers
                .extend(attributes.map(|(name, value)| {
                    (format!("{}{name}", target.prefix), Value::Text(value.to_owned()))
                }));
        }
        _ => return None,
    }
    headers.push(("longhaul-id".to_owned(), Value::Text(work.id())));
    let properties = Properties {
        content_type: content_type.map(str::to_owned),
        message_id: Some(work.id()),
        ..Properties::default()
    };
    Some(Outgoing { body: response.body, headers, key: work.key(), properties })
}
