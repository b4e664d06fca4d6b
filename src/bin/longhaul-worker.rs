//! Only `longhaul worker`, as a small program to copy into other images.

use std::process::ExitCode;

fn main() -> ExitCode {
    match longhaul::cli::worker::main() {
        Ok(code) => ExitCode::from(code),
        Err(_) => ExitCode::FAILURE,
    }
}
