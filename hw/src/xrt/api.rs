//! The functions of XRT's C interface that are used here, opened at run time from
//! `libxrt_coreutil.so.2`. Only that library is opened: beside `libxrt_core` it would not load the
//! emulation. Names and signatures: `xrt/xrt_device.h`, `xrt_kernel.h` and `xrt_bo.h` of XRT 2.13.

use std::ffi::{CString, c_char, c_int, c_uint, c_ulong, c_void};
use std::io::Error;
use std::path::PathBuf;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::wire::{Failure, Fault};
use super::worker::Outcome;

const LIBRARY: &str = "libxrt_coreutil.so.2";
/// The oldest version of XRT 2 that is used: from it on runs can be waited for with a limit.
pub(crate) const MINOR_MIN: u32 = 8;

pub(crate) type Handle = *mut c_void;
/// A run that has ended well.
pub(crate) const COMPLETED: c_int = 4;
/// States of a run that has not ended: new, queued, running, submitted.
pub(crate) const UNDERWAY: [c_int; 4] = [1, 2, 3, 7];
pub(crate) const TO_DEVICE: c_int = 0;
pub(crate) const FROM_DEVICE: c_int = 1;

macro_rules! functions {
    ($($field:ident $symbol:literal: fn($($arg:ty),* $(; $dots:tt)?) $(-> $out:ty)?;)*) => {
        /// The opened library.
        pub(crate) struct Api {
            $(pub $field: unsafe extern "C" fn($($arg),* $(, $dots)?) $(-> $out)?,)*
            _library: Library,
        }

        impl Api {
            fn bind(library: Library) -> Result<Self, String> {
                Ok(Self {
                    $($field: {
                        // SAFETY: the signature is that of the vendor's header.
                        let found = unsafe { library.get($symbol) };
                        *found.map_err(|error| error.to_string())?
                    },)*
                    _library: library,
                })
            }
        }
    };
}

functions! {
    device_open b"xrtDeviceOpen\0": fn(c_uint) -> Handle;
    load b"xrtDeviceLoadXclbinFile\0": fn(Handle, *const c_char) -> c_int;
    uuid b"xrtDeviceGetXclbinUUID\0": fn(Handle, *mut u8) -> c_int;
    kernel_open b"xrtPLKernelOpen\0": fn(Handle, *const u8, *const c_char) -> Handle;
    group b"xrtKernelArgGroupId\0": fn(Handle, c_int) -> c_int;
    run_open b"xrtRunOpen\0": fn(Handle) -> Handle;
    set_arg b"xrtRunSetArg\0": fn(Handle, c_int; ...) -> c_int;
    start b"xrtRunStart\0": fn(Handle) -> c_int;
    wait_for b"xrtRunWaitFor\0": fn(Handle, c_uint) -> c_int;
    bo_alloc b"xrtBOAlloc\0": fn(Handle, usize, c_ulong, c_uint) -> Handle;
    bo_free b"xrtBOFree\0": fn(Handle) -> c_int;
    bo_write b"xrtBOWrite\0": fn(Handle, *const c_void, usize, usize) -> c_int;
    bo_read b"xrtBORead\0": fn(Handle, *mut c_void, usize, usize) -> c_int;
    bo_sync b"xrtBOSync\0": fn(Handle, c_int, usize, usize) -> c_int;
    bo_copy b"xrtBOCopy\0": fn(Handle, Handle, usize, usize, usize) -> c_int;
}

impl Api {
    /// Opens the library, and says its version where that is known.
    pub(crate) fn open() -> Outcome<(Self, String)> {
        let home = std::env::var_os("XILINX_XRT").map(PathBuf::from);
        let places = home.map(|home| home.join("lib").join(LIBRARY));
        let places = places.into_iter().chain([PathBuf::from(LIBRARY)]);
        let mut reason = String::new();
        for place in places {
            // SAFETY: opening the library runs its initialisers, which is what it is for.
            match unsafe { Library::open(Some(&place), RTLD_NOW | RTLD_LOCAL) } {
                Ok(library) => {
                    let version = version(&mapped());
                    check(&version)?;
                    let api = Self::bind(library).map_err(|missing| {
                        let text = format!("XRT {version} is too old or too new: {missing}");
                        Failure::new(Fault::Driver, text)
                    })?;
                    return Ok((api, version));
                }
                Err(error) => reason = error.to_string(),
            }
        }
        Err(Failure::new(Fault::Absent, format!("no XRT: {reason}")))
    }
}

/// What is mapped into this process, one file a line.
fn mapped() -> String {
    std::fs::read_to_string("/proc/self/maps").unwrap_or_default()
}

/// The version in the file name of the library: `2.13.0` of `libxrt_coreutil.so.2.13.0`; empty
/// where
/// the name has none.
fn version(maps: &str) -> String {
    let paths = maps.lines().filter_map(|line| line.split('/').next_back());
    let mut versions = paths.filter_map(|name| name.trim().strip_prefix("libxrt_coreutil.so."));
    versions.next().unwrap_or_default().to_string()
}

/// Refuses versions that are known not to do.
fn check(version: &str) -> Outcome<()> {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    let (major, minor) = (numbers.next(), numbers.next());
    let fits = match (major, minor) {
        (Some(Ok(major)), Some(Ok(minor))) => major == 2 && minor >= MINOR_MIN,
        // Nothing is known against it.
        _ => true,
    };
    match fits {
        true => Ok(()),
        false => {
            let text = format!("XRT {version} is here, 2.{MINOR_MIN} or a newer 2.x is needed");
            Err(Failure::new(Fault::Driver, text))
        }
    }
}

/// The failure of a call that has just failed, by the error number it left.
pub(crate) fn failed(doing: &str) -> Failure {
    let error = Error::last_os_error();
    let fault = match error.raw_os_error() {
        Some(libc::ENOMEM) => Fault::NoMemory,
        Some(libc::ENODEV | libc::EIO | libc::ETIMEDOUT) => Fault::Lost,
        _ => Fault::Failed,
    };
    Failure::new(fault, format!("{doing}: {error}"))
}

/// Text as the driver takes it.
pub(crate) fn text(from: &str) -> Outcome<CString> {
    let nul = |_| Failure::new(Fault::Failed, format!("{from:?} has a zero byte"));
    CString::new(from).map_err(nul)
}

#[cfg(test)]
mod tests;
