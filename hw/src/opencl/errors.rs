//! The codes of OpenCL, sorted by what the caller can do. Nothing else knows them.

use opencl3::error_codes::{ClError, DLOPEN_FUNCTION_NOT_AVAILABLE};

use crate::device::{DeviceInfo, Error, Result};

/// Longest complaint of a compiler that is passed on.
const LOG_BYTES_MAX: usize = 16 << 10;

/// A failed call, sorted by what the caller can do.
pub(super) fn failed(device: &str, doing: &str, error: ClError) -> Error {
    let device = device.to_string();
    let detail = format!("{doing}: {error}");
    match error.0 {
        CL_DEVICE_NOT_AVAILABLE
        | CL_INVALID_DEVICE
        | CL_INVALID_CONTEXT
        | CL_INVALID_COMMAND_QUEUE
        | NVIDIA_ILLEGAL_ACCESS => Error::Lost { device, detail },
        // Many drivers give memory only when a kernel wants it.
        CL_MEM_OBJECT_ALLOCATION_FAILURE | CL_OUT_OF_RESOURCES | CL_OUT_OF_HOST_MEMORY => {
            Error::OutOfMemory { device, bytes: 0 }
        }
        CL_COMPILER_NOT_AVAILABLE | CL_LINKER_NOT_AVAILABLE | DLOPEN_FUNCTION_NOT_AVAILABLE => {
            Error::Driver { device, detail }
        }
        _ => Error::Failed { device, detail },
    }
}

pub(super) fn no_memory(info: &DeviceInfo, bytes: usize, error: ClError) -> Error {
    let code = error.0;
    match failed(&info.id, "allocate", error) {
        Error::OutOfMemory { device, .. } => Error::OutOfMemory { device, bytes },
        Error::Failed { device, .. } if code == CL_INVALID_BUFFER_SIZE => {
            Error::OutOfMemory { device, bytes }
        }
        other => other,
    }
}

/// Refuses a device by the version that it tells, such as `OpenCL 3.0 PoCL`: kernels are written in
/// the C of 1.2.
pub(super) fn check_version(device: &str, version: &str) -> Result<()> {
    let number = version.strip_prefix("OpenCL ").and_then(|rest| {
        let mut parts = rest.split([' ', '.']).map(|part| part.parse::<u32>().ok());
        Some((parts.next()??, parts.next()??))
    });
    match number {
        Some(number) if number >= (1, 2) => Ok(()),
        _ => Err(Error::Driver {
            device: device.to_string(),
            detail: format!("\"{version}\", and OpenCL 1.2 is the least that is used"),
        }),
    }
}

/// A compiler's complaint, or as much of it as is passed on.
pub(super) fn shortened(mut log: String) -> String {
    log.truncate(log.floor_char_boundary(LOG_BYTES_MAX));
    log
}

// The codes of the OpenCL 3.0 specification, appendix "Error codes".
pub(super) const CL_DEVICE_NOT_AVAILABLE: i32 = -2;
const CL_COMPILER_NOT_AVAILABLE: i32 = -3;
const CL_MEM_OBJECT_ALLOCATION_FAILURE: i32 = -4;
const CL_OUT_OF_RESOURCES: i32 = -5;
const CL_OUT_OF_HOST_MEMORY: i32 = -6;
const CL_LINKER_NOT_AVAILABLE: i32 = -16;
const CL_INVALID_DEVICE: i32 = -33;
const CL_INVALID_CONTEXT: i32 = -34;
const CL_INVALID_COMMAND_QUEUE: i32 = -36;
const CL_INVALID_BUFFER_SIZE: i32 = -61;
/// What NVIDIA's driver says of a kernel that left its buffers; the context is of no use after it.
const NVIDIA_ILLEGAL_ACCESS: i32 = -9999;
