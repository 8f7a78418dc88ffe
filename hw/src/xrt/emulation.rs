//! A folder in which XRT's software emulation finds the software FPGA in place of the vendor's, for
//! tests and for trying pipelines on "a card" where there is none.
//!
//! XRT 2.13 as Debian packages it has a bug there: `CpuemShim::alloc_void` drops what `realloc`
//! returns and writes to the freed block. The copy of that library in the folder is mended by one
//! byte where the pattern is found, and used as it is where it is not.

use std::ffi::OsString;
use std::io::Result;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::link::LIBRARIES;
use super::xclbin::Xclbin;

/// Where XRT looks for the device process, from `XILINX_VITIS`.
const MODEL: &str = "data/emulation/unified/cpu_em/generic_pcie/model/genericpciemodel";

/// A program that calls [`super::software::serve`] when it is started so.
#[derive(Debug, Clone)]
pub struct Program {
    pub path: PathBuf,
    pub arguments: Vec<String>,
}

/// A folder that is ready.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub xclbin: PathBuf,
    /// For the worker of [`super::Setup`].
    pub environment: Vec<(String, OsString)>,
    /// Whether the library's bug was found and mended.
    pub is_mended: bool,
}

/// Fills an empty folder; `None` where this machine has no XRT with software emulation.
pub fn prepare(folder: &Path, card: &Program, image: &Xclbin) -> Result<Option<Prepared>> {
    let has_emulation = |place: &&&str| {
        let has = |name: &str| Path::new(place).join(name).exists();
        has("libxrt_coreutil.so.2") && has("libxrt_swemu.so.2")
    };
    let Some(libraries) = LIBRARIES.iter().find(has_emulation) else { return Ok(None) };
    let home = folder.join("xrt");
    let is_mended = libraries_into(Path::new(libraries), &home.join("lib"))?;
    let vitis = folder.join("vitis");
    let model = vitis.join(MODEL);
    write_program(&model, card)?;
    let xclbin = folder.join("image.xclbin");
    std::fs::write(&xclbin, image.write())?;
    let text = |name: &str, value: &Path| (name.to_string(), value.as_os_str().to_owned());
    let mut environment = vec![text("XILINX_XRT", &home), text("XILINX_VITIS", &vitis)];
    environment.push(text("XCL_EMULATION_MODE", Path::new("sw_emu")));
    Ok(Some(Prepared { xclbin, environment, is_mended }))
}

/// Compiles HLS sources to the library that is the software FPGA's circuit, as many at once as the
/// machine has cores. The error is what the compiler says, or that there is none.
pub fn compile(sources: &[PathBuf], library: &Path) -> std::result::Result<(), Uncompiled> {
    let folder = library.with_extension("objects");
    std::fs::create_dir_all(&folder).map_err(|e| Uncompiled::Refused(e.to_string()))?;
    let objects: Vec<PathBuf> = (0..sources.len()).map(|n| folder.join(format!("{n}.o"))).collect();
    let next = AtomicUsize::new(0);
    let each = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some((source, object)) = sources.get(number).zip(objects.get(number)) else {
            return Ok(());
        };
        let mut compiler = Command::new("g++");
        compiler.args(["-std=c++14", "-O2", "-c", "-fPIC", "-Wall", "-Werror"]);
        compiler.args(["-Wno-unknown-pragmas", "-I", INCLUDE]).arg(source).arg("-o").arg(object);
        succeed(&mut compiler)?;
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let compiled = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores.min(sources.len())).map(|_| scope.spawn(each)).collect();
        let ends = threads.into_iter().map(|t| t.join().unwrap_or_else(|e| resume_unwind(e)));
        ends.fold(Ok(()), std::result::Result::and)
    });
    let linked = compiled.and_then(|()| {
        succeed(Command::new("g++").arg("-shared").arg("-o").arg(library).args(&objects))
    });
    std::fs::remove_dir_all(&folder).map_err(|e| Uncompiled::Refused(e.to_string()))?;
    linked
}

/// Runs a compiler to its end.
fn succeed(compiler: &mut Command) -> std::result::Result<(), Uncompiled> {
    let output = compiler.output().map_err(|_| Uncompiled::NoCompiler)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Uncompiled::Refused(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

/// Why there is no library.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Uncompiled {
    #[error("no g++ here")]
    NoCompiler,
    #[error("{0}")]
    Refused(String),
}

/// The headers that stand in for the vendor's.
const INCLUDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/xilinx/include");

/// Links to XRT's parts, and a copy of the one that is mended.
fn libraries_into(from: &Path, to: &Path) -> Result<bool> {
    std::fs::create_dir_all(to)?;
    symlink(from.join("xrt"), to.join("xrt"))?;
    let mut is_mended = false;
    for entry in std::fs::read_dir(from)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if !text.starts_with("libxrt_") || !text.ends_with(".so.2") {
            continue;
        }
        if text == "libxrt_swemu.so.2" {
            let mut library = std::fs::read(from.join(&name))?;
            is_mended = mend(&mut library);
            std::fs::write(to.join(&name), library)?;
        } else {
            symlink(from.join(&name), to.join(&name))?;
        }
    }
    Ok(is_mended)
}

/// Makes `alloc_void` keep the block that `realloc` returned: its jump past the store lands on the
/// store. Says whether the code was found, once.
fn mend(library: &mut [u8]) -> bool {
    /// `test rax, rax` and a jump over less than 26 bytes back.
    const WRONG: [u8; 5] = [0x48, 0x85, 0xC0, 0x75, 0xE6];
    const RIGHT: u8 = 0xDF;
    /// `mov [rbx + place], rax`, `mov rax, rbp`, and `mov rdi, [rbx + place]`.
    const STORE: [u8; 3] = [0x48, 0x89, 0x83];
    const RESULT: [u8; 3] = [0x48, 0x89, 0xE8];
    const LOAD: [u8; 3] = [0x48, 0x8B, 0xBB];
    const STORE_BEFORE: usize = 0x1C;
    let is_there = |at: usize| {
        let part = |from: usize, bytes: usize| library.get(from..from + bytes);
        let Some(store) = at.checked_sub(STORE_BEFORE) else { return false };
        part(at, 5) == Some(&WRONG)
            && part(store, 3) == Some(&STORE)
            && part(store + 7, 3) == Some(&RESULT)
            && part(at + 5, 3) == Some(&LOAD)
            && part(store + 3, 4) == part(at + 8, 4)
    };
    let places: Vec<usize> = (0..library.len()).filter(|at| is_there(*at)).collect();
    let [place] = places[..] else { return false };
    library[place + 4] = RIGHT;
    true
}

/// A script that becomes the program: XRT starts it without arguments.
fn write_program(path: &Path, program: &Program) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let words = [program.path.to_string_lossy().into_owned()];
    let words = words.iter().chain(&program.arguments).map(|word| quoted(word));
    let script = format!("#!/bin/sh\nexec {}\n", words.collect::<Vec<_>>().join(" "));
    std::fs::write(path, script)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests;
