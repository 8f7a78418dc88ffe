//! Handlers: what an app is (`manifest`), how its code runs (`execute`) and gets to a site
//! (`deploy`), and what starts it: events and calls (`trigger`), connections (`stream`).
#![deny(unsafe_code)]

pub mod cron;
pub mod deploy;
pub mod digest;
pub mod execute;
pub mod logs;
pub mod manifest;
pub mod metrics;
pub mod stream;
pub mod trace;
pub mod trigger;

pub use deploy::EdgeDeploy;
pub use digest::Digest;
pub use execute::EdgeExecute;
pub use manifest::Manifest;
pub use stream::EdgeStream;
