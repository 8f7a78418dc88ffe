//! Compute devices behind one trait, and the plain data that describes their work.
//!
//! A job reaches a [`Device`] as [`Command`]s over [`BufferId`]s, so that it can be built, counted
//! and tested without hardware. Each vendor API lives in a file of its own ([`cpu`], [`opencl`])
//! and nowhere else. What a kernel computes is not known here: that is the `kernels` crate.

pub mod command;
pub mod conformance;
pub mod cpu;
pub mod device;
pub mod faulty;
pub mod opencl;
pub mod probe;

use std::path::PathBuf;
use std::sync::Arc;

pub use command::{Arg, BufferId, Command, CpuArgs, Grid, Kernel, Launch, Param};
pub use device::{BUFFER_BYTES_MAX, COMMANDS_PENDING_MAX, Device, DeviceInfo, Error, Kind, Result};
pub use faulty::{Fault, FaultyDevice};
pub use probe::{Probe, Sleeping};

/// Which devices to look for, and what each of them may use.
#[derive(Debug, Clone)]
pub struct Config {
    /// Threads that one kernel may use on the CPU device.
    pub cpu_threads: usize,
    /// Look for OpenCL devices.
    pub opencl: bool,
    /// Let a child look for accelerators, and open each at its first use; `None` opens them now.
    pub probe: Option<Probe>,
    /// Where compiled device binaries are kept between runs; `None` compiles them anew.
    pub cache_dir: Option<PathBuf>,
    /// Bytes of freed buffers that a device keeps for reuse.
    pub pool_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        let cpu_threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self { cpu_threads, opencl: true, probe: None, cache_dir: None, pool_bytes_max: 256 << 20 }
    }
}

/// All devices of this machine: the CPU always, then each OpenCL device that can be opened.
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
        None if config.opencl => {
            let opened = opencl::discover(config).into_iter();
            devices.extend(opened.map(|device| Arc::new(device) as Arc<dyn Device>));
        }
        None => {}
    }
    devices
}

fn is_wanted(info: &DeviceInfo, config: &Config) -> bool {
    info.kind == Kind::OpenCl && config.opencl
}

fn sleeping(info: DeviceInfo, config: &Config) -> Sleeping {
    let (config, described) = (config.clone(), info.clone());
    Sleeping::new(info, Box::new(move || Ok(Arc::new(opencl::open(&described, &config)?))))
}
