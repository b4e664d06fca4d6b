//! Exit codes, those of sysexits.h where one fits, and how an error looks.

use std::io::{self, Write};

pub const OK: u8 = 0;
/// `EX_USAGE`: the command line.
pub const USAGE: u8 = 64;
/// `EX_UNAVAILABLE`: a broker refused for good, or a port is in use.
pub const UNAVAILABLE: u8 = 69;
/// `EX_TEMPFAIL`: drained, but work was cut short or given back late.
pub const CUT: u8 = 75;
/// The worker of a replica cannot be started, as a shell says it.
pub const NO_PROGRAM: u8 = 127;
/// `EX_CONFIG`: the configuration file.
pub const CONFIG: u8 = 78;

/// Writes an error, and the help on a line of its own.
///
/// # Errors
/// When `err` can't be written.
pub fn say(err: &mut dyn Write, what: &dyn std::fmt::Display, hint: &str) -> io::Result<()> {
    writeln!(err, "error: {what}\n  help: {hint}")
}
