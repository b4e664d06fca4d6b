//! Asks for the number of items in the queue and the number of its consumers. A failed question
//! closes its channel, so the questions have a channel of their own.
//!
//! The questions also show a broker that keeps its connections open and does nothing. Heartbeats
//! would show it after 20 s, and a longer stop of the broker costs nothing but time. So such a
//! session is reported and kept.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::time::timeout;

use super::others::Others;
use super::problems::Problems;
use crate::connect::rabbitmq::{Connection, Error, answer, table};
use crate::source::SourceEvent;

/// The time between two questions. A consumer that comes and goes between two questions is not
/// seen.
const PERIOD: Duration = Duration::from_millis(250);
/// The source reports the backlog once in this number of answers.
const TOLD_EVERY: u32 = 20;
/// The time without an answer after which the broker counts as silent. A problem must be visible
/// within 10 s.
const SILENCE: Duration = Duration::from_secs(6);

/// The broker's numbers for a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    pub ready: u32,
    pub consumers: u32,
}

/// # Errors
/// Returns an error if the queue is gone, or if the broker does not answer.
pub(super) async fn count(channel: &Channel, queue: &str) -> Result<Count, Error> {
    let name = table::short("queue name", queue)?;
    let passive = QueueDeclareOptions::default().passive();
    let question = channel.queue_declare(name, passive, FieldTable::default());
    let answer = answer("queue.declare", question).await?;
    Ok(Count { ready: answer.message_count(), consumers: answer.consumer_count() })
}

/// Reports the backlog to the bridge now and every few seconds, until the session ends. A failure
/// here does not end the session: the consuming channel notices a lost connection by itself.
pub(super) async fn watch(
    connection: &Connection,
    queue: &str,
    others: &Others,
    problems: &mut Problems,
) -> Infallible {
    loop {
        if let Err(error) = report(connection, queue, others, problems).await {
            tracing::debug!(%error, queue, "The backlog is unknown for now");
        }
        tokio::time::sleep(PERIOD * TOLD_EVERY).await;
    }
}

async fn report(
    connection: &Connection,
    queue: &str,
    others: &Others,
    problems: &mut Problems,
) -> Result<(), Error> {
    let channel = heard(connection.channel(), problems).await?;
    for number in 0u32.. {
        let question = others.question();
        let counted = heard(count(&channel, queue), problems).await?;
        others.counted(question, counted.consumers, queue);
        if number % TOLD_EVERY == 0 {
            problems.send(SourceEvent::Backlog(counted.ready.into()));
        }
        tokio::time::sleep(PERIOD).await;
    }
    Ok(())
}

/// Waits for an answer of the broker. Reports the broker's silence, and its end.
async fn heard<T>(
    asking: impl Future<Output = Result<T, Error>>,
    problems: &mut Problems,
) -> Result<T, Error> {
    let mut asking = pin!(asking);
    let answer = match timeout(SILENCE, &mut asking).await {
        Ok(answer) => answer,
        Err(_) => {
            problems.raise(&Error::Silent("a question about the queue", SILENCE));
            asking.await
        }
    };
    // A refusal is an answer too.
    if answer.as_ref().map_or_else(|error| error.code().is_some(), |_| true) {
        problems.answered();
    }
    answer
}
