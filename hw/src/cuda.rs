//! NVIDIA GPUs: one context and one stream each, through the CUDA driver.
//!
//! Driver and compiler (NVRTC) are opened at run time; without either there is no such device.
//! Kernels are compiled to machine code for the device at hand when they are first wanted.

mod compile;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
use cudarc::driver::sys::{CUevent_flags, CUresult};
use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaSlice, CudaStream, DriverError, LaunchConfig,
    PushKernelArg, sys,
};
use cudarc::nvrtc::Ptx;

pub use self::compile::{Target, compile, is_available};
use crate::Config;
use crate::command::{Arg, BufferId, Command, Kernel, Launch};
use crate::device::{
    Device, DeviceInfo, Error, Kind, Result, check_distinct, check_pending, check_range,
};
use crate::pool::{Held, Pool};

/// Threads of a block.
pub const GROUP_SIZE: usize = 128;
/// For devices whose machine code the compiler does not know: they translate this themselves.
const PTX_CAPABILITY: u32 = 90;

/// The source that is compiled for a kernel.
pub fn source(kernel: &Kernel) -> String {
    format!("{}{}", compile::PREAMBLE, kernel.cuda)
}

/// Every NVIDIA GPU that can be opened; what cannot is left out with a warning.
pub fn discover(config: &Config) -> Vec<CudaDevice> {
    let count = count();
    if count > 0 && !is_available(config.nvrtc_dir.as_deref()) {
        tracing::warn!("NVIDIA GPUs are not used: no NVRTC here (libnvrtc.so.13)");
        return Vec::new();
    }
    let open = |ordinal| match CudaDevice::open(ordinal, config) {
        Ok(device) => Some(device),
        Err(error) => {
            tracing::warn!(%error, "a CUDA device cannot be used");
            None
        }
    };
    (0..count).filter_map(open).collect()
}

/// Opens the device that was described so by another process.
pub fn open(info: &DeviceInfo, config: &Config) -> Result<CudaDevice> {
    let lost = |detail: &str| Error::Lost { device: info.id.clone(), detail: detail.to_string() };
    let ordinal = info.id.strip_prefix(Kind::Cuda.as_str()).and_then(|n| n.parse::<usize>().ok());
    let ordinal = ordinal.ok_or_else(|| lost("not the name of a CUDA device"))?;
    if ordinal >= count() || !is_available(config.nvrtc_dir.as_deref()) {
        return Err(lost("it is not there any more"));
    }
    let device = CudaDevice::open(ordinal, config)?;
    match device.info == *info {
        true => Ok(device),
        false => Err(lost(&format!("{} stands in its place", device.info.name))),
    }
}

/// How many devices the driver has; none where there is no driver.
fn count() -> usize {
    // SAFETY: opening the driver runs its initialisers, which is what it is for.
    if !unsafe { sys::is_culib_present() } {
        return 0;
    }
    match CudaContext::device_count() {
        Ok(count) => count.max(0) as usize,
        Err(error) => {
            tracing::debug!(error = ?error.0, "no CUDA device");
            0
        }
    }
}

/// One NVIDIA GPU.
pub struct CudaDevice {
    info: DeviceInfo,
    /// Compute capability, such as 90.
    capability: u32,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    state: Mutex<State>,
}

struct State {
    kernels: HashMap<&'static str, CudaFunction>,
    /// Before and after each command.
    pending: Vec<(CudaEvent, CudaEvent)>,
    buffers: Pool<CudaSlice<u8>>,
}

