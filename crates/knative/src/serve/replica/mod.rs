//! The life of one replica, from the decision to start it until nothing of it is left.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::settings::{Program, Settings};
use super::snapshot::State;
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

/// The parts of the service that its replicas use.
pub trait Host: Send + Sync {
    fn settings(&self) -> &Settings;
    fn clock(&self) -> &Clock;
    fn runner(&self) -> &Runner;
    /// Cancelled when the whole service stops: every replica must end.
    fn stopping(&self) -> &CancellationToken;
    /// Cancelled when the wait is over: every worker is killed.
    fn killing(&self) -> &CancellationToken;
    /// Reports that the replica takes requests from now on.
    fn ready(&self, id: ReplicaId, target: Target);
    /// Reports that the replica takes no requests for now.
    fn unready(&self, id: ReplicaId, state: State);
    /// Reports that nothing of the replica is left.
    fn gone(&self, id: ReplicaId);
    /// Returns the number of requests that run at the replica, with its changes. `None` if the
    /// service does not know the replica.
    fn running(&self, id: ReplicaId) -> Option<watch::Receiver<usize>>;
}

/// The destination of the requests of a ready replica.
#[derive(Clone)]
pub enum Target {
    BuiltIn { worker: Arc<dyn Worker>, cut: CancellationToken },
    Process { port: u16, group: Group, cut: CancellationToken },
}

impl Target {
    /// Returns the token that is cancelled when all requests there end at once. A process needs no
    /// token, because its connections close.
    pub fn cut(&self) -> &CancellationToken {
        match self {
            Target::BuiltIn { cut, .. } | Target::Process { cut, .. } => cut,
        }
    }

    /// Works like SIGKILL: nothing is finished.
    pub fn kill(&self) {
        match self {
            Target::BuiltIn { cut, .. } => cut.cancel(),
            Target::Process { group, .. } => group.kill(),
        }
    }
}

/// Runs a replica until it has been stopped and has ended.
pub async fn live(host: Arc<dyn Host>, id: ReplicaId, name: Arc<str>, stop: CancellationToken) {
    let life = Life { host: &host, id, name: &name, stop };
    match &host.settings().program {
        Program::BuiltIn(worker) => built_in::live(&life, worker).await,
        Program::Command(command) => process::live(&life, command).await,
    }
    host.gone(id);
}

/// The parts that every kind of replica needs.
struct Life<'a> {
    host: &'a Arc<dyn Host>,
    id: ReplicaId,
    name: &'a str,
    stop: CancellationToken,
}

impl Life<'_> {
    /// Waits until this replica or the whole service must end.
    async fn stopped(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.host.stopping().cancelled() => {}
        }
    }

    /// Waits for the cold start, before the worker itself starts. Returns whether the replica is
    /// still wanted after it.
    async fn cold_start(&self) -> bool {
        let settings = self.host.settings();
        self.unless_stopped(settings.cold_start + settings.chaos.delay()).await
    }

    /// Waits for a span. Returns whether the replica is still wanted after it.
    async fn unless_stopped(&self, span: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.stopped() => false,
            () = self.host.clock().sleep(span) => true,
        }
    }

    fn grace(&self) -> Duration {
        self.host.settings().service.termination_grace()
    }
}
