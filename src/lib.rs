//! The binary `edgescale`: command line, configuration, the node that joins the six components,
//! and the local tree. A library as well, so that tests start the same parts.
#![forbid(unsafe_code)]
// Whether a node may be used from several threads is asked through all that a guest holds.
#![recursion_limit = "256"]

pub mod cli;
pub mod context;
pub mod demo;
pub mod doctor;
pub mod gateway;
pub mod monitor;
pub mod node;
pub mod servers;
pub mod site;
pub mod tree;
pub mod upload;
pub mod watch;
