//! A child process: its CPU time while it lives, and its end.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child as Process, Command};

pub struct Child {
    process: Process,
}

impl Child {
    /// Starts this program again in another role, and reads the first line that it prints, if the
    /// role prints one.
    pub async fn role(arguments: &[&str], speaks: Speaks) -> Result<(Self, String)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn()?;
        let mut line = String::new();
        if speaks == Speaks::ALine {
            let stdout = process.stdout.take().context("no standard output")?;
            BufReader::new(stdout).read_line(&mut line).await?;
        }
        Ok((Child { process }, line.trim().to_owned()))
    }

    pub fn start(mut command: Command) -> Result<Self> {
        Ok(Child { process: command.kill_on_drop(true).spawn()? })
    }

    /// Returns user and system time so far, in seconds (`/proc/PID/stat`, fields 14 and 15, in
    /// hundredths).
    pub fn cpu_seconds(&self) -> Result<f64> {
        let pid = self.process.id().context("the process has ended")?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<&str> =
            stat.rsplit_once(')').context("an odd stat line")?.1.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(ticks / 100.0)
    }

    /// Resident memory, in bytes.
    pub fn resident_bytes(&self) -> Result<f64> {
        let pid = self.process.id().context("the process has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1024.0)
    }

    /// Ends it at once.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    pub async fn wait(&mut self) -> Result<()> {
        let status = self.process.wait().await?;
        if !status.success() {
            bail!("a process ended with {status}");
        }
        Ok(())
    }

    /// Asks it to drain, and waits for its end.
    pub async fn terminate(mut self) -> Result<()> {
        let pid = self.process.id().context("the process has ended")?;
        Command::new("kill").arg("-TERM").arg(pid.to_string()).status().await?;
        self.wait().await
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    ALine,
    Nothing,
}
