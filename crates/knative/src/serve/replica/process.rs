//! A replica that is a process of its own.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::output::pass_on;
use super::probe::Prober;
use super::{Life, Runner, Target, port};
use crate::serve::settings::{Command, Stream};
use crate::serve::snapshot::State;

/// How long the last output of a worker may take to arrive after its end.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

/// The processes of one worker: itself and its children.
#[derive(Clone, Copy, Debug)]
pub struct Group(Option<Pid>);

/// How one run of a worker ended.
enum End {
    /// It ended by itself, or somebody killed it.
    Exited,
    /// It ended because it was told to.
    Stopped,
}

struct Process {
    child: Child,
    port: u16,
    group: Group,
    env: Vec<(String, String)>,
    output: Vec<JoinHandle<()>>,
}

pub async fn live(life: &Life<'_>, command: &Command) {
    let mut backoff = Backoff::default();
    if !life.cold_start().await {
        return;
    }
    loop {
        let started = life.host.clock().now();
        match Process::start(life, command) {
            Ok(process) => {
                if let End::Stopped = run(life, command, process).await {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, replica = life.name, "The worker can't be started");
            }
        }
        life.host.unready(life.id, State::Crashed);
        let pause = backoff.next(life.host.clock().now().since(started));
        if !pause.is_zero() {
            tracing::warn!(
                replica = life.name,
                ?pause,
                "The worker ended again: it is started after a pause"
            );
        }
        if !life.unless_stopped(pause).await {
            return;
        }
    }
}

/// Runs the worker once.
async fn run(life: &Life<'_>, command: &Command, mut process: Process) -> End {
    let host = life.host;
    let env = process.env.clone();
    let prober = Prober {
        probe: &host.settings().service.readiness,
        port: process.port,
        env: &env,
        longhaul: &command.longhaul,
        host,
    };
    let mut was_ready = false;
    let ended = loop {
        tokio::select! {
            biased;
            () = life.stopped() => break None,
            status = process.child.wait() => break Some(status),
            () = prober.until_ready() => {}
        }
        was_ready = true;
        let cut = CancellationToken::new();
        host.ready(life.id, Target::Process { port: process.port, group: process.group, cut });
        tokio::select! {
            biased;
            () = life.stopped() => break None,
            status = process.child.wait() => break Some(status),
            () = prober.until_failed() => {}
        }
        tracing::warn!(replica = life.name, "The worker fails its readiness probe");
        host.unready(life.id, State::Starting);
    };
    let Some(status) = ended else {
        stop(life, &mut process, was_ready).await;
        process.clean_up(life).await;
        return End::Stopped;
    };
    // The first step is that it gets no more requests.
    host.unready(life.id, State::Crashed);
    tracing::warn!(replica = life.name, status = describe(status), "The worker ended");
    process.clean_up(life).await;
    End::Exited
}

/// Stops the worker as a pod ends: it runs on for the drain, gets SIGTERM, and is killed when the
/// grace is over.
async fn stop(life: &Life<'_>, process: &mut Process, was_ready: bool) {
    let host = life.host;
    let whole = host.clock().sleep(life.grace());
    let drain = if was_ready { host.settings().drain.min(life.grace()) } else { Duration::ZERO };
    tokio::pin!(whole);
    tokio::select! {
        biased;
        _ = process.child.wait() => return,
        () = host.stopping().cancelled() => {}
        () = host.clock().sleep(drain) => {}
    }
    process.group.terminate();
    tokio::select! {
        _ = process.child.wait() => return,
        () = &mut whole => {}
        () = host.killing().cancelled() => {}
    }
    tracing::warn!(replica = life.name, "The worker did not end within its grace and is killed");
    process.group.kill();
    if let Err(error) = process.child.wait().await {
        tracing::error!(%error, replica = life.name, "The end of a worker can't be waited for");
    }
}

fn describe(status: io::Result<ExitStatus>) -> String {
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}

impl Process {
    fn start(life: &Life<'_>, command: &Command) -> io::Result<Process> {
        let runner = life.host.runner();
        let port = port::free().ok_or_else(|| io::Error::other("no port is free"))?;
        let mut env = runner.env().to_vec();
        env.push(("PORT".into(), port.to_string()));
        env.push(("HOSTNAME".into(), life.name.to_owned()));
        let mut child = runner
            .command(&command.longhaul, &command.words)?
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let group = Group::of(&child);
        let name: Arc<str> = life.name.into();
        let mut output = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let pass = pass_on(stdout, Stream::Out, Arc::clone(&name), Arc::clone(&command.output));
            output.push(tokio::spawn(pass));
        }
        if let Some(stderr) = child.stderr.take() {
            output.push(tokio::spawn(pass_on(stderr, Stream::Err, name, Arc::clone(&command.output))));
        }
        Ok(Process { child, port, group, env, output })
    }

    /// Ends a worker's children with it, as a container's processes end with its first.
    async fn clean_up(self, life: &Life<'_>) {
        self.group.end(life.host.runner());
        for task in self.output {
            let abort = task.abort_handle();
            if tokio::time::timeout(OUTPUT_TIMEOUT, task).await.is_err() {
                abort.abort();
            }
        }
    }
}

impl Group {
    /// Returns the group of a child that was started as the first of a group.
    pub(super) fn of(child: &Child) -> Self {
        Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }

    /// Ends the group after its first process has ended and been waited for. Then tells the guard
    /// to forget it.
    pub(super) fn end(self, runner: &Runner) {
        self.kill();
        if let Some(group) = self.0 {
            runner.forget(group.as_raw_nonzero().get());
        }
    }

    /// Kills every process of the group.
    pub fn kill(self) {
        // The group may have ended already.
        let _ = self.0.map(|group| kill_process_group(group, Signal::KILL));
    }

    /// Sends SIGTERM to the worker alone, as only the first process of a container gets it.
    fn terminate(self) {
        let _ = self.0.map(|process| kill_process(process, Signal::TERM));
    }
}
