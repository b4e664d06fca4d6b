//! Hidden commands that `serve` starts for itself.

use std::io;

use crate::cli::exit;
use crate::knative::serve::guard;

/// Waits for the end of standard input, and then kills the remaining workers.
///
/// # Errors
/// If standard input cannot be read.
pub fn watch() -> io::Result<u8> {
    guard::watch(io::stdin().lock())?;
    Ok(exit::OK)
}

/// Becomes the worker.
///
/// # Errors
/// If `err` cannot be written.
pub fn become_worker(words: &[String], err: &mut dyn io::Write) -> io::Result<u8> {
    let error = guard::become_worker(words);
    exit::say(
        err,
        &format!("`{}` can't be started: {error}", words.join(" ")),
        "check that it is a program",
    )?;
    Ok(exit::NO_PROGRAM)
}
