//! What a CUDA device is driven by, and the vendor's driver as one such thing.
//!
//! Everything that can be wrong without a GPU (what is launched over how many threads with which
//! arguments, in which order, in which memory) is decided above, in `cuda/device.rs`; here every
//! function is a call or two of the driver.

use std::sync::Arc;

use cudarc::driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
use cudarc::driver::sys::{CUevent_flags, CUresult};
use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaSlice, CudaStream, DriverError, LaunchConfig,
    PushKernelArg, sys,
};
use cudarc::nvrtc::Ptx;

use super::Target;
use crate::command::Param;
use crate::device::{DeviceInfo, Error, Kind, Result};

/// For devices whose machine code the compiler does not know: they translate this themselves.
const PTX_CAPABILITY: u32 = 90;

/// A stream of work on one device. Calls are made by one thread at a time, and sizes are checked.
pub trait Driver: Send + Sync {
    /// Memory of the device, given back when it is dropped.
    type Memory: Send;
    /// A kernel that can be launched.
    type Function: Send;
    /// A moment in the stream.
    type Event: Send;

    /// What kernels are compiled to, in the order in which it is tried.
    fn targets(&self) -> Vec<Target>;
    /// Memory of unspecified content.
    fn alloc(&self, bytes: usize) -> Result<Self::Memory>;
    /// Copies `data` to the memory, from byte `offset` on; done when this returns.
    fn write(&self, memory: &mut Self::Memory, offset: usize, data: &[u8]) -> Result<()>;
    /// Fills `data` from the memory, after all earlier work.
    fn read(&self, memory: &Self::Memory, offset: usize, data: &mut [u8]) -> Result<()>;
    /// Copies the first bytes of one memory to the start of another.
    fn copy(&self, from: &Self::Memory, to: &mut Self::Memory, bytes: usize) -> Result<()>;
    /// Makes the function of that name ready, from what was compiled for a target.
    fn load(&self, name: &str, code: Vec<u8>) -> Result<Self::Function>;
    /// Hands a launch to the device.
    fn launch(
        &self,
        function: &Self::Function,
        shape: Shape,
        args: &[Value<'_, Self::Memory>],
    ) -> Result<()>;
    fn event(&self) -> Result<Self::Event>;
    /// Waits for all work.
    fn wait(&self) -> Result<()>;
    /// Nanoseconds from one moment to the other, both past.
    fn time_ns(&self, before: &Self::Event, after: &Self::Event) -> Result<u64>;
}

/// How many threads a launch has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub blocks: u32,
    /// Threads of a block.
    pub threads: u32,
    /// Shared memory of a block whose size the launch decides.
    pub shared_bytes: u32,
}

/// An argument, in the order of the kernel's parameters.
pub enum Value<'a, M> {
    U32(u32),
    /// The memory's address; the kernel needs `bytes` of it and uses them as `param` says.
    Memory {
        memory: &'a M,
        bytes: usize,
        param: Param,
    },
}

/// The vendor's driver, with one context and one stream of a GPU.
pub struct Vendor {
    id: String,
    /// Compute capability, such as 90.
    capability: u32,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
}

impl Vendor {
    /// How many devices the driver has; none where there is no driver.
    pub fn count() -> usize {
        // SAFETY: opening the driver runs its initialisers, which is what it is for.
        if !unsafe { sys::is_culib_present() } {
            return 0;
        }
        match CudaContext::device_count() {
            Ok(count) => count.max(0) as usize,
            Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)) => 0,
            Err(error) => {
                let error = failed(Kind::Cuda.as_str(), "look for devices", error);
                tracing::warn!(%error, "no CUDA device is used");
                0
            }
        }
    }

    /// Opens a device for code of a compiler of this version.
    pub fn open(ordinal: usize, compiler: (i32, i32)) -> Result<(Self, DeviceInfo)> {
        let id = format!("{}{ordinal}", Kind::Cuda.as_str());
        let failed = |error: DriverError| failed(&id, "open", error);
        let mut driver = 0;
        // SAFETY: the number outlives the call.
        let version = unsafe { sys::cuDriverGetVersion(&mut driver) };
        version.result().map_err(failed)?;
        check_version(&id, driver, compiler)?;
        let context = CudaContext::new(ordinal).map_err(failed)?;
        let stream = context.new_stream().map_err(failed)?;
        let (major, minor) = context.compute_capability().map_err(failed)?;
        let units = context.attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).map_err(failed)?;
        let info = DeviceInfo {
            id: id.clone(),
            kind: Kind::Cuda,
            name: context.name().map_err(failed)?,
            driver: format!("CUDA {}", version_text(driver)),
            memory_bytes: context.total_mem().map_err(failed)? as u64,
            compute_units: units.max(1) as u32,
            on_cpu: false,
            circuits: Vec::new(),
        };
        let capability = (10 * major + minor) as u32;
        Ok((Self { id, capability, context, stream }, info))
    }

    fn failed(&self, doing: &str) -> impl FnOnce(DriverError) -> Error {
        move |error| failed(&self.id, doing, error)
    }
}

