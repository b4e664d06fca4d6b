//! Makes sure that no worker outlives `serve`, with two small programs that the binary contains.
//!
//! A death signal (`PR_SET_PDEATHSIG`) would need `unsafe` and reach only the worker itself, not
//! the processes that it has started. A guard that waits for the end of a pipe reaches the whole
//! process group, and the kernel closes that pipe however `serve` ends.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

/// The hidden command of [`watch`].
pub const GUARD_COMMAND: &str = "worker-guard";
/// The hidden command of [`become_worker`].
pub const WORKER_COMMAND: &str = "worker-start";

/// Reads which process groups have begun and ended. When the input ends, kills the remaining ones.
///
/// # Errors
/// The input cannot be read. All remaining groups have been killed in that case too.
pub fn watch(input: impl BufRead) -> io::Result<()> {
    let mut groups = HashSet::new();
    let ended = follow(input, &mut groups);
    for group in groups {
        if let Some(group) = Pid::from_raw(group) {
            // The group may have ended meanwhile.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
    ended
}

fn follow(input: impl BufRead, groups: &mut HashSet<i32>) -> io::Result<()> {
    for line in input.lines() {
        let line = line?;
        match (line.get(..1), line.get(1..).and_then(|number| number.parse().ok())) {
            (Some("+"), Some(group)) => groups.insert(group),
            (Some("-"), Some(group)) => groups.remove(&group),
            _ => false,
        };
    }
    Ok(())
}

/// Tells the guard, through standard input, the number of this process group, and becomes the
/// worker. Returns only with an error.
pub fn become_worker(words: &[String]) -> io::Error {
    let Some((program, arguments)) = words.split_first() else {
        return io::Error::other("the command is missing");
    };
    match announce() {
        Ok(()) => Command::new(program).args(arguments).stdin(Stdio::null()).exec(),
        Err(error) => error,
    }
}

fn announce() -> io::Result<()> {
    let mut guard = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    // A pipe writes so few bytes whole, in one piece.
    guard.write_all(begun(std::process::id()).as_bytes())
}

/// Returns the line that tells the guard about a group. A group has the number of its first
/// process.
fn begun(group: u32) -> String {
    format!("+{group}\n")
}

/// Returns the line that tells the guard that a group has ended.
pub fn ended(group: i32) -> String {
    format!("-{group}\n")
}
