//! Compiled kernels kept on disk, so that a second start does not compile.
//!
//! A file is named by the hash of everything the binary depends on and holds the SHA-256 of the
//! binary (32 bytes), then the binary. A file that does not fit its hash is ignored: a driver may
//! crash on a damaged binary. Failing to keep one is no error.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::device::DeviceInfo;

const HASH_BYTES: usize = 32;
/// Larger binaries are not kept, and larger files not read.
const BINARY_BYTES_MAX: usize = 64 << 20;

/// The binaries of one device, built with one set of options.
pub(super) struct Cache {
    dir: Option<PathBuf>,
    device: String,
}

impl Cache {
    pub(super) fn new(dir: Option<PathBuf>, info: &DeviceInfo, options: &str) -> Self {
        Self { dir, device: format!("{}\0{}\0{options}\0", info.name, info.driver) }
    }

    /// The binary kept for this source, if it is whole.
    pub(super) fn load(&self, source: &str) -> Option<Vec<u8>> {
        let path = self.path(source)?;
        if std::fs::metadata(&path).ok()?.len() > (HASH_BYTES + BINARY_BYTES_MAX) as u64 {
            return None;
        }
        let mut binary = std::fs::read(&path).ok()?;
        let hash: Vec<u8> = binary.drain(..HASH_BYTES.min(binary.len())).collect();
        if hash != Sha256::digest(&binary)[..] {
            tracing::warn!(path = %path.display(), "kept kernel binary is damaged");
            return None;
        }
        Some(binary)
    }

    /// Keeps a binary; several processes may do so at once.
    pub(super) fn store(&self, source: &str, binary: &[u8]) {
        let Some(path) = self.path(source) else { return };
        if binary.is_empty() || binary.len() > BINARY_BYTES_MAX {
            return;
        }
        if let Err(error) = write_whole(&path, binary) {
            tracing::warn!(path = %path.display(), %error, "kernel binary is not kept");
        }
    }

    fn path(&self, source: &str) -> Option<PathBuf> {
        let hash = Sha256::new().chain_update(&self.device).chain_update(source).finalize();
        let name: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        Some(self.dir.as_ref()?.join(format!("{name}.clbin")))
    }
}

/// Writes beside the file and renames, so that no reader ever sees a part of it.
fn write_whole(path: &Path, binary: &[u8]) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    let content = [&Sha256::digest(binary)[..], binary].concat();
    std::fs::write(&beside, content)?;
    std::fs::rename(&beside, path)
}
