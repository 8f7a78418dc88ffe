//! The binary `edgescale`: command line, configuration, the node that joins the six components,
//! and the local tree. A library as well, so that tests start the same parts.
#![forbid(unsafe_code)]

pub mod context;
pub mod tree;
