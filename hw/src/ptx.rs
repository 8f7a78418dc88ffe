//! A device for tests that carries out the PTX of CUDA kernels on the CPU, and looks at every
//! access of every thread.
//!
//! It is a driver under the same device as a GPU's: what is compiled, launched and copied is
//! decided by the same code. What PTX leaves open (the order of threads, approximations, what a
//! division by zero gives) is refused or reported, never guessed. It is slow, and never found by
//! [`discover`](crate::discover).

mod alu;
mod code;
mod convert;
mod decode;
pub mod fault;
mod float;
mod launch;
mod memory;
mod module;
mod opcodes;
mod text;
mod together;
mod types;
mod warp;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use self::code::Kernel;
use self::memory::{Region, Rights};
use self::types::GLOBAL_STEP;
use crate::Config;
use crate::command::Param;
use crate::cuda::driver::{Driver, Shape, Value};
use crate::cuda::{self, CudaForms, Target};
use crate::device::{DeviceInfo, Error, Kind, Result};

/// Instructions that the warps of one block may carry out, unless said otherwise.
const STEPS_MAX: u64 = 1 << 28;
/// The compute capability for which kernels are compiled.
const CAPABILITY: u32 = 90;
/// What threads of other launches might use is not modelled: one launch at a time.
const BUFFERS_MAX: u64 = u64::MAX / GLOBAL_STEP - 1;

/// The interpreter as a device.
pub type PtxDevice = CudaForms<Interpreter>;

/// A device of its own; `None` where NVRTC is not there.
pub fn device(config: &Config) -> Option<PtxDevice> {
    if !cuda::is_available(config.nvrtc_dir.as_deref()) {
        return None;
    }
    let id = format!("{}0", Kind::Ptx.as_str());
    let info = DeviceInfo {
        id: id.clone(),
        kind: Kind::Ptx,
        name: "PTX interpreter".to_string(),
        driver: format!("PTX for compute capability {}.{}", CAPABILITY / 10, CAPABILITY % 10),
        memory_bytes: 1 << 30,
        compute_units: 1,
        on_cpu: false,
        circuits: Vec::new(),
    };
    // Freed memory is not kept, so that what was in it is unknown to who gets it next.
    let config = Config { pool_bytes_max: 0, ..config.clone() };
    Some(CudaForms::new(info, Interpreter::new(id, STEPS_MAX), &config))
}

/// The device for the tests of a crate of this checkout, told by the crate's folder, with blocks of
/// so many threads; `None` is said aloud.
pub fn device_for_tests(crate_folder: &str, group_size: usize) -> Option<PtxDevice> {
    spanned_for_tests(crate_folder, group_size, 1)
}

/// The same with threads that do so many neighbours at once, in kernels that can.
pub fn spanned_for_tests(crate_folder: &str, group: usize, span: usize) -> Option<PtxDevice> {
    let (nvrtc_dir, group_size) = (Some(nvrtc_for_tests(crate_folder)), Some(group));
    let found = device(&Config { nvrtc_dir, group_size, span, ..Config::default() });
    if found.is_none() {
        aloud::skipped!("no NVRTC; install it with ./tools.sh test");
    }
    found
}

/// Where the tests of a crate find the compiler of CUDA: in the folder of tools that is named, or
/// in that of the checkout.
pub fn nvrtc_for_tests(crate_folder: &str) -> PathBuf {
    let of_checkout = || Path::new(crate_folder).join("../.tools/nvrtc/nvidia/cu13/lib");
    Config::default().nvrtc_dir.unwrap_or_else(of_checkout)
}

/// A driver whose device is this program.
pub struct Interpreter {
    id: String,
    steps_max: u64,
    memory: Arc<Mutex<Store>>,
}

/// All memory that was given out.
#[derive(Default)]
struct Store {
    given: u64,
    buffers: HashMap<u64, Content>,
}

/// What a buffer holds, and which bytes of it were ever written.
#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    written: Vec<bool>,
}

/// Memory of the interpreter, by its address.
pub struct Allocation {
    base: u64,
    memory: Arc<Mutex<Store>>,
}

impl Drop for Allocation {
    fn drop(&mut self) {
        locked(&self.memory).buffers.remove(&self.base);
    }
}

fn locked(memory: &Mutex<Store>) -> MutexGuard<'_, Store> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Interpreter {
    pub(crate) fn new(id: String, steps_max: u64) -> Self {
        Self { id, steps_max, memory: Arc::default() }
    }

    fn failed(&self, detail: impl ToString) -> Error {
        Error::Failed { device: self.id.clone(), detail: detail.to_string() }
    }

    /// The arguments as bytes, as the kernel's parameters lie, and the buffers among them.
    fn arguments(kernel: &Kernel, args: &[Value<'_, Allocation>]) -> (Vec<u8>, Vec<Region>) {
        let mut params = vec![0; kernel.param_bytes];
        let mut regions: Vec<Region> = Vec::new();
        for (arg, (offset, bytes)) in args.iter().zip(&kernel.params) {
            let value = match arg {
                Value::U32(value) => u64::from(*value),
                Value::Memory { memory, bytes, param } => {
                    let base = memory.base;
                    match regions.iter_mut().find(|region| region.base == base) {
                        // Only inputs may be given twice.
                        Some(region) => region.len = region.len.max(*bytes),
                        None => regions.push(region_of(*param, base, *bytes)),
                    }
                    base
                }
            };
            params[*offset..offset + bytes].copy_from_slice(&value.to_le_bytes()[..*bytes]);
        }
        (params, regions)
    }
}

