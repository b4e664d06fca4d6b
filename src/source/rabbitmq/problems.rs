//! The problem that keeps a queue from being consumed, as the bridge is told about it.

use tokio::sync::mpsc;

use crate::connect::rabbitmq::Error;
use crate::source::SourceEvent;
use crate::telemetry::{Problem, ProblemKind};

/// At most one problem is open: a session comes up, or one thing is in its way.
pub(super) struct Problems {
    queue: String,
    events: mpsc::UnboundedSender<SourceEvent>,
    open: Option<ProblemKind>,
}

impl Problems {
    pub(super) fn new(queue: &str, events: mpsc::UnboundedSender<SourceEvent>) -> Self {
        Problems { queue: queue.to_owned(), events, open: None }
    }

    /// The bridge logs a new problem, and repeats it while it lasts.
    pub(super) fn raise(&mut self, error: &Error) {
        let refusal = error.refusal();
        if self.open.is_some_and(|open| open != refusal.kind) {
            self.solved();
        }
        self.open = Some(refusal.kind);
        // The connection may be open, but nothing is consumed.
        self.send(SourceEvent::Connected(false));
        self.send(SourceEvent::Problem(Problem {
            kind: refusal.kind,
            subject: self.queue.clone(),
            text: format!("cannot consume queue {}: {error}", self.queue),
            help: refusal.help.to_owned(),
        }));
    }

    pub(super) fn solved(&mut self) {
        if let Some(kind) = self.open.take() {
            self.send(SourceEvent::Solved { kind, subject: self.queue.clone() });
        }
    }

    /// The bridge may be gone, which `run` notices by its own means.
    pub(super) fn send(&self, event: SourceEvent) {
        let _ = self.events.send(event);
    }
}
