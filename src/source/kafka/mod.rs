//! Kafka topics, read as a member of a consumer group. Records of a partition run in parallel and
//! finish in any order.
//!
//! [`thread`] owns librdkafka's consumer and is the only one that touches it; everything else here
//! is a part of it with one job. The way of a record: `poll` → [`partition`] (is it done? is there
//! room in the [`tracker`]?) → [`intake`] → the bridge → [`settle`] → the tracker again →
//! [`commit`], with the map of the unfinished records in the [`metadata`]. [`start`] reads it back,
//! [`rebalance`] starts and ends partitions; [`release`] and [`drain`] give them away. [`topics`]
//! notices a topic that was created again, and [`health`] reports problems. [`undecodable`] deals
//! with damaged batches, [`progress`] notices partitions that are not read on, and [`by_hand`]
//! pauses partitions on request.
//!
//! Each assignment of a partition is a session with an epoch of its own, so a late settle finds no
//! session and changes nothing (guarantee G7).

mod backlog;
mod by_hand;
mod commit;
mod context;
mod drain;
mod head;
mod health;
mod intake;
mod leave;
mod lost;
mod mark;
pub mod metadata;
mod partition;
mod patience;
mod progress;
mod rebalance;
mod record;
mod release;
mod replace;
mod sessions;
mod settings;
mod settle;
mod start;
mod thread;
mod topics;
pub mod tracker;
mod undecodable;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

pub use self::settings::Settings;
use super::{Link, SourceError};
use crate::delivery::Epoch;
use crate::telemetry::Pulse;

/// A consumer of one or more topics.
#[derive(Clone)]
pub struct Source {
    settings: Settings,
    pulse: Option<MakePulse>,
}

/// Makes the pulse of a poll thread. It is watched for as long as the thread lives.
type MakePulse = Arc<dyn Fn() -> Arc<Pulse> + Send + Sync>;

impl Source {
    pub fn new(settings: Settings) -> Self {
        Source { settings, pulse: None }
    }

    /// Beats such a pulse while a poll thread works.
    pub fn with_pulse(mut self, pulse: impl Fn() -> Arc<Pulse> + Send + Sync + 'static) -> Self {
        self.pulse = Some(Arc::new(pulse));
        self
    }
}

impl super::Source for Source {
    async fn run(mut self, link: Link) -> Result<(), SourceError> {
        self.settings.pulse = self.pulse.as_ref().map(|make| make());
        let (ended, end) = oneshot::channel();
        let thread = std::thread::Builder::new().name(format!("kafka-{}", self.settings.pipeline));
        // The thread's log lines name the pipeline too.
        let span = tracing::Span::current();
        let spawned = thread.spawn(move || {
            let _in_span = span.enter();
            // This fails only if `run` was dropped. The thread then ends because the bridge has
            // ended too.
            let _ = ended.send(thread::run(self.settings, link));
        });
        let died = |what: String| SourceError { what, hint: "restart longhaul".to_owned() };
        spawned.map_err(|error| died(format!("no thread for the kafka consumer: {error}")))?;
        end.await.unwrap_or_else(|_| Err(died("the kafka thread ended unexpectedly".to_owned())))
    }
}

/// Returns a new epoch. Epochs are never reused within a process.
fn next_epoch() -> Epoch {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Epoch(NEXT.fetch_add(1, Ordering::Relaxed))
}
