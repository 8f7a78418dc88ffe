//! Handlers: what an app is (`manifest`), what they are set up with (`settings`), how their code
//! runs (`execute`), what it is given and what becomes of its result (`binding`), how it gets to
//! a site (`deploy`), what starts it: events and calls (`trigger`), connections (`stream`), and
//! what it may reach outside (`outbound`).
#![deny(unsafe_code)]

pub mod binding;
pub mod cron;
pub mod deploy;
pub mod digest;
pub mod execute;
pub mod logs;
pub mod manifest;
pub mod metrics;
pub mod outbound;
pub mod settings;
pub mod stream;
pub mod trace;
pub mod trigger;

pub use deploy::EdgeDeploy;
pub use digest::Digest;
pub use execute::EdgeExecute;
pub use manifest::Manifest;
pub use stream::EdgeStream;
