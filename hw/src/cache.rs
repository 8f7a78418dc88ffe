//! Compiled kernels kept on disk, so that a second start does not compile.
//!
//! A file is named by the hash of everything the binary depends on. One that does not fit its own
//! hash is ignored: a driver may crash on a damaged binary. Failing to keep one is no error.

use std::path::{Path, PathBuf};

use crate::device::DeviceInfo;
use crate::whole;

/// Larger binaries are not kept, and larger files not read.
const BINARY_BYTES_MAX: usize = 64 << 20;

/// Files that a folder may have; then no more are kept.
const FILES_MAX: usize = 8192;

/// The binaries of one device.
pub(crate) struct Cache {
    dir: Option<PathBuf>,
    device: [String; 2],
    /// Of the files' names.
    ending: &'static str,
}

impl Cache {
    pub(crate) fn new(dir: Option<PathBuf>, info: &DeviceInfo, ending: &'static str) -> Self {
        Self { dir, device: [info.name.clone(), info.driver.clone()], ending }
    }

    /// The binary kept for a source that was compiled with these options, if it is whole.
    pub(crate) fn load(&self, source: &str, options: &str) -> Option<Vec<u8>> {
        whole::read(&self.path(source, options)?, BINARY_BYTES_MAX)
    }

    /// Keeps a binary; several processes may do so at once.
    pub(crate) fn store(&self, source: &str, options: &str, binary: &[u8]) {
        let Some(path) = self.path(source, options) else { return };
        let is_full = || path.parent().is_some_and(|dir| files(dir) >= FILES_MAX);
        if binary.is_empty() || binary.len() > BINARY_BYTES_MAX || is_full() {
            return;
        }
        if let Err(error) = whole::write(&path, binary) {
            tracing::warn!(path = %path.display(), %error, "kernel binary is not kept");
        }
    }

    fn path(&self, source: &str, options: &str) -> Option<PathBuf> {
        let [device, driver] = &self.device;
        let name = whole::name(&[device, driver, options, source]);
        Some(self.dir.as_ref()?.join(format!("{name}.{}", self.ending)))
    }
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}
