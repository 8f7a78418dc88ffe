//! The binary `edgescale`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    edgescale::cli::run()
}
