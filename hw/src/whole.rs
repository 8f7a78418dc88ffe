//! Small files that are either whole or not there: the SHA-256 of what follows (32 bytes), then
//! what follows.

use std::path::Path;

use sha2::{Digest, Sha256};

const HASH_BYTES: usize = 32;

/// A name for what depends on all of these.
pub(crate) fn name(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update("\0");
    }
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a file holds, if that is whole and no longer than `bytes_max`.
pub(crate) fn read(path: &Path, bytes_max: usize) -> Option<Vec<u8>> {
    if std::fs::metadata(path).ok()?.len() > (HASH_BYTES + bytes_max) as u64 {
        return None;
    }
    let mut content = std::fs::read(path).ok()?;
    let hash: Vec<u8> = content.drain(..HASH_BYTES.min(content.len())).collect();
    if hash != Sha256::digest(&content)[..] {
        tracing::warn!(path = %path.display(), "a kept file is damaged");
        return None;
    }
    Some(content)
}

/// Writes beside the file and renames, so that no reader ever sees a part of it.
pub(crate) fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&beside, [&Sha256::digest(content)[..], content].concat())?;
    std::fs::rename(&beside, path)
}
