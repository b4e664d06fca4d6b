//! How many items wait in the queue, and how many consumers it has. Asked on a channel of its own: a failed question
//! closes the channel it was asked on.

use std::convert::Infallible;
use std::time::Duration;

use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::sync::mpsc;

use super::others::Others;
use crate::connect::rabbitmq::{Connection, Error, answer, table};
use crate::source::SourceEvent;

/// Between two questions. Another consumer that comes and goes in between is not seen.
const PERIOD: Duration = Duration::from_millis(250);
/// The backlog is told once in so many answers.
const TOLD_EVERY: u32 = 20;

/// What the broker tells about a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    pub ready: u32,
    pub consumers: u32,
}

/// # Errors
/// When the queue is gone, or the broker does not answer.
pub(super) async fn count(channel: &Channel, queue: &str) -> Result<Count, Error> {
    let name = table::short("queue name", queue)?;
    let passive = QueueDeclareOptions::default().passive();
    let question = channel.queue_declare(name, passive, FieldTable::default());
    let answer = answer("queue.declare", question).await?;
    Ok(Count { ready: answer.message_count(), consumers: answer.consumer_count() })
}

/// Tells the bridge now and every few seconds, for as long as the session lives. A failure here does not end the
/// session; the consuming channel notices by itself when the connection is gone.
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
        // The session's own consumer is one of them.
        others.counted(counted.consumers.saturating_sub(1), queue);
        if number % TOLD_EVERY == 0 {
            let _ = events.send(SourceEvent::Backlog(counted.ready.into()));
        }
        tokio::time::sleep(PERIOD).await;
    }
    Ok(())
}
