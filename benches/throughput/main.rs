//! Measures whole bridges with real brokers: how fast items of 1 KiB go from each broker to a sink
//! that does nothing, and the figures of [`rows`].
//!
//! Each part is a process of its own, so that its CPU time can be measured. Run it with
//! `benches/run`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints what it measured")]

use std::process::ExitCode;

mod brokers;
mod child;
mod client;
mod counter;
mod measure;
mod rest;
mod rows;
mod sink;
mod table;

use rows::Row;

/// The bridge has the same allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Cargo adds `--bench` behind the arguments.
    let arguments: Vec<String> = std::env::args().filter(|argument| argument != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    // The program starts itself again in one of these roles.
    let result = match arguments.get(1).map(String::as_str) {
        Some("sink") => runtime.block_on(sink::serve()),
        Some("client") => {
            runtime.block_on(client::send(&arguments[2], arguments[3].parse().expect("a number")))
        }
        Some("size") => runtime.block_on(rows::size()),
        name => match Row::ALL.iter().find(|(row, _)| name == Some(*row)) {
            Some((_, row)) => runtime.block_on(rows::measure(*row)),
            None => runtime.block_on(measure::all()),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
