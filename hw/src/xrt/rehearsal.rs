//! For tests of this crate and of others: XRT's software emulation, with the test program itself as
//! worker and as software FPGA.
//!
//! A test program has a test that calls [`worker`] and one that calls [`card`]; both do nothing
//! unless the program was started by [`setup`] or by what that started.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::emulation::{Prepared, Program, prepare};
use super::xclbin::Xclbin;
use super::{Setup, serve_worker, software};

/// Set for the processes that are the test program again.
pub(crate) const ROLE: &str = "EDGESCALE_XRT_ROLE";

/// The names of the tests that are worker and card, as the test harness knows them.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    pub worker: &'static str,
    pub card: &'static str,
}

/// In the test that is the worker.
pub fn worker() {
    if std::env::var(ROLE).as_deref() == Ok("xrt")
        && let Err(error) = serve_worker()
    {
        eprintln!("the worker does not begin: {error}");
        std::process::exit(1);
    }
}

/// In the test that is the software FPGA.
pub fn card() {
    if std::env::var_os(ROLE).is_some() {
        let served = software::serve();
        // Nobody reads what the test harness would still say.
        std::process::exit(i32::from(served.is_err()));
    }
}

/// How to reach the emulated card with this image; `None`, said aloud, where there is no XRT.
pub fn setup(image: &Xclbin, names: Names) -> Option<Setup> {
    let prepared = folder().and_then(|folder| prepare(&folder, &this_program(names.card)?, image));
    match prepared {
        Ok(Some(prepared)) => Some(with(prepared, names.worker)),
        Ok(None) => {
            aloud::skipped!("no XRT (libxrt1); install it with ./tools.sh test");
            None
        }
        Err(error) => panic!("no folder for the emulation: {error}"),
    }
}

fn with(prepared: Prepared, worker: &str) -> Setup {
    let Program { path, arguments } = this_program(worker).unwrap_or_else(|e| panic!("{e}"));
    let mut environment = prepared.environment;
    environment.push((ROLE.to_string(), "xrt".into()));
    Setup {
        program: path,
        arguments,
        xclbins: vec![prepared.xclbin],
        environment,
        kernel_timeout: Duration::from_secs(60),
        answer_timeout: Duration::from_secs(60),
    }
}

pub(crate) fn this_program(test: &str) -> std::io::Result<Program> {
    let words = ["--exact", test, "--nocapture", "--test-threads=1"];
    let arguments = words.map(str::to_string).to_vec();
    Ok(Program { path: std::env::current_exe()?, arguments })
}

/// A folder beside the test program, empty, that the next run uses again.
pub fn folder() -> std::io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let name = program.file_name().unwrap_or_default();
    let beside = program.parent().unwrap_or(Path::new("."));
    let folder = beside.join("xrt-emulation").join(name);
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
