//! The commands that `serve` gives itself: nobody types them.

use std::io;

use crate::cli::exit;
use crate::knative::serve::guard;

/// Kills the workers that are left when standard input ends.
///
/// # Errors
/// When standard input can't be read.
pub fn watch() -> io::Result<u8> {
    guard::watch(io::stdin().lock())?;
    Ok(exit::OK)
}

/// Becomes the worker.
///
/// # Errors
/// When `err` can't be written.
pub fn become_worker(words: &[String], err: &mut dyn io::Write) -> io::Result<u8> {
    let error = guard::become_worker(words);
    exit::say(
        err,
        &format!("`{}` can't be started: {error}", words.join(" ")),
        "check that it is a program",
    )?;
    Ok(exit::NO_PROGRAM)
}
