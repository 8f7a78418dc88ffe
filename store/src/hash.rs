//! Encoded keys with their hash, the same in every index, so that a lookup in many layers hashes
//! once.

use std::sync::LazyLock;

/// Keys come from outside, so the hash is seeded anew in each process.
static SEED: LazyLock<ahash::RandomState> = LazyLock::new(ahash::RandomState::new);

/// An encoded key to look up.
#[derive(Clone, Copy, Debug)]
pub struct Hashed<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its hash.
    pub hash: u64,
}

impl<'a> Hashed<'a> {
    /// Hashes a key.
    pub fn of(key: &'a [u8]) -> Self {
        Hashed { key, hash: of(key) }
    }
}

/// The hash of an encoded key.
pub fn of(key: &[u8]) -> u64 {
    SEED.hash_one(key)
}
