//! Reports the problem that keeps a queue from being consumed.

use tokio::sync::mpsc;

use crate::connect::rabbitmq::Error;
use crate::source::SourceEvent;
use crate::telemetry::{Problem, ProblemKind};

/// The open problem. There is at most one: a session comes up, or one fault prevents it.
pub(super) struct Problems {
    queue: String,
    events: mpsc::UnboundedSender<SourceEvent>,
    open: Option<ProblemKind>,
}

impl Problems {
    pub(super) fn new(queue: &str, events: mpsc::UnboundedSender<SourceEvent>) -> Self {
        Problems { queue: queue.to_owned(), events, open: None }
    }

    /// Reports a problem. The bridge logs a new problem, and repeats it while it lasts.
    pub(super) fn raise(&mut self, error: &Error) {
        let refusal = error.refusal();
        if self.open.is_some_and(|open| open != refusal.kind) {
            self.solved();
        }
        self.open = Some(refusal.kind);
        // The connection may be open, but no item is consumed.
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

    /// Records that the broker has answered within a session.
    pub(super) fn answered(&mut self) {
        if self.open.is_some() {
            self.solved();
            self.send(SourceEvent::Connected(true));
        }
    }

    /// Sends an event. If the bridge is gone, `run` notices that by itself.
    pub(super) fn send(&self, event: SourceEvent) {
        let _ = self.events.send(event);
    }
}
