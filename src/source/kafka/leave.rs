//! The end of the thread: leaving the group without hanging on to a broker that does not answer.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::context::Consumer;
use super::thread::Worker;
use crate::source::Link;

/// How long leaving the group and ending librdkafka's threads may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl Worker {
    /// Ends all sessions and leaves the group. Nothing is committed here. Sessions that are closed
    /// as asked are not reported as lost. Returns the bridge's end of the source, for another
    /// client.
    pub(super) fn leave(mut self) -> Option<Link> {
        // A consumer that closes waits for this answer for ever.
        self.finish_release();
        drop(self.sessions.drain());
        let consumer = Arc::clone(&self.consumer);
        // The queues must not outlive the consumer, so the rest of the worker ends first.
        let Worker { intake, commands, events, queue, heads, topics, backlog, drain, .. } = self;
        drop((queue, heads, topics, backlog, drain));
        destroy(consumer);
        intake.into_sender().map(|deliveries| Link { deliveries, events, commands })
    }
}

/// Dropping a consumer leaves the group and waits until that is done, which has been seen to take
/// for ever; so another thread does it, and is left behind when it takes too long. The process ends
/// soon after anyway, and the group notices by itself.
fn destroy(consumer: Arc<Consumer>) {
    let (done, finished) = mpsc::channel();
    let destroyer = thread::Builder::new().name("kafka-leave".to_owned()).spawn(move || {
        drop(consumer);
        // Fails only when nobody waits any more.
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
