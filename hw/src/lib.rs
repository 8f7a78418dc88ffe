//! Compute devices behind one trait, and the plain data that describes their work.
//!
//! A job reaches a [`Device`] as [`Command`]s over [`BufferId`]s, so that it can be built, counted
//! and tested without hardware. Each vendor API lives in a file of its own ([`cpu`], [`opencl`],
//! [`cuda`], [`xrt`]) and nowhere else. What a kernel computes is not known here: that is the
//! `kernels` crate.

mod around;
mod cache;
pub mod chain;
pub mod command;
pub mod conformance;
pub mod cpu;
pub mod cuda;
pub mod device;
pub mod faulty;
pub mod opencl;
mod pool;
pub mod probe;
pub mod ptx;
pub mod shared;
mod tuning;
mod whole;
pub mod xrt;

use std::path::PathBuf;
use std::sync::Arc;

pub use around::{Around, Verb};
pub use chain::{Chain, Written};
pub use command::{Arg, BufferId, Command, CpuArgs, Grid, Joined, Kernel, Launch, Param};
pub use device::{
    BUFFER_BYTES_MAX, COMMANDS_PENDING_MAX, Circuit, Device, DeviceInfo, Error, Kind, Read, Result,
    Tuned, Write,
};
pub use faulty::{Fault, FaultyDevice};
pub use probe::{Probe, Sleeping};
pub use tuning::LAUNCHES_UNTIL_TUNED;

/// Which devices to look for, and what each of them may use.
#[derive(Debug, Clone)]
pub struct Config {
    /// Threads that one kernel may use on the CPU device.
    pub cpu_threads: usize,
    /// Look for OpenCL devices.
    pub opencl: bool,
    /// Look for NVIDIA GPUs.
    pub cuda: bool,
    /// Look for FPGA cards, and how they are reached; `None` looks for none.
    pub xrt: Option<xrt::Setup>,
    /// A folder with the NVRTC library, for where the system has none: that of the PyPI package in
    /// the folder that `EDGESCALE_TOOLS` names, unless said otherwise.
    pub nvrtc_dir: Option<PathBuf>,
    /// Let a child look for accelerators, and open each at its first use; `None` opens them now.
    pub probe: Option<Probe>,
    /// Where compiled device binaries are kept between runs, with the sizes of groups that suit
    /// kernels and how many neighbours their items do; `None` compiles them anew.
    pub cache_dir: Option<PathBuf>,
    /// The size of groups for every kernel on devices that compile; `None` finds out which suits.
    pub group_size: Option<usize>,
    /// Where that is said: how many neighbours an item does at once in kernels that can.
    pub span: usize,
    /// Bytes of freed buffers that a device keeps for reuse; with none, each is as large as was
    /// asked for, so that a driver which watches over memory sees where it ends.
    pub pool_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        let cpu_threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self {
            cpu_threads,
            opencl: true,
            cuda: true,
            xrt: None,
            nvrtc_dir: std::env::var_os("EDGESCALE_TOOLS")
                .map(|tools| PathBuf::from(tools).join("nvrtc/nvidia/cu13/lib")),
            probe: None,
            cache_dir: None,
            group_size: None,
            span: 1,
            pool_bytes_max: 256 << 20,
        }
    }
}

/// All devices of this machine: the CPU always, then each NVIDIA GPU, each OpenCL device and each
/// FPGA card that can be opened.
///
/// An absent loader or driver means no such device, never an error; a device that is present but
/// cannot be opened is left out with a warning.
pub fn discover(config: &Config) -> Vec<Arc<dyn Device>> {
    let mut devices: Vec<Arc<dyn Device>> = vec![Arc::new(cpu::CpuDevice::new(config))];
    match &config.probe {
        Some(probe) => {
            let asleep = |info| Arc::new(sleeping(info, config)) as Arc<dyn Device>;
            devices.extend(probe.look().into_iter().filter(|i| is_wanted(i, config)).map(asleep));
        }
        None => devices.extend(opened(config)),
    }
    devices
}

fn opened(config: &Config) -> Vec<Arc<dyn Device>> {
    let mut devices: Vec<Arc<dyn Device>> = Vec::new();
    if config.cuda {
        devices.extend(cuda::discover(config).into_iter().map(|d| Arc::new(d) as Arc<dyn Device>));
    }
    if config.opencl {
        let found = opencl::discover(config).into_iter();
        devices.extend(found.map(|device| Arc::new(device) as Arc<dyn Device>));
    }
    if let Some(setup) = &config.xrt {
        devices.extend(xrt::discover(setup).into_iter().map(|d| Arc::new(d) as Arc<dyn Device>));
    }
    devices
}

fn is_wanted(info: &DeviceInfo, config: &Config) -> bool {
    match info.kind {
        Kind::Cuda => config.cuda,
        Kind::OpenCl => config.opencl,
        Kind::Xrt => config.xrt.is_some(),
        Kind::Cpu | Kind::Ptx | Kind::Encoder => false,
    }
}

fn sleeping(info: DeviceInfo, config: &Config) -> Sleeping {
    let (config, described) = (config.clone(), info.clone());
    Sleeping::new(
        info,
        Box::new(move || match described.kind {
            Kind::Cuda => Ok(Arc::new(cuda::open(&described, &config)?)),
            Kind::Xrt => Ok(Arc::new(xrt::open_described(&described, &config)?)),
            _ => Ok(Arc::new(opencl::open(&described, &config)?)),
        }),
    )
}
