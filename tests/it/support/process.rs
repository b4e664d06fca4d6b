//! The program itself, as a process that a test can stop or kill.

use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, Command};

use super::DEADLINE;

pub struct Longhaul {
    child: Child,
    folder: tempfile::TempDir,
}

impl Longhaul {
    /// Starts `longhaul run` with this configuration.
    pub fn run(config: &str) -> Self {
        Longhaul::run_with(config, "info", &[])
    }

    /// Starts it with `--log` and more environment.
    pub fn run_with(config: &str, log: &str, environment: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("longhaul.yaml");
        std::fs::write(&file, config).unwrap();
        let lines = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
        command
            .args(["--log", log, "run", "-c"])
            .arg(&file)
            .envs(environment.iter().cloned())
            .stderr(lines)
            .stdout(Stdio::null())
            .kill_on_drop(true);
        Longhaul { child: command.spawn().unwrap(), folder }
    }

    /// Starts it with a limit of open files.
    pub fn run_limited(config: &str, files: u32) -> Self {
        Longhaul::run_after(config, &format!("ulimit -n {files}"))
    }

    /// The same with a limit of open files that the program may raise.
    pub fn run_with_soft_limit(config: &str, files: u32) -> Self {
        Longhaul::run_after(config, &format!("ulimit -Sn {files}"))
    }

    /// The same after a command of the shell.
    fn run_after(config: &str, command_before: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("longhaul.yaml");
        std::fs::write(&file, config).unwrap();
        let lines = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("{command_before}; exec \"$0\" run -c \"$1\""))
            .arg(env!("CARGO_BIN_EXE_longhaul"))
            .arg(&file)
            .stderr(lines)
            .stdout(Stdio::null())
            .kill_on_drop(true);
        Longhaul { child: command.spawn().unwrap(), folder }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// The largest resident memory so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// The resident memory now, in bytes.
    pub fn memory(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let pid = self.child.id().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kilobytes * 1024
    }

    pub fn terminate(&self) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Sends SIGKILL, and waits for the end.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    pub async fn wait(&mut self) -> ExitStatus {
        match tokio::time::timeout(DEADLINE, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("not within {DEADLINE:?}: the end of the process"),
        }
    }

    /// Asks it to drain, and expects that it ends well.
    pub async fn stop(self) {
        self.terminate();
        self.drained().await;
    }

    /// Expects that the drain that was asked for ends well. A second request would end it at once.
    pub async fn drained(mut self) {
        let status = self.wait().await;
        assert!(status.success(), "{status}");
    }
}

/// A failing test shows what the program said. Without the log, a failure that does not recur
/// cannot be explained.
#[expect(clippy::print_stderr, reason = "the harness shows it with the failure")]
impl Drop for Longhaul {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of the program in the failed test:\n{}", self.log());
        }
    }
}
