//! `longhaul health`: whether the bridge is ready, for health checks of containers.

use std::io::{self, Write};

use serde::Deserialize;

use super::client::{self, Client, Failure};
use super::exit;
use super::table::shown;

/// The exit code for "not ready". Docker reserves all other codes but 0.
const NOT_READY: u8 = 1;

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    client: client::Options,
}

/// The answer of `/readyz`.
#[derive(Debug, Deserialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<Reason>,
}

#[derive(Debug, Deserialize)]
struct Reason {
    pipeline: String,
    since: String,
    text: String,
    help: String,
}

/// Prints `ready`, or each reason why the bridge is not ready.
///
/// # Errors
/// If `out` or `err` cannot be written.
pub fn run(options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let asked = Client::new(&options.client.server).and_then(|client| {
        let (status, text) = client.probe(&["readyz"])?;
        let parsed = serde_json::from_str::<Readiness>(&text).map_err(|_| {
            Failure::usage(
                format!("{} does not answer as a bridge does: status {status}", client.address()),
                "give the address of the bridge's `admin.listen` with --url",
            )
        });
        Ok((text, parsed?))
    });
    let (text, readiness) = match asked {
        Ok(answer) => answer,
        Err(failure) => {
            failure.say(err)?;
            return Ok(NOT_READY);
        }
    };
    if options.client.json {
        writeln!(out, "{}", text.trim_end())?;
    } else if readiness.ready {
        writeln!(out, "ready")?;
    }
    for Reason { pipeline, since, text, help } in readiness.reasons.iter().filter(|_| !options.client.json) {
        writeln!(out, "{pipeline}: {} (since {since})\n  help: {}", shown(text), shown(help))?;
    }
    Ok(if readiness.ready { exit::OK } else { NOT_READY })
}
