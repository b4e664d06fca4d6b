//! Asks for the number of items in the queue and the number of its consumers. A failed question
//! closes its channel, so the questions have a channel of their own.

use std::convert::Infallible;
use std::time::Duration;

use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::sync::mpsc;

use super::others::Others;
use crate::connect::rabbitmq::{Connection, Error, answer, table};
use crate::source::SourceEvent;

/// The time between two questions. A consumer that comes and goes between two questions is not
/// seen.
const PERIOD: Duration = Duration::from_millis(250);
/// The source reports the backlog once in this number of answers.
const TOLD_EVERY: u32 = 20;

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
    events: &mpsc::UnboundedSender<SourceEvent>,
) -> Infallible {
    loop {
        if let Err(error) = report(connection, queue, others, events).await {
            tracing::debug!(%error, queue, "The backlog is unknown for now");
        }
        tokio::time::sleep(PERIOD * TOLD_EVERY).await;
    }
}

async fn report(
    connection: &Connection,
    queue: &str,
    others: &Others,
    events: &mpsc::UnboundedSender<SourceEvent>,
) -> Result<(), Error> {
    let channel = connection.channel().await?;
    for number in 0u32.. {
        let counted = count(&channel, queue).await?;
        // The session's own consumer is one of the consumers.
        others.counted(counted.consumers.saturating_sub(1), queue);
        if number % TOLD_EVERY == 0 {
            let _ = events.send(SourceEvent::Backlog(counted.ready.into()));
        }
        tokio::time::sleep(PERIOD).await;
    }
    Ok(())
}
