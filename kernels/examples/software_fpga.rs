//! The software FPGA with the HLS kernels of this checkout, to try pipelines on "a card" where
//! there
//! is none. Needs XRT (Debian: libxrt1) and g++.
//!
//!     cargo build -p edgescale-kernels --example software_fpga
//!     target/debug/examples/software_fpga prepare FOLDER > FOLDER.env
//!
//! The second line says what to put into the environment of `edgescale`. Without arguments it is
//! the device process that XRT starts.

use std::path::Path;
use std::process::ExitCode;

use hw::xrt::emulation::{Program, prepare};
use hw::xrt::software;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => software::serve().map_err(|error| error.to_string()),
        ["prepare", folder] => fill(Path::new(folder)),
        _ => Err("use: software_fpga [prepare FOLDER]".to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("software_fpga: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn fill(folder: &Path) -> Result<(), String> {
    let named = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir(folder).map_err(named)?;
    let folder = std::path::absolute(folder).map_err(named)?;
    let image = edgescale_kernels::hls::emulated(&folder.join("circuit.so"), &[])
        .map_err(|error| error.to_string())?;
    let path = std::env::current_exe().map_err(|error| error.to_string())?;
    let card = Program { path, arguments: Vec::new() };
    let prepared = prepare(&folder, &card, &image).map_err(named)?;
    let prepared = prepared.ok_or("no XRT with software emulation here: install libxrt1")?;
    if !prepared.is_mended {
        eprintln!("software_fpga: XRT's library was not mended; if it crashes, that is why");
    }
    println!("export EDGESCALE_XCLBIN='{}'", prepared.xclbin.display());
    for (name, value) in prepared.environment {
        println!("export {name}='{}'", value.to_string_lossy());
    }
    Ok(())
}
