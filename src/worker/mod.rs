//! `longhaul worker`: an HTTP server that runs a command for each item, so that any program is a
//! Knative worker. The comments call this server the *shim*.
//!
//! * [`requests`]: probes, and the one place for an item.
//! * [`item`]: one item from its start to its answer; [`live`]: the lines of a process that stays.
//! * [`process`] and [`tree`]: starting the command, and leaving no process behind.
//! * [`output`], [`pod_log`], [`progress`]: where the lines of the command go.
//! * [`event`], [`folder`], [`outcome`]: the input of an item, its working directory, its end.
//!
//! Everything here is also the small program `longhaul-worker`, so it uses nothing else of
//! longhaul.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use folder::Folder;
use item::Runner;
use outcome::ExitCodes;
use pod_log::PodLog;
use process::Program;
use requests::Requests;

mod event;
mod folder;
mod item;
mod live;
pub mod outcome;
mod output;
mod pod_log;
pub mod process;
mod progress;
mod requests;
mod tree;

/// The most open connections. Queue-proxy needs one for the item and few for probes.
const CONNECTIONS: usize = 64;
/// The largest head of a request. A bridge sends less, so that every event it can send fits.
const HEAD_BYTES: usize = 128 * 1024;
const HEADERS: usize = 2048;
/// How long the last answer may take to reach the client.
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// How long the last lines may take to reach the log. A blocked log does not keep the shim running.
const LAST_LINES: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub struct Settings {
    pub host: IpAddr,
    pub port: u16,
    pub command: Vec<OsString>,
    pub input: InputKind,
    /// The command stays alive and gets a line for each item.
    pub serve: bool,
    /// The command starts in the shim's own working directory.
    pub keeps_folder: bool,
    /// The folder for the working directories.
    pub folder: PathBuf,
    pub exit_codes: ExitCodes,
    pub reply: Option<PathBuf>,
    /// The longest wait for the running item after SIGTERM; without it the wait has no limit.
    pub grace: Option<Duration>,
    pub on_stop: OnStop,
    pub on_gone: OnGone,
    /// The time between SIGTERM and SIGKILL to the command.
    pub stop_timeout: Duration,
    pub timeout: Option<Duration>,
    pub memory: Option<u64>,
    pub cpu_time: Option<Duration>,
    pub body_bytes: u64,
    pub posts_progress: bool,
    /// The pod's name for progress posts.
    pub pod: Option<String>,
}

/// How the data reaches the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum InputKind {
    /// The data is standard input.
    Stdin,
    /// The data is in the file that CE_DATA_FILE names.
    File,
    /// The command does not get the data.
    None,
}

/// The effect of SIGTERM on the running item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OnStop {
    /// The item goes on to its end.
    Finish,
    /// The command gets SIGTERM, and the item runs again elsewhere.
    Interrupt,
}

/// The effect of a lost client on the running item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OnGone {
    /// The command gets SIGTERM.
    Stop,
    /// The item goes on to its end; its outcome reaches only the log.
    Finish,
}

/// The phases of the shim, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Open,
    /// Nothing new starts.
    Draining,
    /// The running item is to be stopped.
    Interrupt,
}

/// How the shim ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// No item was cut.
    Drained,
    /// An item was cut, and its client was told.
    Cut,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Command(String),
    #[error("{address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the working directory below {}: {source}", folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    #[error(transparent)]
    Other(#[from] io::Error),
}

/// Runs items until SIGTERM or SIGINT.
///
/// # Errors
/// If the shim cannot start.
pub fn run(settings: Settings) -> Result<Stopped, Error> {
    let program = Program::find(&settings.command).map_err(Error::Command)?;
    let folder = Folder::create(&settings.folder)
        .map_err(|source| Error::Folder { folder: settings.folder.clone(), source })?;
    process::adopt_orphans()?;
    let (log, thread) = PodLog::start()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Blocking threads resolve the address of a progress URL.
        .max_blocking_threads(2)
        .thread_stack_size(256 * 1024)
        .build()?;
    let stopped = runtime.block_on(serve(Arc::new(settings), program, folder, log));
    // The log's thread ends when the last task that holds the log has ended.
    runtime.shutdown_background();
    let end = Instant::now() + LAST_LINES;
    while !thread.is_finished() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    stopped
}

async fn serve(
    settings: Arc<Settings>,
    program: Program,
    folder: Folder,
    log: PodLog,
) -> Result<Stopped, Error> {
    let mut signals = Signals::listen()?;
    let address = SocketAddr::new(settings.host, settings.port);
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    log.note(&format!("Listening address={}", listener.local_addr()?)).await;
    let (phase, watched) = watch::channel(Phase::Open);
    let runner = Arc::new(Runner::new(Arc::clone(&settings), program, folder, log.clone(), watched));
    if settings.serve {
        runner.warm_up().await?;
    }
    let requests = Arc::new(Requests::new(Arc::clone(&runner)));
    let mut connections = Connections::new(Arc::clone(&requests));
    tokio::select! {
        never = connections.accept(&listener) => match never {},
        () = signals.next() => {}
    }
    let first = if settings.on_stop == OnStop::Interrupt { Phase::Interrupt } else { Phase::Draining };
    phase.send_replace(first);
    log.note(&format!("Stopping busy={}", requests.is_busy())).await;
    let grace = async {
        match settings.grace {
            Some(grace) => tokio::time::sleep(grace).await,
            None => std::future::pending().await,
        }
    };
    let urge = async {
        tokio::select! {
            () = grace => log.note("The grace period is over").await,
            () = signals.next() => log.note("A second signal").await,
        }
        phase.send_replace(Phase::Interrupt);
        std::future::pending().await
    };
    tokio::select! {
        // Probes and refusals are answered to the end.
        never = connections.accept(&listener) => match never {},
        () = urge => {}
        () = requests.idle() => {}
    }
    connections.close().await;
    runner.end_live().await;
    Ok(if requests.was_cut() { Stopped::Cut } else { Stopped::Drained })
}

struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Signals { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

struct Connections {
    requests: Arc<Requests>,
    tasks: JoinSet<()>,
    free: Arc<Semaphore>,
    closing: watch::Sender<bool>,
}

impl Connections {
    fn new(requests: Arc<Requests>) -> Self {
        let free = Arc::new(Semaphore::new(CONNECTIONS));
        Connections { requests, tasks: JoinSet::new(), free, closing: watch::channel(false).0 }
    }

    async fn accept(&mut self, listener: &TcpListener) -> std::convert::Infallible {
        loop {
            while self.tasks.try_join_next().is_some() {}
            let Ok(permit) = Arc::clone(&self.free).acquire_owned().await else {
                std::future::pending().await
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let work = connection(stream, Arc::clone(&self.requests), self.closing.subscribe());
                    self.tasks.spawn(async move {
                        work.await;
                        drop(permit);
                    });
                }
                // This happens, for example, if no file descriptor is free.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Lets each connection finish its answer.
    async fn close(mut self) {
        self.closing.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_ANSWER, all).await;
    }
}

/// Keep-alive without an idle timeout: queue-proxy reuses a connection at the moment at which a
/// server with a timeout closes it, and the item fails with EOF (knative/serving#12414). The client
/// closes connections, the shim never does before it stops.
async fn connection(stream: TcpStream, requests: Arc<Requests>, mut closing: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let requests = Arc::clone(&requests);
        async move { Ok::<_, std::convert::Infallible>(requests.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = &mut connection => return,
        _ = closing.wait_for(|closing| *closing) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
