//! What may come in place of an answer.

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::manifest::FailureKind;
use crate::settings::Settings;

/// Why code could not be installed or an invocation gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum InvokeError {
    /// The code is not on this node: install it, or go where it is.
    #[error("code {0} is not installed here")]
    NotInstalled(Digest),
    /// The code will never run: fix it.
    #[error("code {digest}: {problem}")]
    BadCode {
        /// Which code.
        digest: Digest,
        /// What is wrong with it.
        problem: String,
    },
    /// The code runs, but has no function for such an input.
    #[error("handler \"{handler}\" does not export {export}")]
    NoExport {
        /// Which handler.
        handler: String,
        /// The function it lacks.
        export: String,
    },
    /// Too many at once: come back later or go elsewhere.
    #[error("too many invocations wait; retry in {retry_after_ms} ms")]
    Overloaded {
        /// When to come back.
        retry_after_ms: u64,
    },
    /// It would wait for its own end: raise its concurrency, or call without a cycle.
    #[error(
        "{way}: the handler would wait for itself, as its places, {places}, are taken; raise \
         concurrency in its [handler.limits], or call without a cycle"
    )]
    Cycle {
        /// Who called whom, from the handler to itself.
        way: String,
        /// How many of it may run at once.
        places: u32,
    },
    /// Stopped at its time limit. What it did until then stays done.
    #[error("stopped at its time limit of {limit_ms} ms")]
    Timeout {
        /// The limit.
        limit_ms: u64,
    },
    /// Stopped at its limit of computing time. What it did until then stays done.
    #[error("stopped at its limit of {limit_ms} ms of computing")]
    CpuTime {
        /// The limit.
        limit_ms: u64,
    },
    /// Stopped at its memory limit. What it did until then stays done.
    #[error("stopped at its memory limit of {limit_mb} MiB")]
    OutOfMemory {
        /// The limit.
        limit_mb: u32,
    },
    /// The guest broke down: a panic, a trap, an exit, an uncaught exception while starting.
    #[error("handler broke down: {message}")]
    GuestTrap {
        /// The guest's or the machine's words.
        message: String,
        /// Frames of the guest's stack, as far as known.
        backtrace: String,
    },
    /// The guest said that it failed.
    #[error("handler failed: {0}")]
    GuestError(String),
    /// The function raised an error that it did not catch.
    #[error("handler failed: {message}")]
    GuestRaised {
        /// Kind and text of the error.
        message: String,
        /// Lines of its stack, in the function's own language.
        backtrace: String,
    },
    /// This node cannot do it now: disk, process table, interpreter.
    #[error("node cannot run it: {0}")]
    Node(String),
    /// EdgeExecute is shutting down.
    #[error("node is stopping")]
    Stopped,
}

/// How much of a guest's words is passed on, and of its stack.
const WORDS_BYTES_MAX: usize = 8 << 10;

/// The beginning of a text, at most as much as is passed on.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(WORDS_BYTES_MAX));
    text
}

impl InvokeError {
    /// Which kind of failure of a handler it is; `None` when the handler has failed at nothing.
    pub fn kind(&self) -> Option<FailureKind> {
        Some(match self {
            Self::BadCode { .. } | Self::NoExport { .. } => FailureKind::Code,
            Self::Timeout { .. } => FailureKind::Timeout,
            Self::CpuTime { .. } => FailureKind::Cpu,
            Self::OutOfMemory { .. } => FailureKind::Memory,
            Self::GuestTrap { .. } => FailureKind::Trap,
            Self::GuestError(_) | Self::GuestRaised { .. } => FailureKind::Error,
            Self::Node(_) => FailureKind::Node,
            Self::NotInstalled(_)
            | Self::Overloaded { .. }
            | Self::Cycle { .. }
            | Self::Stopped => return None,
        })
    }

    /// Whether the same input may succeed later without anybody changing the code.
    pub fn is_retryable(&self) -> bool {
        self.kind() != Some(FailureKind::Code)
    }

    /// A word for what happened, to count it by.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotInstalled(_) => "absent",
            Self::Overloaded { .. } => "overloaded",
            Self::Cycle { .. } => "cycle",
            Self::Stopped => "stopped",
            other => other.kind().map_or("other", FailureKind::name),
        }
    }

    /// Frames of the guest's stack, as far as known.
    pub fn backtrace(&self) -> &str {
        match self {
            Self::GuestTrap { backtrace, .. } | Self::GuestRaised { backtrace, .. } => backtrace,
            _ => "",
        }
    }

    /// The same without secrets, and bounded: a guest's words end up in logs, dead letters and the
    /// headers of answers.
    pub(super) fn without(self, settings: &Settings) -> Self {
        let hide = |text: String| cut(settings.hide(&text).into_owned());
        match self {
            Self::GuestError(text) => Self::GuestError(hide(text)),
            Self::GuestTrap { message, backtrace } => {
                Self::GuestTrap { message: hide(message), backtrace: hide(backtrace) }
            }
            Self::GuestRaised { message, backtrace } => {
                Self::GuestRaised { message: hide(message), backtrace: hide(backtrace) }
            }
            other => other,
        }
    }
}
