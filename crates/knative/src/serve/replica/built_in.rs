//! A replica inside this process.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::{Life, Target};
use crate::serve::snapshot::State;
use crate::serve::worker::Worker;

/// Runs a worker that handles SIGTERM: it finishes its requests within the grace.
pub async fn live(life: &Life<'_>, worker: &Arc<dyn Worker>) {
    let host = life.host;
    let mut backoff = Backoff::default();
    if !life.cold_start().await {
        return;
    }
    loop {
        let started = host.clock().now();
        let cut = CancellationToken::new();
        host.ready(life.id, Target::BuiltIn { worker: Arc::clone(worker), cut: cut.clone() });
        tokio::select! {
            biased;
            () = life.stopped() => return finish(life, &cut).await,
            () = cut.cancelled() => host.unready(life.id, State::Crashed),
        }
        if !life.unless_stopped(backoff.next(host.clock().now().since(started))).await {
            return;
        }
    }
}

async fn finish(life: &Life<'_>, cut: &CancellationToken) {
    let host = life.host;
    let Some(mut running) = host.running(life.id) else { return };
    tokio::select! {
        _ = running.wait_for(|running| *running == 0) => {}
        () = host.clock().sleep(life.grace()) => {}
        () = host.killing().cancelled() => {}
        () = cut.cancelled() => {}
    }
    cut.cancel();
}
