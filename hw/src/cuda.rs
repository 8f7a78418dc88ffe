//! NVIDIA GPUs: one context and one stream each, through the CUDA driver.
//!
//! Driver and compiler (NVRTC) are opened at run time; without either there is no such device.
//! Kernels are compiled to machine code for the device at hand when they are first wanted.

mod compile;
mod device;
pub(crate) mod driver;

pub use self::compile::{Target, compile, is_available};
pub use self::device::CudaForms;
use self::driver::Vendor;
use crate::Config;
use crate::command::Kernel;
use crate::device::{Device, DeviceInfo, Error, Kind, Result};

/// Threads of a block, unless another number suits a kernel better.
pub const GROUP_SIZE: usize = GROUP_SIZES[0];
/// What a device chooses from.
pub const GROUP_SIZES: [usize; 3] = [128, 64, 256];

/// One NVIDIA GPU.
pub type CudaDevice = CudaForms<Vendor>;

/// The source that is compiled for a kernel.
pub fn source(kernel: &Kernel) -> String {
    whole(kernel.cuda)
}

/// A text of kernels with what it is written on top of.
fn whole(text: &str) -> String {
    format!("{}{text}", compile::PREAMBLE)
}

/// Every NVIDIA GPU that can be opened; what cannot is left out with a warning.
pub fn discover(config: &Config) -> Vec<CudaDevice> {
    let count = Vendor::count();
    if count > 0 && !is_available(config.nvrtc_dir.as_deref()) {
        tracing::warn!("NVIDIA GPUs are not used: no NVRTC here (libnvrtc.so.13)");
        return Vec::new();
    }
    let open = |ordinal| match open_nth(ordinal, config) {
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
    if ordinal >= Vendor::count() || !is_available(config.nvrtc_dir.as_deref()) {
        return Err(lost("it is not there any more"));
    }
    let device = open_nth(ordinal, config)?;
    match device.info() == info {
        true => Ok(device),
        false => Err(lost(&format!("{} stands in its place", device.info().name))),
    }
}

fn open_nth(ordinal: usize, config: &Config) -> Result<CudaDevice> {
    let (driver, info) = Vendor::open(ordinal, compile::version())?;
    Ok(CudaForms::new(info, driver, config))
}

#[cfg(test)]
mod tests;