impl CudaDevice {
    fn open(ordinal: usize, config: &Config) -> Result<Self> {
        let id = format!("{}{ordinal}", Kind::Cuda.as_str());
        let failed = |error: DriverError| failed(&id, "open", error);
        let context = CudaContext::new(ordinal).map_err(failed)?;
        let stream = context.new_stream().map_err(failed)?;
        let (major, minor) = context.compute_capability().map_err(failed)?;
        let units = context.attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).map_err(failed)?;
        let mut driver = 0;
        // SAFETY: the number outlives the call.
        let version = unsafe { sys::cuDriverGetVersion(&mut driver) };
        version.result().map_err(failed)?;
        let info = DeviceInfo {
            id: id.clone(),
            kind: Kind::Cuda,
            name: context.name().map_err(failed)?,
            driver: format!("CUDA {}.{}", driver / 1000, driver % 1000 / 10),
            memory_bytes: context.total_mem().map_err(failed)? as u64,
            compute_units: units.max(1) as u32,
        };
        let capability = (10 * major + minor) as u32;
        let state = State {
            kernels: HashMap::new(),
            pending: Vec::new(),
            buffers: Pool::new(config.pool_bytes_max),
        };
        Ok(Self { info, capability, context, stream, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, doing: &str) -> impl FnOnce(DriverError) -> Error {
        move |error| failed(&self.info.id, doing, error)
    }

    fn held<'a>(&self, state: &'a State, id: BufferId) -> Result<&'a Held<CudaSlice<u8>>> {
        state.buffers.held(&self.info, id)
    }

    fn load(&self, state: &mut State, kernel: &'static Kernel) -> Result<()> {
        if state.kernels.contains_key(kernel.stem) {
            return Ok(());
        }
        let source = source(kernel);
        let code = compile(&source, GROUP_SIZE, Target::Cubin(self.capability));
        // A GPU newer than the compiler.
        let code = code.or_else(|_| compile(&source, GROUP_SIZE, Target::Ptx(PTX_CAPABILITY)));
        let code = code.map_err(|log| Error::Build {
            device: self.info.id.clone(),
            kernel: kernel.stem.to_string(),
            log,
        })?;
        let module = self.context.load_module(Ptx::from_binary(code));
        let module = module.map_err(self.failed("load kernel"))?;
        let function = module.load_function(kernel.stem).map_err(self.failed("load kernel"))?;
        state.kernels.insert(kernel.stem, function);
        Ok(())
    }

    fn launch(&self, state: &mut State, launch: &Launch) -> Result<(CudaEvent, CudaEvent)> {
        launch.check(|id| state.buffers.bytes_of(id)).map_err(|detail| Error::BadLaunch {
            device: self.info.id.clone(),
            kernel: launch.kernel.stem.to_string(),
            detail,
        })?;
        self.load(state, launch.kernel)?;
        let mut builder = self.stream.launch_builder(&state.kernels[launch.kernel.stem]);
        for arg in &launch.args {
            match arg {
                Arg::U32(value) => builder.arg(value),
                Arg::Buffer(id) => builder.arg(&self.held(state, *id)?.memory),
            };
        }
        builder.record_kernel_launch(CUevent_flags::CU_EVENT_DEFAULT);
        let blocks = launch.grid.items(GROUP_SIZE) / GROUP_SIZE;
        let config = LaunchConfig {
            grid_dim: (blocks as u32, 1, 1),
            block_dim: (GROUP_SIZE as u32, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the arguments were checked against the kernel's parameters and the buffers'
        // sizes, and the kernel stays within those for items outside the grid.
        let events = unsafe { builder.launch(config) }.map_err(self.failed("launch"))?;
        events.ok_or_else(|| Error::Failed {
            device: self.info.id.clone(),
            detail: "launch: no events were recorded".to_string(),
        })
    }

    fn copy(
        &self,
        state: &mut State,
        from: BufferId,
        to: BufferId,
        bytes: usize,
    ) -> Result<(CudaEvent, CudaEvent)> {
        check_distinct(&self.info, from, to)?;
        check_range(&self.info, from, self.held(state, from)?.bytes, 0, bytes)?;
        check_range(&self.info, to, self.held(state, to)?.bytes, 0, bytes)?;
        let failed = || self.failed("copy");
        let event = || self.stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
        let before = event().map_err(failed())?;
        if bytes > 0 {
            let mut target = state.buffers.take(&self.info, to)?;
            let source = self.held(state, from)?.memory.slice(..bytes);
            let copied = self.stream.memcpy_dtod(&source, &mut target.memory.slice_mut(..bytes));
            state.buffers.put_back(to, target);
            copied.map_err(failed())?;
        }
        Ok((before, event().map_err(failed())?))
    }
}

impl Device for CudaDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn alloc(&self, bytes: usize) -> Result<BufferId> {
        self.state().buffers.alloc(&self.info, bytes, |capacity| {
            // SAFETY: content is unspecified until written, as the trait says.
            let memory = unsafe { self.stream.alloc::<u8>(capacity) };
            memory.map_err(|error| no_memory(&self.info, bytes, error))
        })
    }

    fn free(&self, buffer: BufferId) -> Result<()> {
        self.state().buffers.free(&self.info, buffer)
    }

    fn write(&self, buffer: BufferId, offset: usize, data: &[u8]) -> Result<()> {
        let mut state = self.state();
        let held = state.buffers.held_mut(&self.info, buffer)?;
        let end = check_range(&self.info, buffer, held.bytes, offset, data.len())?;
        if data.is_empty() {
            return Ok(());
        }
        let mut target = held.memory.slice_mut(offset..end);
        self.stream.memcpy_htod(data, &mut target).map_err(self.failed("write"))?;
        // The caller may drop its data when this returns.
        self.stream.synchronize().map_err(self.failed("write"))
    }

    fn read(&self, buffer: BufferId, offset: usize, data: &mut [u8]) -> Result<()> {
        let state = self.state();
        let held = self.held(&state, buffer)?;
        let end = check_range(&self.info, buffer, held.bytes, offset, data.len())?;
        if data.is_empty() {
            return Ok(());
        }
        let source = held.memory.slice(offset..end);
        self.stream.memcpy_dtoh(&source, data).map_err(self.failed("read"))?;
        self.stream.synchronize().map_err(self.failed("read"))
    }

    fn prepare(&self, kernels: &[&'static Kernel]) -> Result<()> {
        let mut state = self.state();
        kernels.iter().try_for_each(|kernel| self.load(&mut state, kernel))
    }

    fn run(&self, commands: &[Command]) -> Result<()> {
        let mut state = self.state();
        check_pending(&self.info, state.pending.len() + commands.len())?;
        for command in commands {
            let events = match command {
                Command::Launch(launch) => self.launch(&mut state, launch)?,
                Command::Pair { first, second } => {
                    let (before, _) = self.launch(&mut state, first)?;
                    (before, self.launch(&mut state, second)?.1)
                }
                Command::Copy { from, to, bytes } => self.copy(&mut state, *from, *to, *bytes)?,
            };
            state.pending.push(events);
        }
        Ok(())
    }

    fn finish(&self) -> Result<Vec<u64>> {
        let mut state = self.state();
        self.stream.synchronize().map_err(self.failed("finish"))?;
        let events = std::mem::take(&mut state.pending);
        let time_ns = |(before, after): &(CudaEvent, CudaEvent)| {
            before.elapsed_ms(after).map(|ms| (ms * 1e6) as u64).map_err(self.failed("finish"))
        };
        events.iter().map(time_ns).collect()
    }
}

/// A failed call, sorted by what the caller can do. This is the one place that knows the codes.
fn failed(device: &str, doing: &str, error: DriverError) -> Error {
    let device = device.to_string();
    // The error would ask the driver for its own name.
    let detail = format!("{doing}: {:?}", error.0);
    match error.0 {
        // After these the context is of no use any more.
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
        _ => Error::Failed { device, detail },
    }
}

fn no_memory(info: &DeviceInfo, bytes: usize, error: DriverError) -> Error {
    match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::OutOfMemory { device: info.id.clone(), bytes },
        _ => failed(&info.id, "allocate", error),
    }
}

#[cfg(test)]
mod tests;
