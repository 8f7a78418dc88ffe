//! The binary `edgescale`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Rows, messages and tasks are many small pieces of memory; decision 78 has the figures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    edgescale::cli::run()
}
