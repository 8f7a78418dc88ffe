//! Seals of compiled code. Machine code is loaded unchecked by the engine, so it is taken only
//! from where it was made: a seal says by whom, for which engine and machine, which bytes, and in
//! which file they were written. The key never leaves the node; what a trusted node compiled
//! ([`super::parcel`]) is sealed here when it has been tried.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::Digest;

const KEY_LEN: usize = 32;
/// Block of SHA-256, as HMAC (RFC 2104) wants it.
const BLOCK_LEN: usize = 64;

/// The key of one node.
pub(super) struct Sealer([u8; KEY_LEN]);

impl Sealer {
    /// The key kept in a file, made when there is none.
    pub(super) fn open(file: &Path) -> io::Result<Self> {
        let mut key = [0; KEY_LEN];
        match fs::read(file) {
            Ok(found) if found.len() == KEY_LEN => key.copy_from_slice(&found),
            Ok(_) => {
                return Err(io::Error::other(format!("{} is no key; remove it", file.display())));
            }
            Err(_) => {
                fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
                let mut options = fs::OpenOptions::new();
                let made = options.write(true).create_new(true).mode(0o600).open(file);
                match made {
                    Ok(mut made) => made.write_all(&key)?,
                    // Another process of this node was first.
                    Err(_) => return Self::open(file),
                }
            }
        }
        Ok(Self(key))
    }

    /// The text that is kept beside compiled code.
    pub(super) fn seal(&self, code: &Digest, engine: &str, sealed: &Sealed) -> String {
        let said = [format!("engine {engine}"), machine(), sealed.to_string()].join("\n");
        format!("{said}\n{}\n", self.sign(code, &said))
    }

    /// What is sealed, if this node sealed it for this engine and machine; says why not.
    pub(super) fn open_seal(
        &self,
        code: &Digest,
        engine: &str,
        seal: &str,
    ) -> Result<Sealed, String> {
        let (said, signature) = seal.trim_end().rsplit_once('\n').ok_or("its seal is no seal")?;
        let mut lines = said.lines();
        for wanted in [format!("engine {engine}"), machine()] {
            let found = lines.next().unwrap_or_default();
            if found != wanted {
                return Err(format!("its seal says \"{found}\", and \"{wanted}\" is wanted"));
            }
        }
        if signature != self.sign(code, said) {
            return Err("it was not sealed by this node".into());
        }
        Sealed::read(lines).ok_or_else(|| "its seal is no seal".into())
    }

    fn sign(&self, code: &Digest, said: &str) -> String {
        let pad = |byte: u8| {
            let mut block = [byte; BLOCK_LEN];
            block.iter_mut().zip(self.0).for_each(|(block, key)| *block ^= key);
            block
        };
        let text = format!("{code}\n{said}");
        let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
        let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
        outer.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn machine() -> String {
    format!("machine {}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

/// What a seal vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sealed {
    /// Of the compiled code.
    pub(super) bytes: Digest,
    /// The file in which it was written and read again.
    pub(super) file: FileId,
}

/// One state of one file: its device, number, length, and the time of its last change, which
/// nobody can set. Who writes to the file, puts another in its place or moves it here changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileId(String);

impl FileId {
    pub(super) fn of(file: &fs::Metadata) -> Self {
        let (dev, ino, len) = (file.dev(), file.ino(), file.len());
        Self(format!("{dev} {ino} {len} {}.{:09}", file.ctime(), file.ctime_nsec()))
    }
}

impl Sealed {
    fn read<'a>(mut lines: impl Iterator<Item = &'a str>) -> Option<Self> {
        let bytes = lines.next()?.strip_prefix("bytes ")?.parse().ok()?;
        let file = FileId(lines.next()?.strip_prefix("file ")?.to_owned());
        Some(Self { bytes, file })
    }
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {}\nfile {}", self.bytes, self.file.0)
    }
}

#[cfg(test)]
mod tests;
