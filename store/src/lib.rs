//! store
#![forbid(unsafe_code)]
mod error;
pub mod hlc;
mod key;
mod link;
mod record;
mod row;
mod spec;
mod value;
mod wal;
pub use error::*;
pub use link::*;
pub(crate) fn entropy() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u64(std::process::id() as u64);
    hasher.finish()
}
