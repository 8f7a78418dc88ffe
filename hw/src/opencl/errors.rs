//! The codes of OpenCL, sorted by what the caller can do. Nothing else knows them.

use opencl3::error_codes::ClError;

use crate::device::{DeviceInfo, Error};

/// A failed call, sorted by what the caller can do.
pub(super) fn failed(device: &str, doing: &str, error: ClError) -> Error {
    let device = device.to_string();
    let detail = format!("{doing}: {error}");
    match error.0 {
        CL_DEVICE_NOT_AVAILABLE
        | CL_INVALID_DEVICE
        | CL_INVALID_CONTEXT
        | CL_INVALID_COMMAND_QUEUE => Error::Lost { device, detail },
        _ => Error::Failed { device, detail },
    }
}

pub(super) fn no_memory(info: &DeviceInfo, bytes: usize, error: ClError) -> Error {
    match error.0 {
        CL_MEM_OBJECT_ALLOCATION_FAILURE
        | CL_OUT_OF_RESOURCES
        | CL_OUT_OF_HOST_MEMORY
        | CL_INVALID_BUFFER_SIZE => Error::OutOfMemory { device: info.id.clone(), bytes },
        _ => failed(&info.id, "allocate", error),
    }
}

// The codes of the OpenCL 3.0 specification, appendix "Error codes".
pub(super) const CL_DEVICE_NOT_AVAILABLE: i32 = -2;
const CL_MEM_OBJECT_ALLOCATION_FAILURE: i32 = -4;
const CL_OUT_OF_RESOURCES: i32 = -5;
const CL_OUT_OF_HOST_MEMORY: i32 = -6;
const CL_INVALID_DEVICE: i32 = -33;
const CL_INVALID_CONTEXT: i32 = -34;
const CL_INVALID_COMMAND_QUEUE: i32 = -36;
const CL_INVALID_BUFFER_SIZE: i32 = -61;
