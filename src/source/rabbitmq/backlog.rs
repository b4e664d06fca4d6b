//! How many items wait in the queue, asked on a channel of its own: a failed question closes the channel it was asked on.

use std::convert::Infallible;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::sync::mpsc;

use crate::connect::rabbitmq::{Connection, Error, answer, table};
use crate::source::SourceEvent;

/// Between two questions.
const PERIOD: Duration = Duration::from_secs(5);

/// Tells the bridge now and every few seconds, for as long as the session lives. What goes wrong here is no reason
/// to end it; the consuming channel notices by itself when the connection is gone.
pub(super) async fn watch(
    connection: &Connection,
    queue: &str,
    events: &mpsc::UnboundedSender<SourceEvent>,
) -> Infallible {
    loop {
        if let Err(error) = report(connection, queue, events).await {
            tracing::debug!(%error, queue, "the backlog is unknown for now");
        }
        tokio::time::sleep(PERIOD).await;
    }
}

async fn report(
    connection: &Connection,
    queue: &str,
    events: &mpsc::UnboundedSender<SourceEvent>,
) -> Result<(), Error> {
    let channel = connection.channel().await?;
    loop {
        let name = table::short("queue name", queue)?;
        let passive = QueueDeclareOptions::default().passive();
        let question = channel.queue_declare(name, passive, FieldTable::default());
        let ready = answer("queue.declare", question).await?.message_count();
        let _ = events.send(SourceEvent::Backlog(ready.into()));
        tokio::time::sleep(PERIOD).await;
    }
}
