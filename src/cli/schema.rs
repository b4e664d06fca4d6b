//! `longhaul schema`: the JSON Schema of the configuration file, for editors.

use std::io::{self, Write};

use crate::config;

pub fn print(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{:#}", config::schema())
}
