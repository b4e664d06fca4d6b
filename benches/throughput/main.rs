//! How fast items of 1 KiB go from each broker to a sink that does nothing, 200 in flight, beside
//! what `wrk` and the same HTTP client fed from memory reach against that sink in the same run.
//!
//! Each part is a process of its own, so that CPU time can be told apart. Run it with
//! `benches/run`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints what it measured")]

use std::process::ExitCode;

mod brokers;
mod child;
mod client;
mod counter;
mod measure;
mod rest;
mod sink;
mod table;

/// As the bridge has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    // The program starts itself again in these roles.
    let result = match arguments.get(1).map(String::as_str) {
        Some("sink") => runtime.block_on(sink::serve()),
        Some("client") => {
            runtime.block_on(client::send(&arguments[2], arguments[3].parse().expect("a number")))
        }
        _ => runtime.block_on(measure::all()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
