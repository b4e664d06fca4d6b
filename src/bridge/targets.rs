//! The targets that a pipeline writes to, and the probes that show a missing one before an item
//! needs it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::delivery;
use crate::publish::copy::Copies;
use crate::publish::{Publisher, dead_letter, reply};
use crate::telemetry::{Problem, ProblemKind, Status};

/// The time between two probes of one target.
const INTERVAL: Duration = Duration::from_secs(3);

/// A target that does not answer a probe for this long counts as unwritable. With the interval, a
/// problem is visible within 10 s.
const PATIENCE: Duration = Duration::from_secs(6);

/// The targets of a pipeline.
#[derive(Clone, Default)]
pub struct Targets {
    pub dead_letter: Option<dead_letter::Target>,
    pub reply: Option<reply::Target>,
    /// The targets of copies; `None` if the broker needs no copies (Kafka).
    pub copies: Option<Copies>,
}

impl Targets {
    /// The targets that are there, for the core.
    pub(super) fn present(&self) -> delivery::Targets {
        delivery::Targets {
            dead_letter: self.dead_letter.is_some(),
            reply: self.reply.is_some(),
            park: self.copies.as_ref().is_some_and(|copies| !copies.parked.is_empty()),
        }
    }

    /// Starts one probe for each target. The probes end with the returned handles.
    pub(super) fn watch(&self, status: &Arc<Status>) -> Vec<AbortOnDropHandle<()>> {
        let mut publishers: Vec<(String, Arc<dyn Publisher>)> = Vec::new();
        if let Some(dead_letter::Target::Broker(_, publisher)) = &self.dead_letter {
            publishers.push(("dead_letter".to_owned(), publisher.clone()));
        }
        if let Some(reply) = &self.reply {
            publishers.push(("reply".to_owned(), reply.publisher.clone()));
        }
        if let Some(copies) = &self.copies {
            let parked = copies.parked.iter();
            publishers.extend(parked.map(|(delay, place)| (format!("retry.queue {delay:?}"), place.clone())));
        }
        let spawn = |(name, publisher)| {
            AbortOnDropHandle::new(tokio::spawn(probe(name, publisher, status.clone()).in_current_span()))
        };
        publishers.into_iter().map(spawn).collect()
    }
}

async fn probe(name: String, publisher: Arc<dyn Publisher>, status: Arc<Status>) {
    loop {
        let fault = match timeout(PATIENCE, publisher.probe()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) if error.is_missing => Some((ProblemKind::TargetMissing, error.what)),
            Ok(Err(error)) => Some((ProblemKind::TargetUnwritable, error.what)),
            Err(_) => {
                Some((ProblemKind::TargetUnwritable, format!("no answer within {} s", PATIENCE.as_secs())))
            }
        };
        let found = fault.as_ref().map(|(kind, _)| *kind);
        for kind in [ProblemKind::TargetMissing, ProblemKind::TargetUnwritable] {
            if found != Some(kind) {
                status.clear(kind, &name);
            }
        }
        if let Some((kind, fault)) = fault {
            let (text, help) = match kind {
                ProblemKind::TargetMissing => {
                    (format!("the target of {name} is missing: {fault}"), "create the target")
                }
                _ => {
                    (format!("the target of {name} cannot be written: {fault}"), "allow writes to the target")
                }
            };
            let help = format!("{help}; items that need it wait until then");
            status.raise(Problem { kind, subject: name.clone(), text, help });
        }
        sleep(INTERVAL).await;
    }
}
