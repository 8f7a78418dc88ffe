//! Compiled code that travels: a node compiles components for the machines of others, and says
//! under its own signature what it made. Machine code runs unchecked, so it is taken from nodes
//! alone whose keys the operator named. What was taken is sealed like code that was compiled here.
//!
//! Knows neither the bus nor the store: it is given labels and bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bus::pki::{UserKey, signed_by};
use serde::{Deserialize, Serialize};

use crate::Digest;

/// What code is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    /// AMD64 of any age.
    #[serde(rename = "x86_64")]
    X86_64,
    /// ARM of 64 bits, from version 8 of the architecture on.
    Aarch64,
}

impl Machine {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The one that this program runs on, if it is one of them.
    pub fn here() -> Option<Self> {
        Self::ALL.into_iter().find(|machine| machine.name() == std::env::consts::ARCH)
    }

    /// Its name, as in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Its name among compilers.
    pub(super) fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }
}

/// What a node says of code that it compiled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Of the component.
    pub code: Digest,
    /// What it was compiled for.
    pub machine: Machine,
    /// The version of this program that compiled it.
    pub version: String,
    /// Whether it wants the engine for WASI 0.3.
    pub concurrent: bool,
    /// Of the compiled code.
    pub compiled: Digest,
    /// Public nkey of the node that compiled it.
    pub signer: String,
    /// Over all of the above, Ed25519, in Base64.
    pub signature: String,
}

/// The version that is compiled with, and for.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Label {
    /// What `key` says of compiled code.
    pub(super) fn of(
        code: Digest,
        machine: Machine,
        concurrent: bool,
        compiled: &[u8],
        key: &UserKey,
    ) -> Result<Self, String> {
        let (version, signer) = (VERSION.to_owned(), key.public.clone());
        let (compiled, signature) = (Digest::of(compiled), String::new());
        let mut label = Self { code, machine, version, concurrent, compiled, signer, signature };
        let signature = key.sign(label.said().as_bytes()).map_err(|error| error.to_string())?;
        label.signature = BASE64.encode(signature);
        Ok(label)
    }

    /// Whether it was compiled by this version of the program.
    pub(crate) fn is_of_now(&self) -> bool {
        self.version == VERSION
    }

    /// Whether the compiled form of `code` may run here; says why not, and the mend.
    pub fn check(&self, code: &Digest, trusted: &[String]) -> Result<(), String> {
        if self.code != *code {
            return Err(format!("it was made from {}, and {code} is wanted", self.code));
        }
        if Machine::here() != Some(self.machine) {
            let (made, here) = (self.machine.name(), std::env::consts::ARCH);
            return Err(format!(
                "it was compiled for {made}, and this node is {here}; name \"{here}\" under \
                 [code] targets of the node that compiles"
            ));
        }
        if !self.is_of_now() {
            return Err(format!(
                "it was compiled by version {}, and this node has {VERSION}; \
                 run one version on both",
                self.version
            ));
        }
        if !trusted.contains(&self.signer) {
            return Err(format!(
                "{} signed it, whom this node does not trust; write the key under [code] trust",
                self.signer
            ));
        }
        let signature = BASE64.decode(&self.signature).unwrap_or_default();
        match signed_by(&self.signer, self.said().as_bytes(), &signature) {
            true => Ok(()),
            false => Err(format!("its signature is not that of {}", self.signer)),
        }
    }

    /// What is signed.
    fn said(&self) -> String {
        let Self { code, machine, version, concurrent, compiled, signer, signature: _ } = self;
        let (machine, concurrent) = (machine.name(), concurrent.to_string());
        let parts = ["compiled code", code.as_str(), machine, version, &concurrent];
        let parts = parts.into_iter().chain([compiled.as_str(), signer]);
        parts.collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests;
