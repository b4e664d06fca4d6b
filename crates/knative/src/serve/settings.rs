//! The settings of a service on this machine.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::chaos::Chaos;
use super::worker::Worker;
use crate::manifest::Service;

/// Everything that [`Server::start`](super::Server::start) needs.
#[derive(Clone)]
pub struct Settings {
    pub service: Service,
    pub program: Program,
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The time before a worker starts, which stands for pulling an image and finding a node.
    pub cold_start: Duration,
    /// The time from the stop of a replica until its worker gets SIGTERM. Knative waits until no
    /// new request has come for 30 s.
    pub drain: Duration,
    /// How long [`Handle::stop`](super::Handle::stop) lets requests and workers finish before it
    /// cuts them.
    pub stop_grace: Duration,
    pub chaos: Chaos,
    /// Seconds of the service per second of real time; above 0.
    pub speed: f64,
}

/// The kind of a replica.
#[derive(Clone)]
pub enum Program {
    /// A part of this process.
    BuiltIn(Arc<dyn Worker>),
    /// A process of its own.
    Command(Command),
}

/// How a replica's process is started.
#[derive(Clone)]
pub struct Command {
    /// The program and its arguments; never empty.
    pub words: Vec<String>,
    /// The program `longhaul`, which starts the worker and watches over it.
    pub longhaul: PathBuf,
    /// Takes each line that a worker writes.
    pub output: Arc<dyn Fn(Line<'_>) + Send + Sync>,
}

/// A line that a worker wrote.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    pub replica: &'a str,
    pub stream: Stream,
    pub text: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

impl Settings {
    /// Returns settings with real time, no faults, and a free port on loopback.
    pub fn new(service: Service, program: Program) -> Self {
        Settings {
            service,
            program,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            cold_start: Duration::ZERO,
            drain: Duration::from_secs(30),
            stop_grace: Duration::from_secs(10),
            chaos: Chaos::default(),
            speed: 1.0,
        }
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Program::BuiltIn(_) => formatter.write_str("BuiltIn"),
            Program::Command(command) => formatter.debug_tuple("Command").field(&command.words).finish(),
        }
    }
}