fn region_of(param: Param, base: u64, bytes: usize) -> Region {
    let (name, rights) = match param {
        Param::In(name) => (name, Rights::Read),
        Param::Out(name) => (name, Rights::Write),
        Param::InOut(name) | Param::U32(name) => (name, Rights::Both),
    };
    Region::new(name.to_string(), base, bytes, rights)
}

impl Driver for Interpreter {
    type Memory = Allocation;
    type Function = Kernel;
    type Event = Instant;

    fn targets(&self) -> Vec<Target> {
        vec![Target::Ptx(CAPABILITY)]
    }

    fn alloc(&self, bytes: usize) -> Result<Allocation> {
        let mut store = locked(&self.memory);
        if store.given >= BUFFERS_MAX {
            return Err(Error::OutOfMemory { device: self.id.clone(), bytes });
        }
        store.given += 1;
        let base = store.given * GLOBAL_STEP;
        // What nobody wrote is no zero.
        let content = Content { bytes: vec![0xCD; bytes], written: vec![false; bytes] };
        store.buffers.insert(base, content);
        Ok(Allocation { base, memory: self.memory.clone() })
    }

    fn write(&self, memory: &mut Allocation, offset: usize, data: &[u8]) -> Result<()> {
        let mut store = locked(&self.memory);
        let held = store.buffers.get_mut(&memory.base).ok_or_else(|| self.failed("no memory"))?;
        held.bytes[offset..offset + data.len()].copy_from_slice(data);
        held.written[offset..offset + data.len()].fill(true);
        Ok(())
    }

    fn read(&self, memory: &Allocation, offset: usize, data: &mut [u8]) -> Result<()> {
        let store = locked(&self.memory);
        let held = store.buffers.get(&memory.base).ok_or_else(|| self.failed("no memory"))?;
        data.copy_from_slice(&held.bytes[offset..offset + data.len()]);
        Ok(())
    }

    fn copy(&self, from: &Allocation, to: &mut Allocation, bytes: usize) -> Result<()> {
        let mut store = locked(&self.memory);
        let source = store.buffers.get(&from.base).ok_or_else(|| self.failed("no memory"))?;
        let (data, written) = (source.bytes[..bytes].to_vec(), source.written[..bytes].to_vec());
        let held = store.buffers.get_mut(&to.base).ok_or_else(|| self.failed("no memory"))?;
        held.bytes[..bytes].copy_from_slice(&data);
        held.written[..bytes].copy_from_slice(&written);
        Ok(())
    }

    fn load(&self, name: &str, code: Vec<u8>) -> Result<Kernel> {
        let module = module::parse(&code);
        let kernel = module.and_then(|module| decode::kernel(&module, name));
        kernel.map_err(|refusal| Error::Build {
            device: self.id.clone(),
            kernel: name.to_string(),
            log: refusal.to_string(),
        })
    }

    fn launch(&self, kernel: &Kernel, shape: Shape, args: &[Value<'_, Allocation>]) -> Result<()> {
        let sizes = args.iter().map(|arg| match arg {
            Value::U32(_) => 4,
            Value::Memory { .. } => 8,
        });
        launch::check(kernel, shape, &sizes.collect::<Vec<usize>>())
            .map_err(|detail| self.failed(format!("launch of {}: {detail}", kernel.name)))?;
        let (params, mut regions) = Self::arguments(kernel, args);
        let mut store = locked(&self.memory);
        for region in &mut regions {
            let held = store.buffers.get_mut(&region.base).map(std::mem::take);
            let Content { bytes, written } = held.unwrap_or_default();
            region.fill(bytes, written);
        }
        let (regions, outcome) = launch::run(kernel, shape, &params, regions, self.steps_max);
        for Region { base, bytes, written, .. } in regions {
            store.buffers.insert(base, Content { bytes, written });
        }
        let steps = outcome.map_err(|fault| self.failed(fault))?;
        tracing::trace!(kernel = kernel.name, steps, "interpreted");
        Ok(())
    }

    fn event(&self) -> Result<Instant> {
        Ok(Instant::now())
    }

    fn wait(&self) -> Result<()> {
        Ok(())
    }

    fn time_ns(&self, before: &Instant, after: &Instant) -> Result<u64> {
        Ok(after.duration_since(*before).as_nanos() as u64)
    }
}

#[cfg(test)]
mod tests;
