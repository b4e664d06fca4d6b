//! `longhaul schema`: prints the keys of the configuration file, for editors and for readers.

use std::io::{self, Write};

use crate::api;
use crate::config;
use crate::telemetry;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Print the reference in Markdown instead.
    #[arg(long)]
    markdown: bool,
    /// Print the reference of the metrics in Markdown instead.
    #[arg(long, conflicts_with = "markdown")]
    metrics: bool,
    /// Print the OpenAPI document of the admin interface instead.
    #[arg(long, conflicts_with_all = ["markdown", "metrics"])]
    openapi: bool,
}

pub fn print(options: &Options, out: &mut dyn Write) -> io::Result<()> {
    if options.metrics {
        return write!(out, "{}", telemetry::reference());
    }
    if options.openapi {
        return writeln!(out, "{:#}", api::openapi::document());
    }
    if options.markdown {
        return write!(out, "{}", config::reference());
    }
    writeln!(out, "{:#}", config::schema())
}
