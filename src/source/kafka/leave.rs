//! The end of the thread: leaving the group without hanging on to a broker that does not answer.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;

use super::context::Consumer;
use super::thread::Worker;

/// How long the group may take to let us go.
const LEAVE: Duration = Duration::from_secs(3);
/// How long librdkafka may take to end its threads.
const DESTROY: Duration = Duration::from_secs(2);

impl Worker {
    /// Ends all sessions and leaves the group. Nothing is committed here.
    pub(super) fn leave(mut self) {
        let sessions: Vec<_> = self.sessions.drain().collect();
        for partition in &sessions {
            self.end(partition, "the source was closed");
        }
        let consumer = Arc::clone(&self.consumer);
        // Takes along the queues, which must not outlive the consumer.
        drop(self);
        consumer.context().close();
        leave_group(&consumer);
        destroy(consumer);
    }
}

fn leave_group(consumer: &Consumer) {
    if let Err(error) = consumer.close_queue() {
        return tracing::debug!(%error, "could not leave the group");
    }
    let leave_by = Instant::now() + LEAVE;
    while !consumer.closed() {
        if Instant::now() >= leave_by {
            return tracing::warn!("the group did not let us go in time; it will notice by itself");
        }
        consumer.poll(Duration::from_millis(20));
    }
}

/// Destroying a consumer waits for its threads, and has been seen to wait for ever; so another thread
/// does it, and is left behind when it takes too long. The process ends soon after anyway.
fn destroy(consumer: Arc<Consumer>) {
    let (done, finished) = mpsc::channel();
    let destroyer = thread::Builder::new().name("kafka-destroy".to_owned()).spawn(move || {
        drop(consumer);
        // Fails only where nobody waits any more.
        let _ = done.send(());
    });
    match destroyer {
        Ok(_) if finished.recv_timeout(DESTROY).is_err() => {
            tracing::debug!("librdkafka takes long to end, left behind");
        }
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "no thread to end librdkafka"),
    }
}
