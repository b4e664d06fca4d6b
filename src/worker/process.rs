//! Starts the command, and leaves no process behind.
//!
//! The shim is the sub-reaper of everything that it starts: a process whose parent has ended
//! becomes the shim's child, and stays in sight even if it has left the session. So the end of an
//! item can end all of its processes.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, waitpid};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

use super::output::Present;
use super::pod_log::{PodLog, Stream};
use super::tree;

/// The first argument with which the program starts itself again, to become the command.
pub const BECOME: &str = "worker-become-command";
/// The exit code of a command that cannot be started, as in a shell.
pub const NO_PROGRAM: u8 = 127;

const SWEEP_PAUSE: Duration = Duration::from_millis(5);
/// How often the sweep looks for killed processes that have not ended. Only a process in an
/// uninterruptible wait needs longer.
const SWEEP_ROUNDS: usize = 1000;
/// How long the readers may take to pass on the last lines.
const LAST_LINES: Duration = Duration::from_secs(5);

/// The command of the command line.
#[derive(Clone, Debug)]
pub struct Program {
    /// The path is absolute, because the command starts in another folder.
    path: PathBuf,
    words: Vec<OsString>,
}

/// A started command with the readers of its output.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: i32,
    ended: Option<ExitStatus>,
    readers: [JoinHandle<()>; 2],
    pub stdin: Option<ChildStdin>,
}

/// The input of a command.
pub enum Input {
    Nothing,
    File(File),
    Pipe,
}

impl Program {
    /// Finds the program in PATH.
    ///
    /// # Errors
    /// If the program does not exist.
    pub fn find(words: &[OsString]) -> Result<Self, String> {
        let Some(name) = words.first() else { return Err("the command is missing".to_owned()) };
        let shown = name.to_string_lossy();
        let candidates: Vec<PathBuf> = if name.as_encoded_bytes().contains(&b'/') {
            vec![PathBuf::from(name)]
        } else {
            let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
            std::env::split_paths(&path).map(|folder| folder.join(name)).collect()
        };
        let found = candidates.iter().find(|path| is_program(path));
        let found = found.ok_or_else(|| format!("`{shown}` is not a program"))?;
        let path = std::path::absolute(found).map_err(|error| format!("`{shown}`: {error}"))?;
        Ok(Program { path, words: words.to_vec() })
    }

    /// Starts the command.
    ///
    /// # Errors
    /// If the process cannot be started. A command that cannot replace the new process ends with
    /// [`NO_PROGRAM`].
    pub fn start<'a>(
        &self,
        folder: &Path,
        variables: impl Iterator<Item = (String, &'a OsStr)>,
        input: Input,
        present: &Present,
        log: &PodLog,
    ) -> io::Result<Process> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(BECOME).arg(getpid().as_raw_nonzero().to_string()).arg(&self.path).args(&self.words);
        command.current_dir(folder).envs(variables).stdout(Stdio::piped()).stderr(Stdio::piped());
        match input {
            Input::Nothing => command.stdin(Stdio::null()),
            Input::File(file) => command.stdin(file),
            Input::Pipe => command.stdin(Stdio::piped()),
        };
        let mut child = command.spawn()?;
        let no_pipe = || io::Error::other("the command has no pipe");
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).ok_or_else(no_pipe)?;
        let out = child.stdout.take().ok_or_else(no_pipe)?;
        let err = child.stderr.take().ok_or_else(no_pipe)?;
        let readers = [
            tokio::spawn(present.clone().read(Stream::Out, out, log.clone())),
            tokio::spawn(present.clone().read(Stream::Err, err, log.clone())),
        ];
        let stdin = child.stdin.take();
        Ok(Process { child, pid, ended: None, readers, stdin })
    }
}

/// Becomes the command in a session of its own. Returns only with an error.
///
/// The kernel kills the command when the shim is killed. That needs no `unsafe` here, because this
/// process sets it for itself.
pub fn become_command(arguments: &[OsString]) -> io::Error {
    let [parent, path, name, rest @ ..] = arguments else {
        return io::Error::other("the command is missing");
    };
    #[cfg(target_os = "linux")]
    {
        if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
            return error.into();
        }
        let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
        if now.as_deref() != parent.to_str() {
            return io::Error::other("the shim has ended");
        }
        // When memory runs out, the kernel should end the command, so that the shim can report it.
        let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = parent;
    if let Err(error) = rustix::process::setsid() {
        return error.into();
    }
    std::process::Command::new(path).arg0(name).args(rest).exec()
}

impl Process {
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.ended = Some(status);
        Ok(status)
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether the process has ended. Does not wait.
    pub fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_some()
    }

    /// Signals the process group of the whole session. Before the command has its session, only the
    /// process itself gets the signal.
    pub fn signal(&self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.ended.is_none()) else { return };
        if kill_process_group(pid, signal).is_err() {
            let _ = kill_process(pid, signal);
        }
    }

    /// Sends SIGTERM, and SIGKILL after `patience`.
    pub async fn stop(&mut self, patience: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(patience, self.wait()).await.is_err() {
            self.signal(Signal::KILL);
            let _ = self.wait().await;
        }
    }

    /// Ends every remaining process, and passes on the last lines.
    pub async fn finish(mut self) {
        self.signal(Signal::KILL);
        if self.ended.is_none() {
            let _ = self.child.start_kill();
            let _ = self.wait().await;
        }
        sweep(None).await;
        for reader in &mut self.readers {
            if tokio::time::timeout(LAST_LINES, &mut *reader).await.is_err() {
                reader.abort();
            }
        }
    }
}

/// Kills and reaps every process below the shim, except for `keep` and the processes below it.
pub async fn sweep(keep: Option<i32>) {
    for _ in 0..SWEEP_ROUNDS {
        let left = tree::below_self(keep);
        if left.is_empty() {
            return;
        }
        for entry in left {
            let Some(pid) = Pid::from_raw(entry.pid) else { continue };
            let _ = kill_process(pid, Signal::KILL);
            if entry.is_child {
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
        }
        tokio::time::sleep(SWEEP_PAUSE).await;
    }
}

/// Reaps adopted processes that have ended by themselves while the item runs.
pub fn reap(entries: &[tree::Entry], keep: i32) {
    for entry in entries.iter().filter(|entry| entry.is_child && entry.is_zombie && entry.pid != keep) {
        let _ = Pid::from_raw(entry.pid).map(|pid| waitpid(Some(pid), WaitOptions::NOHANG));
    }
}

/// Makes this process the parent of its orphaned descendants.
///
/// # Errors
/// If the kernel does not support it.
pub fn adopt_orphans() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(getpid()))?;
    Ok(())
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
