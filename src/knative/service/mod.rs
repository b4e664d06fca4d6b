//! A Knative Service inside this process, for the demo and for tests: it buffers as the activator does, runs one request per replica,
//! and its replicas come and go by Knative's own arithmetic on the real clock.
//!
//! The parts without I/O, [`Pool`] and [`Revision`], know no clock; the activator drives them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::serve::ListenerExt;
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

mod activator;
mod clock;
mod pool;
mod revision;
mod settings;
mod worker;

use activator::{Activator, plain};
pub use pool::{Full, Phases, Pool, ReplicaId, Ticket};
pub use revision::{Counts, Revision};
pub use settings::Settings;
pub use worker::Worker;

/// Starts services.
#[derive(Debug)]
pub struct Service;

/// A running service. Dropping it cuts what runs; [`stop`](Self::stop) lets it finish.
pub struct Handle {
    address: SocketAddr,
    counts: watch::Receiver<Counts>,
    settings: Settings,
    /// Takes no new requests from then on.
    closing: CancellationToken,
    /// Ends the requests that still run.
    cut: CancellationToken,
    server: JoinHandle<io::Result<()>>,
    driver: JoinHandle<()>,
    _on_drop: (DropGuard, DropGuard),
}

impl Service {
    /// Listens, and answers requests with `worker` from now on.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start(settings: Settings, worker: impl Worker) -> io::Result<Handle> {
        let listener = TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        let listener = listener.tap_io(|stream| {
            // A failure costs milliseconds for each answer, nothing else.
            let _ = stream.set_nodelay(true);
        });
        let activator = Activator::new(settings.clone(), worker);
        let (closing, cut) = (CancellationToken::new(), CancellationToken::new());
        let counts = activator.counts();
        let driver = tokio::spawn(Arc::clone(&activator).drive());
        let router = router(activator, cut.clone());
        let server = axum::serve(listener, router).with_graceful_shutdown(closing.clone().cancelled_owned());
        Ok(Handle {
            address,
            counts,
            settings,
            _on_drop: (closing.clone().drop_guard(), cut.clone().drop_guard()),
            closing,
            cut,
            server: tokio::spawn(async move { server.await }),
            driver,
        })
    }
}

impl Handle {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The counts, now and at every change.
    pub fn replicas(&self) -> watch::Receiver<Counts> {
        self.counts.clone()
    }

    /// Takes no new requests, lets those that it holds finish for `stop_grace`, and cuts the rest.
    pub async fn stop(mut self) {
        self.closing.cancel();
        if tokio::time::timeout(self.settings.stop_grace, &mut self.server).await.is_err() {
            let held = self.counts.borrow().in_flight;
            tracing::warn!(held, "requests did not finish within the grace and are cut");
            self.cut.cancel();
            self.server.abort();
        }
        self.driver.abort();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Every method and path belongs to the worker.
fn router(activator: Arc<Activator>, cut: CancellationToken) -> Router {
    Router::new().fallback(move |request: Request| {
        let activator = Arc::clone(&activator);
        let cut = cut.clone();
        async move {
            tokio::select! {
                response = activator.hold(request) => response,
                // What a client of a replica that dies sees.
                () = cut.cancelled() => plain(StatusCode::BAD_GATEWAY, "EOF\n"),
            }
        }
    })
}

#[cfg(test)]
mod tests;
