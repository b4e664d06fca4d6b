//! Ends the thread: leaves the group without waiting for a broker that does not answer.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::context::Consumer;
use super::thread::Worker;
use crate::source::Link;

/// How long leaving the group and ending librdkafka's threads may take.
const PATIENCE: Duration = Duration::from_millis(2500);

impl Worker {
    /// Ends all sessions and leaves the group. Commits nothing. A session that was closed on
    /// request is not reported as lost. Returns the bridge's end of the source, for another client.
    pub(super) fn leave(mut self) -> Option<Link> {
        // A closing consumer waits for this answer without end.
        self.finish_release();
        drop(self.sessions.drain());
        // Nothing of the consumer stays in `self`, which would be dropped on this thread, and would
        // then wait without a limit. The queues must not outlive the consumer, so they end first.
        let Worker { consumer, intake, commands, events, queue, heads, topics, backlog, drain, .. } = self;
        drop((queue, heads, topics, backlog, drain));
        destroy(consumer);
        intake.into_sender().map(|deliveries| Link { deliveries, events, commands })
    }
}

/// Leaves the group by dropping the last reference to the consumer. This waits until the group
/// knows, which has been seen to take for ever. So another thread does it, and is abandoned if it
/// takes too long. The process ends soon afterwards, and the group then notices the loss.
fn destroy(consumer: Arc<Consumer>) {
    let (done, finished) = mpsc::channel();
    let destroyer = thread::Builder::new().name("kafka-leave".to_owned()).spawn(move || {
        drop(consumer);
        // This fails only if nobody waits any more.
        let _ = done.send(());
    });
    match destroyer {
        Ok(_) if finished.recv_timeout(PATIENCE).is_err() => {
            tracing::warn!("Leaving the group takes too long and is not waited for");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "No thread to leave the group"),
    }
}
