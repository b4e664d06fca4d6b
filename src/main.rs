//! The binary. Everything else is in the library.

use std::process::ExitCode;

/// Each item costs dozens of small allocations, most of them in the HTTP client. With glibc's
/// allocator they take a fifth of all CPU time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match longhaul::cli::main() {
        Ok(code) => ExitCode::from(code),
        // The reader of the output has left, which is not a failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
