//! Subjects, messages, NATS, the tree's configuration, and EdgeRoute.
//!
//! This is the only crate that names NATS. It knows nothing of handlers, tables or devices: it
//! carries requests and events between tiers and decides, purely, where a request goes next.
#![deny(unsafe_code)]

pub mod after;
pub mod bare;
pub mod body;
pub mod caller;
pub mod client;
pub mod event;
pub mod message;
pub mod path;
pub mod pki;
pub mod places;
mod rates;
pub mod registry;
pub mod route;
pub mod server;
pub mod service;
pub mod site;
pub mod streams;
pub mod subject;
pub mod trace;
pub mod tree;

use std::time::Duration;

pub use after::After;
pub use caller::Caller;
pub use client::{Bus, ClientTls, Credentials, Subscription};
pub use event::{Delivery, Event, EventLog};
pub use message::{Headers, Refusal, RefusalKind, Request, Response};
pub use path::{TierClass, TierPath};
pub use places::Places;
pub use registry::Registry;
pub use route::EdgeRoute;
pub use subject::{Kind, Subject};

/// The largest payload that travels through NATS, in bytes; anything larger goes by reference.
pub const PAYLOAD_BYTES_MAX: usize = 512 * 1024;

/// What went wrong on the bus, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong and will stay wrong: mend it.
    #[error("{0}")]
    Bad(String),
    /// Nobody listens on the subject; the request was not carried out.
    #[error("nobody answers {subject}: {hint}")]
    NoResponders { subject: String, hint: &'static str },
    /// No answer in time: whether the request was carried out is unknown.
    #[error("no answer from {subject} within {timeout_ms} ms; the effect is unknown")]
    TimedOut { subject: String, timeout_ms: u64 },
    /// The other side refused, and says why.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The server is away; retry later.
    #[error("the bus at {server} is not reachable: {reason}")]
    Unreachable { server: String, reason: String },
    /// A file or a process of this machine failed.
    #[error("{object}: {reason}")]
    Local { object: String, reason: String },
}

impl Error {
    /// Names the object and the reason of a failure on this machine.
    pub fn local(object: impl Into<String>, reason: impl ToString) -> Self {
        Self::Local { object: object.into(), reason: reason.to_string() }
    }

    /// Nothing came within so long.
    pub(crate) fn timed_out(subject: &str, timeout: Duration) -> Self {
        Self::TimedOut { subject: subject.to_owned(), timeout_ms: timeout.as_millis() as u64 }
    }

    /// True when the request certainly was not carried out, so that another place may be tried.
    pub fn not_done(&self) -> bool {
        matches!(self, Self::NoResponders { .. } | Self::Unreachable { .. })
    }
}
