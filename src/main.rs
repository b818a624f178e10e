//! Starts the program and turns its outcome into an exit status.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(gatelet::cli::run(std::env::args_os()))
}
