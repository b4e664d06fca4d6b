//! How an in-process service behaves.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::knative::kpa;

/// Everything that [`Service::start`](super::Service::start) needs besides the worker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The autoscaler's part: windows, targets, scale bounds.
    pub autoscaling: kpa::Config,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Requests that one replica takes at once (`containerConcurrency`); 0 is no limit.
    pub container_concurrency: usize,
    /// How long a request may take, from its arrival on: waiting for a replica counts (`timeoutSeconds`).
    pub timeout: Duration,
    /// From the start of a replica until it takes requests.
    pub cold_start: Duration,
    /// Requests that may wait; the next one is refused. The activator's own bound by default.
    pub queue_depth: usize,
    /// The largest request body that is taken, in bytes: bodies are held in memory while they wait.
    pub body_bytes: usize,
    /// How long [`Handle::stop`](super::Handle::stop) lets requests finish before it cuts them.
    pub stop_grace: Duration,
}

impl Settings {
    /// Knative's defaults around `autoscaling`, with one request per replica and a cold start of a second, on a free loopback port.
    pub fn new(autoscaling: kpa::Config) -> Self {
        Settings {
            autoscaling,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            container_concurrency: 1,
            timeout: Duration::from_secs(300),
            cold_start: Duration::from_secs(1),
            queue_depth: 10_000,
            body_bytes: 64 << 20,
            stop_grace: Duration::from_secs(30),
        }
    }
}
