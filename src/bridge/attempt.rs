//! One attempt: encode the event (once for each item), send it, say how it ended.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::time::Instant;

use super::{Ended, Shared};
use crate::delivery::{Input, ItemId, Mark, Outcome};
use crate::event::{EncodedEvent, Message, Origin, Redelivered, Value, own};
use crate::sink::{Answer, Request};

/// An item as the shell keeps it, from its admission until the core forgets it.
pub(super) struct Work {
    pub message: Arc<Message>,
    /// Made at the first attempt and kept, so that every attempt has the same id (guarantee G5).
    event: OnceLock<EncodedEvent>,
    /// An id for an item that came with none: its event's, and its copies' in the broker.
    fresh_id: OnceLock<String>,
    mark: OnceLock<Mark>,
    /// How the latest attempt ended, where a dead letter or a reply may be made of it.
    answer: Mutex<Option<Answer>>,
}

impl Work {
    pub fn new(message: Arc<Message>) -> Self {
        Work {
            message,
            event: OnceLock::new(),
            fresh_id: OnceLock::new(),
            mark: OnceLock::new(),
            answer: Mutex::new(None),
        }
    }

    /// The event's id, or before the first attempt what the broker knows the item by.
    pub fn id(&self) -> String {
        if let Some(event) = self.event.get() {
            return event.id().to_owned();
        }
        match &self.message.origin {
            Origin::Kafka(origin) => format!("partition:{}/offset:{}", origin.partition, origin.offset),
            Origin::Rabbitmq(origin) => {
                origin.properties.message_id.clone().unwrap_or_else(|| self.fresh_id().to_owned())
            }
        }
    }

    /// What a copy of the item is known by: the name that it has already, else a new one.
    pub fn name(&self) -> &str {
        self.message.own_header(own::ID).and_then(Value::as_text).unwrap_or_else(|| self.fresh_id())
    }

    /// The mark of the item's copies.
    pub fn mark(&self) -> Mark {
        *self.mark.get_or_init(|| Mark(*uuid::Uuid::new_v4().as_bytes()))
    }

    fn fresh_id(&self) -> &str {
        self.fresh_id.get_or_init(|| uuid::Uuid::new_v4().to_string())
    }

    /// The event's attribute `source`; empty before the first attempt.
    pub fn source(&self) -> String {
        self.event.get().map(|event| event.source().to_owned()).unwrap_or_default()
    }

    pub fn answer(&self) -> Option<Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep_answer(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    /// The event, encoded now if it was not before.
    pub fn event(&self, shared: &Shared) -> Result<&EncodedEvent, String> {
        if let Some(event) = self.event.get() {
            return Ok(event);
        }
        let fresh_id = || self.fresh_id().to_owned();
        let event =
            shared.encoder.encode_with_id(&self.message, &fresh_id).map_err(|error| error.to_string())?;
        Ok(self.event.get_or_init(|| event))
    }
}

/// Which attempt to make.
pub(super) struct Attempt {
    pub item: ItemId,
    pub number: u32,
    pub redelivered: bool,
}

/// Sends the request and waits for its end, however long that takes.
pub(super) async fn run(shared: &Shared, work: &Work, attempt: Attempt) -> Ended {
    let began = Instant::now();
    let answer = send(shared, work, &attempt).await;
    let took = began.elapsed();
    let outcome = answer.outcome;
    let seconds = took.as_secs_f64();
    shared.metrics.attempt(outcome);
    shared.metrics.duration.observe(seconds);
    if outcome == Outcome::Done {
        tracing::info!(
            pipeline = shared.name,
            id = work.id(),
            attempt = attempt.number,
            seconds,
            "Item done"
        );
    }
    let detail = (outcome != Outcome::Done).then(|| answer.detail.clone());
    let of_use = if outcome == Outcome::Done { shared.reply.is_some() } else { shared.dead_letter.is_some() };
    if of_use {
        work.keep_answer(answer);
    }
    Ended { input: Input::Completed { item: attempt.item, outcome, took }, detail }
}

async fn send(shared: &Shared, work: &Work, attempt: &Attempt) -> Answer {
    match work.event(shared) {
        Ok(event) => {
            tracing::info!(
                pipeline = shared.name,
                id = event.id(),
                attempt = attempt.number,
                "Request started"
            );
            let (headers, body) = event.for_attempt(attempt.number, Redelivered(attempt.redelivered));
            shared.sink.send(Request { headers, body }).await
        }
        // No attempt will ever make an event of it.
        Err(error) => Answer {
            outcome: Outcome::Rejected,
            status: None,
            detail: format!("no CloudEvent can be made of the message: {error}"),
            response: None,
        },
    }
}
