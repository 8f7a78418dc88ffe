//! Handlers: what an app is (`manifest`) and how its code runs (`execute`).
#![deny(unsafe_code)]

pub mod digest;
pub mod execute;
pub mod manifest;

pub use digest::Digest;
pub use execute::EdgeExecute;
pub use manifest::Manifest;
