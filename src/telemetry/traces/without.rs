//! Stands for the recorder in builds without the feature `otlp`: nothing can be recorded.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Attempt, AttemptEnd, Item, ItemEnd, TraceCounts, TracesError};
use crate::config::Env;
use crate::event::TraceContext;

#[derive(Debug)]
pub enum Recorder {}

/// The span of a running attempt.
#[derive(Debug)]
pub enum Running {}

pub enum Sending {}

/// The variables that ask for traces.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

pub fn start(
    env: Env<'_>,
    _replica: &str,
    _counts: TraceCounts,
) -> Result<Option<(Arc<Recorder>, Sending)>, TracesError> {
    if let Some(variable) = ENDPOINTS.into_iter().find(|name| env(name).is_some_and(|it| !it.is_empty())) {
        tracing::warn!(
            variable,
            help = "build longhaul with the feature `otlp`",
            "This build sends no traces"
        );
    }
    Ok(None)
}

impl Recorder {
    pub fn begin(self: &Arc<Self>, _item: Item, _attempt: Attempt) -> Option<Running> {
        match **self {}
    }

    pub fn context(&self, _item: &Item) -> Option<TraceContext> {
        match *self {}
    }

    pub fn ended(&self, _item: Item, _end: ItemEnd) {
        match *self {}
    }
}

impl Running {
    pub fn context(&self) -> &TraceContext {
        match *self {}
    }

    pub fn end(self, _end: AttemptEnd<'_>) {
        match self {}
    }
}

impl Sending {
    pub async fn run(self, _stop: CancellationToken) {
        match self {}
    }
}
