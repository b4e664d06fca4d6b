//! A replica inside of this process.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::{Life, Target};
use crate::serve::snapshot::State;
use crate::serve::worker::Worker;

/// A worker that traps SIGTERM: it finishes what it runs, within the grace.
pub async fn live(life: &Life<'_>, worker: &Arc<dyn Worker>) {
    let engine = life.engine;
    let mut backoff = Backoff::default();
    if !life.cold_start().await {
        return;
    }
    loop {
        let started = engine.clock.now();
        let cut = CancellationToken::new();
        engine.ready(life.id, Target::BuiltIn { worker: Arc::clone(worker), cut: cut.clone() });
        tokio::select! {
            biased;
            () = life.stopped() => return finish(life, &cut).await,
            () = cut.cancelled() => engine.unready(life.id, State::Crashed),
        }
        if !life.unless_stopped(backoff.next(engine.clock.now().since(started))).await {
            return;
        }
    }
}

async fn finish(life: &Life<'_>, cut: &CancellationToken) {
    let engine = life.engine;
    let Some(mut running) = engine.running(life.id) else { return };
    tokio::select! {
        _ = running.wait_for(|running| *running == 0) => {}
        () = engine.clock.sleep(life.grace()) => {}
        () = engine.killing().cancelled() => {}
        () = cut.cancelled() => {}
    }
    cut.cancel();
}
