//! Watches the targets of dead letters, replies and retries, so that a missing one shows before an
//! item needs it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::Parts;
use crate::publish::{Publisher, dead_letter};
use crate::telemetry::{Problem, ProblemKind, Status};

/// The time between two probes of one target.
const INTERVAL: Duration = Duration::from_secs(5);

/// A target that does not answer a probe for this long counts as unwritable.
const PATIENCE: Duration = Duration::from_secs(8);

/// Starts one task for each target. The tasks end with the returned handles.
pub(super) fn watch(parts: &Parts) -> Vec<AbortOnDropHandle<()>> {
    let mut targets: Vec<(String, Arc<dyn Publisher>)> = Vec::new();
    if let Some(dead_letter::Target::Broker(_, publisher)) = &parts.dead_letter {
        targets.push(("dead_letter".to_owned(), publisher.clone()));
    }
    if let Some(reply) = &parts.reply {
        targets.push(("reply".to_owned(), reply.publisher.clone()));
    }
    if let Some(copies) = &parts.copies {
        let parked = copies.parked.iter();
        targets.extend(parked.map(|(delay, place)| (format!("retry.queue {delay:?}"), place.clone())));
    }
    let spawn = |(name, publisher)| {
        AbortOnDropHandle::new(tokio::spawn(probe(name, publisher, parts.status.clone()).in_current_span()))
    };
    targets.into_iter().map(spawn).collect()
}

async fn probe(name: String, publisher: Arc<dyn Publisher>, status: Arc<Status>) {
    loop {
        let fault = match timeout(PATIENCE, publisher.probe()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.what),
            Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        match fault {
            None => status.clear(ProblemKind::TargetUnwritable, &name),
            Some(fault) => status.raise(Problem {
                kind: ProblemKind::TargetUnwritable,
                subject: name.clone(),
                text: format!("the target of {name} cannot be written: {fault}"),
                help: "create the target and allow writes to it; items that need it wait until then"
                    .to_owned(),
            }),
        }
        sleep(INTERVAL).await;
    }
}
