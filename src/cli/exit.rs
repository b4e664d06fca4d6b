//! Defines the exit codes, from sysexits.h where one fits, and prints errors.

use std::io::{self, Write};

pub const OK: u8 = 0;
/// Only warnings were found, by a command that examines something.
pub const WARNING: u8 = 1;
/// `EX_USAGE`: the command line is wrong.
pub const USAGE: u8 = 64;
/// `EX_UNAVAILABLE`: a broker refused for good, or a port is in use.
pub const UNAVAILABLE: u8 = 69;
/// `EX_TEMPFAIL`: drained, but work was cut short or returned late.
pub const CUT: u8 = 75;
/// The worker of a replica cannot be started. Shells use the same code.
pub const NO_PROGRAM: u8 = 127;
/// `EX_CONFIG`: the configuration file is wrong.
pub const CONFIG: u8 = 78;

/// Writes an error, and the help on a line of its own.
///
/// # Errors
/// If `err` cannot be written.
pub fn say(err: &mut dyn Write, what: &dyn std::fmt::Display, hint: &str) -> io::Result<()> {
    writeln!(err, "error: {what}\n  help: {hint}")
}
