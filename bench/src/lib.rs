//! Measurements that a user can repeat: `edgescale bench …` prints what these return.
//!
//! Figures are ratios within one run where that is possible, because machines are shared.

#![forbid(unsafe_code)]

pub mod bus;
pub mod handlers;
pub mod kernels;
mod machine;
pub mod store;
pub mod video;
