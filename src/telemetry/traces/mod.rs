//! Traces: one for each item, across retries, restarts and replicas, sent over OTLP.
//!
//! The trace has the producer's id. An item without a trace context of its producer gets ids that
//! are made of its identity, so that every replica makes the same ones. The item has one span, from
//! its enqueueing to its end, and each attempt has a span below it. A receiver sees a span only
//! after its end. So each attempt also sends log records with the ids of its span: one at its
//! start, and further ones while it runs.
//!
//! * [`ids`]: the ids of an item's trace. [`span`]: the spans and records themselves.
//! * [`recorder`]: the running attempts and the bounded queues.
//! * [`export`]: the loops that send. [`http`]: the receiver. [`settings`]: the variables `OTEL_*`.
//!
//! Delivery never waits for any of it. Without an endpoint, and in builds without the feature
//! `otlp`, nothing is recorded.

use std::sync::Arc;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use crate::config::Env;
use crate::event::TraceContext;
use crate::progress::Report;

#[cfg(feature = "otlp")]
mod export;
#[cfg(feature = "otlp")]
mod http;
#[cfg(feature = "otlp")]
mod ids;
#[cfg(feature = "otlp")]
mod recorder;
#[cfg(feature = "otlp")]
mod settings;
#[cfg(feature = "otlp")]
mod span;

#[cfg(not(feature = "otlp"))]
mod without;
#[cfg(not(feature = "otlp"))]
use without as recorder;

use super::metrics::TraceCounts;
use recorder::Recorder;
pub use recorder::Running;

/// Records the traces of all pipelines, if they are on.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Recorder>>);

/// Sends the records of [`Traces`].
pub struct Exporter(recorder::Sending);

/// An item, as its spans show it.
#[derive(Clone, Debug)]
pub struct Item {
    pub pipeline: String,
    pub place: Place,
    /// The id and the source of its event.
    pub id: String,
    pub source: String,
    /// The digest of its content.
    pub content: [u8; 16],
    /// The trace context of its producer.
    pub context: Option<TraceContext>,
    /// The start of its span.
    pub since: SystemTime,
}

/// The place of an item in its broker.
#[derive(Clone, Debug)]
pub enum Place {
    Queue(String),
    Partition { topic: String, partition: i32, offset: i64 },
}

/// An attempt that starts.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// 1 is the first.
    pub number: u32,
    pub redelivered: bool,
    /// The reports of its worker.
    pub report: Option<Arc<Report>>,
}

/// The end of an attempt.
#[derive(Clone, Copy, Debug)]
pub struct AttemptEnd<'a> {
    /// As in the metrics.
    pub outcome: &'static str,
    pub is_success: bool,
    pub status: Option<u16>,
    pub detail: &'a str,
}

/// The end of an item.
#[derive(Clone, Debug)]
pub struct ItemEnd {
    /// As in the list of items.
    pub state: &'static str,
    pub is_success: bool,
    pub reason: Option<&'static str>,
    /// The number of its latest attempt.
    pub attempts: u32,
}

/// A variable with a value that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct TracesError {
    reason: String,
    /// The advice to a person.
    pub help: &'static str,
}

impl Traces {
    /// Reads the variables `OTEL_*`. Without an endpoint the traces are off.
    ///
    /// # Errors
    /// A variable has a value that cannot be used.
    pub fn from_variables(
        env: Env<'_>,
        replica: &str,
        counts: TraceCounts,
    ) -> Result<(Traces, Option<Exporter>), TracesError> {
        let (recorder, sending) = recorder::start(env, replica, counts)?.unzip();
        Ok((Traces(recorder), sending.map(Exporter)))
    }

    /// Begins the span of an attempt. The caller drops the result if the attempt is cut.
    pub fn begin(&self, item: impl FnOnce() -> Item, attempt: Attempt) -> Option<Running> {
        self.0.as_ref()?.begin(item(), attempt)
    }

    /// Returns the context for messages that come from an item: its own span is their parent.
    pub fn context(&self, item: impl FnOnce() -> Item) -> Option<TraceContext> {
        self.0.as_ref()?.context(&item())
    }

    /// Records the span of an item that has ended.
    pub fn ended(&self, item: impl FnOnce() -> Option<Item>, end: impl FnOnce() -> ItemEnd) {
        if let Some(recorder) = &self.0
            && let Some(item) = item()
        {
            recorder.ended(item, end());
        }
    }
}

impl Exporter {
    /// Sends until `stop`, and then sends the rest once.
    pub async fn run(self, stop: CancellationToken) {
        self.0.run(stop).await;
    }
}
