//! The parts shared by the processes of all replicas: their environment, and the guard that ends
//! them when this process dies.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use tokio::process::Child;

use crate::manifest::{Service, Source};
use crate::serve::guard;
use crate::serve::settings::{Command, Program, Settings};

/// Starts workers so that none outlives this process, even if it is killed. A new process tells the
/// guard its process group before it becomes the worker, so the guard always knows the group.
pub struct Runner {
    guard: Option<Guard>,
    env: Vec<(String, String)>,
}

struct Guard {
    /// The end of this pipe tells the guard that this process has died.
    pipe: Mutex<File>,
    _process: Child,
}

impl Runner {
    /// Starts the guard.
    ///
    /// # Errors
    /// The guard cannot be started.
    pub fn new(settings: &Settings) -> io::Result<Self> {
        let guard = match &settings.program {
            Program::BuiltIn(_) => None,
            Program::Command(command) => Some(Guard::start(command)?),
        };
        Ok(Runner { guard, env: environment(&settings.service) })
    }

    /// Returns the environment of every worker, without its own name and port.
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// Returns the command that starts a program in a process group of its own. The guard knows the
    /// group before the program runs.
    ///
    /// # Errors
    /// The process has used up its file descriptors.
    pub fn command(&self, longhaul: &Path, words: &[String]) -> io::Result<tokio::process::Command> {
        let mut command = tokio::process::Command::new(longhaul);
        command.arg(guard::WORKER_COMMAND).arg("--").args(words);
        command.stdin(self.guard_pipe()?).process_group(0).kill_on_drop(true);
        Ok(command)
    }

    /// Returns the writing end of the guard's pipe.
    fn guard_pipe(&self) -> io::Result<Stdio> {
        let Some(guard) = &self.guard else { return Ok(Stdio::null()) };
        let pipe = guard.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Stdio::from(OwnedFd::from(pipe.try_clone()?)))
    }

    /// Tells the guard that the process group has ended, so its number may be reused.
    pub fn forget(&self, group: i32) {
        let Some(guard) = &self.guard else { return };
        let mut pipe = guard.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = pipe.write_all(guard::ended(group).as_bytes()) {
            tracing::warn!(%error, "The guard of the workers has ended: if this process is killed, the workers stay");
        }
    }
}

impl Guard {
    fn start(command: &Command) -> io::Result<Guard> {
        let mut process = tokio::process::Command::new(&command.longhaul)
            .arg(guard::GUARD_COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // The guard has its own group: Ctrl-C is for this process, and the guard must outlive
            // it.
            .process_group(0)
            .spawn()?;
        let Some(pipe) = process.stdin.take() else { return Err(io::Error::other("the guard has no input")) };
        let pipe = Mutex::new(File::from(pipe.into_owned_fd()?));
        Ok(Guard { pipe, _process: process })
    }
}

/// Returns a container's environment as Knative sets it, on top of the environment of this process.
fn environment(service: &Service) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = Vec::new();
    for variable in &service.env {
        if let Source::Value(value) = &variable.source {
            env.push((variable.name.clone(), value.clone()));
        }
    }
    env.push(("K_SERVICE".into(), service.name.clone()));
    env.push(("K_CONFIGURATION".into(), service.name.clone()));
    env.push(("K_REVISION".into(), service.revision.clone()));
    env
}
