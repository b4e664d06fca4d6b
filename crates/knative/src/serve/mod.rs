//! Runs a Knative Service on this machine, for `longhaul serve`, the demo and tests.
//!
//! Clients see the statuses and bodies of Knative's activator and queue-proxy. Replicas are
//! processes, or parts of this process, and are scaled by Knative's own arithmetic
//! ([`kpa`](super::kpa)). It is a development tool; production is Knative itself.
//!
//! Read in this order: [`engine`] (the shared state), [`request`] and [`body`] (one request),
//! [`replica`] (one replica), [`guard`] (why no worker outlives this process).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

mod admin;
mod answers;
mod body;
mod chaos;
mod clock;
mod engine;
mod forward;
pub mod guard;
mod listen;
mod replica;
mod request;
mod settings;
mod snapshot;
mod worker;

pub use chaos::Chaos;
pub use settings::{Command, Line, Program, Settings, Stream};
pub use snapshot::{Replica, Snapshot, State};
pub use worker::Worker;

use super::service::Counts;
use engine::Engine;

/// The most headers of a request or an answer; as many fit into hyper's buffer. Go's servers limit
/// only the bytes.
const MOST_HEADERS: usize = 4096;

/// Starts services.
#[derive(Debug)]
pub struct Server;

/// A running service. Dropping it cuts the running requests; [`stop`](Self::stop) lets them finish.
pub struct Handle {
    address: SocketAddr,
    engine: Arc<Engine>,
    /// Cancelled when the service stops taking requests.
    closing: CancellationToken,
    /// Cancelled when the running requests must end.
    cut: CancellationToken,
    server: JoinHandle<()>,
    driver: JoinHandle<()>,
    _on_drop: [DropGuard; 2],
}

/// The reason why a service does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the guard, which ends the workers if this program is killed, can't be started: {0}")]
    Guard(#[source] io::Error),
}

impl Server {
    /// Listens, and answers requests from now on.
    ///
    /// # Errors
    /// The address cannot be listened on, or the program that watches over the workers cannot be
    /// started.
    pub async fn start(settings: Settings) -> Result<Handle, Error> {
        let refused = |source| Error::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let engine = Engine::new(settings).map_err(Error::Guard)?;
        let (closing, cut) = (CancellationToken::new(), CancellationToken::new());
        let driver = tokio::spawn(Arc::clone(&engine).drive());
        let server = tokio::spawn(listen::run(listener, Arc::clone(&engine), closing.clone(), cut.clone()));
        let _on_drop = [closing.clone().drop_guard(), cut.clone().drop_guard()];
        Ok(Handle { address, engine, closing, cut, server, driver, _on_drop })
    }
}

impl Handle {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the counts, now and at every change.
    pub fn counts(&self) -> watch::Receiver<Counts> {
        self.engine.counts()
    }

    pub fn snapshot(&self) -> Snapshot {
        self.engine.snapshot()
    }

    /// Shows the replicas on this listener until the service stops.
    pub fn admin(&self, listener: TcpListener) -> JoinHandle<()> {
        tokio::spawn(admin::run(listener, Arc::clone(&self.engine), self.closing.clone()))
    }

    /// Stops the service. It takes no new requests and tells every worker to end. When the last
    /// worker has ended it cuts the waiting requests, and after `stop_grace` everything that still
    /// runs.
    pub async fn stop(mut self) {
        self.closing.cancel();
        self.engine.stop();
        let grace = self.engine.settings.stop_grace;
        let finished = async {
            self.engine.stopped().await;
            (&mut self.server).await
        };
        if tokio::time::timeout(grace, finished).await.is_err() {
            let held = self.engine.counts().borrow().in_flight;
            tracing::warn!(held, "The grace is over: the remaining requests are cut");
            self.cut_all().await;
        }
        self.driver.abort();
    }

    async fn cut_all(&mut self) {
        self.engine.kill();
        self.engine.stopped().await;
        // The clients have seen the end of the replicas. This cuts bytes that are still on their
        // way.
        self.cut.cancel();
        if !self.server.is_finished() {
            let _ = (&mut self.server).await;
        }
        self.driver.abort();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.engine.kill();
        self.driver.abort();
    }
}

#[cfg(test)]
mod tests;
