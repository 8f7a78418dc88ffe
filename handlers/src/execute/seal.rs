//! Seals of compiled code. Machine code is loaded unchecked by the engine, so it is taken only
//! from where it was made: a seal says by whom, for which engine and machine, and that not a bit
//! has changed. The key never leaves the node; what another node compiled is compiled anew.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
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
    pub(super) fn seal(&self, code: &Digest, engine: &str, compiled: &[u8]) -> String {
        let said = said(engine, &Digest::of(compiled));
        format!("{said}\n{}\n", self.sign(code, &said))
    }

    /// Whether compiled code is ours, whole, and for this engine and machine; says why not.
    pub(super) fn check(
        &self,
        code: &Digest,
        engine: &str,
        compiled: &[u8],
        seal: &str,
    ) -> Result<(), String> {
        let Some((found, signature)) = seal.trim_end().rsplit_once('\n') else {
            return Err("its seal is no seal".into());
        };
        let wanted = said(engine, &Digest::of(compiled));
        let lines = found.lines().zip(wanted.lines());
        if let Some((found, wanted)) = { lines }.find(|(found, wanted)| found != wanted) {
            return Err(format!("its seal says \"{found}\", and \"{wanted}\" is wanted"));
        }
        match found == wanted && signature == self.sign(code, &wanted) {
            true => Ok(()),
            false => Err("it was not sealed by this node".into()),
        }
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

fn said(engine: &str, compiled: &Digest) -> String {
    let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
    format!("engine {engine}\nmachine {arch}-{os}\nbytes {compiled}")
}

#[cfg(test)]
mod tests;