impl Driver for Vendor {
    type Memory = CudaSlice<u8>;
    type Function = CudaFunction;
    type Event = CudaEvent;

    fn targets(&self) -> Vec<Target> {
        vec![Target::Cubin(self.capability), Target::Ptx(PTX_CAPABILITY)]
    }

    fn alloc(&self, bytes: usize) -> Result<CudaSlice<u8>> {
        // SAFETY: content is unspecified until written, as the trait says.
        let memory = unsafe { self.stream.alloc::<u8>(bytes) };
        memory.map_err(|error| match failed(&self.id, "allocate", error) {
            Error::OutOfMemory { device, .. } => Error::OutOfMemory { device, bytes },
            other => other,
        })
    }

    fn write(&self, memory: &mut CudaSlice<u8>, offset: usize, data: &[u8]) -> Result<()> {
        let mut target = memory.slice_mut(offset..offset + data.len());
        self.stream.memcpy_htod(data, &mut target).map_err(self.failed("write"))?;
        // The caller may drop its data when this returns.
        self.stream.synchronize().map_err(self.failed("write"))
    }

    fn read(&self, memory: &CudaSlice<u8>, offset: usize, data: &mut [u8]) -> Result<()> {
        let source = memory.slice(offset..offset + data.len());
        self.stream.memcpy_dtoh(&source, data).map_err(self.failed("read"))?;
        self.stream.synchronize().map_err(self.failed("read"))
    }

    fn copy(&self, from: &CudaSlice<u8>, to: &mut CudaSlice<u8>, bytes: usize) -> Result<()> {
        let copied = self.stream.memcpy_dtod(&from.slice(..bytes), &mut to.slice_mut(..bytes));
        copied.map_err(self.failed("copy"))
    }

    fn load(&self, name: &str, code: Vec<u8>) -> Result<CudaFunction> {
        let module = self.context.load_module(Ptx::from_binary(code));
        let module = module.map_err(self.failed("load kernel"))?;
        module.load_function(name).map_err(self.failed("load kernel"))
    }

    fn launch(
        &self,
        function: &CudaFunction,
        shape: Shape,
        args: &[Value<'_, CudaSlice<u8>>],
    ) -> Result<()> {
        let mut builder = self.stream.launch_builder(function);
        for arg in args {
            match arg {
                Value::U32(value) => builder.arg(value),
                Value::Memory { memory, .. } => builder.arg(*memory),
            };
        }
        let config = LaunchConfig {
            grid_dim: (shape.blocks, 1, 1),
            block_dim: (shape.threads, 1, 1),
            shared_mem_bytes: shape.shared_bytes,
        };
        // SAFETY: the arguments were checked against the kernel's parameters and the buffers'
        // sizes, and the kernel stays within those for items outside the grid.
        let launched = unsafe { builder.launch(config) };
        launched.map(|_| ()).map_err(self.failed("launch"))
    }

    fn event(&self) -> Result<CudaEvent> {
        let event = self.stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
        event.map_err(self.failed("record an event"))
    }

    fn wait(&self) -> Result<()> {
        self.stream.synchronize().map_err(self.failed("finish"))
    }

    fn time_ns(&self, before: &CudaEvent, after: &CudaEvent) -> Result<u64> {
        before.elapsed_ms(after).map(|ms| (ms * 1e6) as u64).map_err(self.failed("finish"))
    }
}

/// Refuses a driver that loads no code of this compiler: one of the major version before.
fn check_version(device: &str, driver: i32, (major, minor): (i32, i32)) -> Result<()> {
    if driver / 1000 >= major {
        return Ok(());
    }
    let (device, text) = (device.to_string(), version_text(driver));
    let detail = format!("CUDA {text} loads no code of NVRTC {major}.{minor}: update the driver");
    Err(Error::Driver { device, detail })
}

/// As drivers number themselves: 13010 is 13.1.
fn version_text(driver: i32) -> String {
    format!("{}.{}", driver / 1000, driver % 1000 / 10)
}

/// A failed call, sorted by what the caller can do. This is the one place that knows the codes.
fn failed(device: &str, doing: &str, error: DriverError) -> Error {
    let device = device.to_string();
    // The error would ask the driver for its own name.
    let detail = format!("{doing}: {:?}", error.0);
    match error.0 {
        // After these the context is of no use any more: `Sleeping` has another one made. Where
        // the driver wants a new process for that, the device stays lost.
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
        | CUresult::CUDA_ERROR_LAUNCH_FAILED
        | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
        | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
        | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
        | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
        | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
        | CUresult::CUDA_ERROR_DEINITIALIZED
        | CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE
        | CUresult::CUDA_ERROR_NO_DEVICE => Error::Lost { device, detail },
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::OutOfMemory { device, bytes: 0 },
        // The driver is older than the code or the device, or no driver at all.
        CUresult::CUDA_ERROR_STUB_LIBRARY
        | CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU
        | CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
        | CUresult::CUDA_ERROR_JIT_COMPILER_NOT_FOUND
        | CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
        | CUresult::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => Error::Driver { device, detail },
        _ => Error::Failed { device, detail },
    }
}

#[cfg(test)]
mod tests;
