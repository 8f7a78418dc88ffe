//! The name of immutable bytes: `sha256-` and 64 lower-case hexadecimal digits.

use std::fmt;
use std::fs::File;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// SHA-256 of some bytes (FIPS 180-4), as text `sha256-<hex>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// The text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no digest; write sha256- and 64 lower-case hexadecimal digits")]
pub struct DigestError(String);

const PREFIX: &str = "sha256-";
const HEX_LEN: usize = 64;
/// How much of a file is read at once.
const READ_BYTES: usize = 256 << 10;

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::named(&Sha256::digest(bytes))
    }

    /// The digest that a name begins with, if it does.
    pub(crate) fn at_start_of(name: &str) -> Option<Self> {
        name.get(..PREFIX.len() + HEX_LEN)?.parse().ok()
    }

    /// The digest of what is left to read of a file.
    pub(crate) fn of_file(file: &mut File) -> io::Result<Self> {
        let mut hasher = Sha256::new();
        io::copy(&mut io::BufReader::with_capacity(READ_BYTES, file), &mut hasher)?;
        Ok(Self::named(&hasher.finalize()))
    }

    fn named(hash: &[u8]) -> Self {
        let mut text = String::with_capacity(PREFIX.len() + HEX_LEN);
        text.push_str(PREFIX);
        for byte in hash {
            text.push_str(&format!("{byte:02x}"));
        }
        Self(text)
    }

    /// The text form, safe as a file name and as an object name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` claims to be a digest, right or wrong.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(PREFIX)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let hex = text.strip_prefix(PREFIX).unwrap_or_default();
        let is_hex = hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if hex.len() == HEX_LEN && is_hex {
            return Ok(Self(text.to_owned()));
        }
        Err(DigestError(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
