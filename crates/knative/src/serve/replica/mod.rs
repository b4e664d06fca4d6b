//! The life of one replica, from the decision to start it until nothing of it is left.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::settings::Program;
use super::worker::Worker;
use crate::service::ReplicaId;

mod backoff;
mod built_in;
mod output;
mod port;
mod probe;
mod process;
mod runner;

pub use process::Group;
pub use runner::Runner;

/// Where the requests of a replica that is ready go.
#[derive(Clone)]
pub enum Target {
    BuiltIn { worker: Arc<dyn Worker>, cut: CancellationToken },
    Process { port: u16, group: Group, cut: CancellationToken },
}

impl Target {
    /// Cancelled when all that runs there ends at once. A process needs no such word: its connections close.
    pub fn cut(&self) -> &CancellationToken {
        match self {
            Target::BuiltIn { cut, .. } | Target::Process { cut, .. } => cut,
        }
    }

    /// As SIGKILL: nothing is finished.
    pub fn kill(&self) {
        match self {
            Target::BuiltIn { cut, .. } => cut.cancel(),
            Target::Process { group, .. } => group.kill(),
        }
    }
}

/// Runs a replica until it has been stopped and has ended.
pub async fn live(engine: Arc<Engine>, id: ReplicaId, name: Arc<str>, stop: CancellationToken) {
    let life = Life { engine: &engine, id, name: &name, stop };
    match &engine.settings.program {
        Program::BuiltIn(worker) => built_in::live(&life, worker).await,
        Program::Command(command) => process::live(&life, command).await,
    }
    engine.gone(id);
}

/// What every kind of replica needs.
struct Life<'a> {
    engine: &'a Arc<Engine>,
    id: ReplicaId,
    name: &'a str,
    stop: CancellationToken,
}

impl Life<'_> {
    /// This replica is to end, or the whole service.
    async fn stopped(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.engine.stopping().cancelled() => {}
        }
    }

    /// What comes before a worker's own start; whether the replica is still wanted after it.
    async fn cold_start(&self) -> bool {
        let settings = &self.engine.settings;
        self.unless_stopped(settings.cold_start + settings.chaos.delay()).await
    }

    /// Lets time pass; whether the replica is still wanted after it.
    async fn unless_stopped(&self, span: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.stopped() => false,
            () = self.engine.clock.sleep(span) => true,
        }
    }

    fn grace(&self) -> Duration {
        self.engine.settings.service.termination_grace()
    }
}
