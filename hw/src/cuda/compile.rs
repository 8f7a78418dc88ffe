//! CUDA C++ to code for a device, through NVRTC. It needs no GPU and no driver.
//!
//! The library is opened at run time: the system's, or that of a folder which holds
//! `libnvrtc.so.13` and `libnvrtc-builtins.so.13.0`, as the PyPI package does.

use std::ffi::{CStr, CString};
use std::path::Path;

use cudarc::nvrtc::{result, sys};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::tuning::Size;

/// What every kernel source starts with.
pub(super) const PREAMBLE: &str = include_str!("prelude.cu");
/// Longest complaint of the compiler that is passed on.
const LOG_BYTES_MAX: usize = 16 << 10;

/// For which devices code is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Text that drivers of devices from this compute capability on translate further.
    Ptx(u32),
    /// Machine code for devices of exactly this compute capability.
    Cubin(u32),
}

impl Target {
    fn option(self) -> String {
        match self {
            Target::Ptx(capability) => format!("--gpu-architecture=compute_{capability}"),
            Target::Cubin(capability) => format!("--gpu-architecture=sm_{capability}"),
        }
    }
}

/// Whether NVRTC is there, opened from `folder` where the system has none.
pub fn is_available(folder: Option<&Path>) -> bool {
    // SAFETY: opening the library runs its initialisers, which is what it is for.
    if unsafe { sys::is_culib_present() } {
        return true;
    }
    let Some(folder) = folder else { return false };
    // The builtins first: NVRTC looks for them by name when it compiles. Opened for all, a library
    // is found by that name from then on.
    for name in ["libnvrtc-builtins.so.13.0", "libnvrtc.so.13"] {
        // SAFETY: opening the library runs its initialisers, which is what it is for.
        match unsafe { Library::open(Some(folder.join(name)), RTLD_NOW | RTLD_GLOBAL) } {
            // Code of the library may run as long as the process does.
            Ok(library) => std::mem::forget(library),
            Err(error) => {
                tracing::debug!(%error, "no NVRTC");
                return false;
            }
        }
    }
    // SAFETY: as above.
    unsafe { sys::is_culib_present() }
}

/// Of NVRTC, as major and minor; zeros where it does not say. Only where [`is_available`] said yes.
pub(super) fn version() -> (i32, i32) {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both numbers outlive the call.
    let asked = unsafe { sys::nvrtcVersion(&mut major, &mut minor) };
    asked.result().map_or((0, 0), |()| (major, minor))
}

/// Compiles a source, preamble included, for blocks of a size; the error is what the compiler says.
/// Only where [`is_available`] said yes.
pub fn compile(source: &str, size: usize, target: Target) -> Result<Vec<u8>, String> {
    let text = CString::new(source).map_err(|_| "a source with a NUL".to_string())?;
    let program = Program(result::create_program(&text, None).map_err(|e| format!("{e:?}"))?);
    let [group, span] = Size::of(size).options();
    let options =
        [target.option(), group, span, "--std=c++17".to_string(), "--fmad=false".to_string()];
    // SAFETY: the program was just made.
    let compiled = unsafe { result::compile_program(program.0, &options) };
    compiled.map_err(|error| program.log().unwrap_or_else(|| format!("{error:?}")))?;
    match target {
        Target::Ptx(_) => {
            // SAFETY: the program is compiled.
            let text = unsafe { result::get_ptx(program.0) }.map_err(|e| format!("{e:?}"))?;
            Ok(text.into_iter().map(|byte| byte as u8).collect())
        }
        Target::Cubin(_) => program.cubin(),
    }
}

struct Program(sys::nvrtcProgram);

impl Program {
    fn log(&self) -> Option<String> {
        // SAFETY: the program exists.
        let raw = unsafe { result::get_program_log(self.0) }.ok()?;
        let bytes: Vec<u8> = raw.into_iter().map(|byte| byte as u8).take(LOG_BYTES_MAX).collect();
        let text = CStr::from_bytes_until_nul(&bytes).map(CStr::to_bytes).unwrap_or(&bytes);
        Some(String::from_utf8_lossy(text).into_owned())
    }

    fn cubin(&self) -> Result<Vec<u8>, String> {
        let mut bytes = 0;
        // SAFETY: the program is compiled, and `bytes` outlives the call.
        let found = unsafe { sys::nvrtcGetCUBINSize(self.0, &mut bytes) };
        found.result().map_err(|e| format!("{e:?}"))?;
        let mut code = vec![0u8; bytes];
        // SAFETY: the code has the size that was just asked for.
        let read = unsafe { sys::nvrtcGetCUBIN(self.0, code.as_mut_ptr().cast()) };
        read.result().map_err(|e| format!("{e:?}"))?;
        Ok(code)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program exists and nobody uses it any more.
        if let Err(error) = unsafe { result::destroy_program(self.0) } {
            tracing::debug!(?error, "an NVRTC program is not destroyed");
        }
    }
}
