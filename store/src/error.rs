//! What can go wrong in the store, sorted by what the caller can do about it.

use crate::link::LinkError;

/// Errors of the store. [`Error::retryable`] says whether the same call may succeed later.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request names a table that no reachable site knows. Fix the request.
    #[error("unknown table {0:?}")]
    UnknownTable(String),
    /// The row or request names a column that the table does not have. Fix the request.
    #[error("table {table:?} has no column {column:?}")]
    UnknownColumn { table: String, column: String },
    /// A value does not fit its column. Fix the request.
    #[error("column {column:?} takes {expected}, not {got}")]
    WrongType { column: String, expected: String, got: String },
    /// A key column is absent or null. Fix the request.
    #[error("table {table:?}: key column {column:?} is missing")]
    MissingKey { table: String, column: String },
    /// A table specification is not valid. Fix the specification.
    #[error("table {table:?}: {reason}")]
    InvalidSpec { table: String, reason: String },
    /// The table exists already with a specification that cannot become this one.
    #[error("table {table:?} exists with an incompatible specification: {reason}")]
    IncompatibleSpec { table: String, reason: String },
    /// The request itself is malformed. Fix the request.
    #[error("{0}")]
    BadRequest(String),
    /// A condition did not hold, so nothing was changed. Read the row again and decide anew.
    #[error("row {key} of table {table:?} {reason}; read it again and decide anew")]
    Conflict { table: String, key: String, reason: String },
    /// Whether the write was made is unknown: no answer came, or the disk failed halfway.
    #[error("{0}; whether the write was made is unknown, so read before trying again")]
    Unknown(String),
    /// Something exceeds a named limit. Send less at once.
    #[error("{what} has {bytes} bytes, more than the {max} allowed")]
    TooLarge { what: String, bytes: u64, max: u64 },
    /// What would grow has reached its limit at this site. Nothing was changed; reads and deletes
    /// go on. Delete rows, or raise the limit, which `limit` names.
    #[error(
        "{what} has {bytes} bytes here, and its limit is {max}; delete rows, or raise {limit} in \
         the limits of the table"
    )]
    Full { what: String, bytes: u64, max: u64, limit: &'static str },
    /// Stamps from `site` lie too far in the future; they are held back where they are.
    #[error("clock of {site:?} is {ahead_ms} ms ahead, its changes are quarantined there")]
    ClockAhead { site: String, ahead_ms: u64 },
    /// Another site had to answer and could not be reached. Nothing was changed; retry later.
    #[error("{what}: {reason}")]
    Unreachable { what: String, reason: String },
    /// The deadline passed before an answer was complete. Nothing was changed.
    #[error("{0}: deadline passed")]
    Deadline(String),
    /// The answering site is still acquiring what was asked for. Retry shortly.
    #[error("{0}: not ready yet")]
    Busy(String),
    /// Stored bytes are damaged. The object is named and left untouched.
    #[error("{object}: {reason}")]
    Corrupt { object: String, reason: String },
    /// The local disk or object store refused; the operation did not happen.
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    /// Another process has this store open.
    #[error("store {0} is open in another process")]
    Locked(String),
    /// The disk refuses the log: it is full, read-only or failing. Nothing was changed; reads go
    /// on, and writes are taken again as soon as the disk takes them.
    #[error("store takes no writes for now, its disk refuses them ({0}); reads go on")]
    ReadOnly(String),
    /// The store is closed.
    #[error("store stopped taking writes: {0}")]
    Stopped(String),
}

/// Result of store operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A stable word for the kind of error, used on the wire and in `--json` output.
    pub fn code(&self) -> &'static str {
        match self {
            Error::UnknownTable(_) => "unknown-table",
            Error::UnknownColumn { .. } => "unknown-column",
            Error::WrongType { .. } => "wrong-type",
            Error::MissingKey { .. } => "missing-key",
            Error::InvalidSpec { .. } => "invalid-spec",
            Error::IncompatibleSpec { .. } => "incompatible-spec",
            Error::BadRequest(_) => "bad-request",
            Error::Conflict { .. } => "conflict",
            Error::Unknown(_) => "unknown-outcome",
            Error::TooLarge { .. } => "too-large",
            Error::Full { .. } => "full",
            Error::ClockAhead { .. } => "clock-ahead",
            Error::Unreachable { .. } => "unreachable",
            Error::Deadline(_) => "deadline",
            Error::Busy(_) => "busy",
            Error::Corrupt { .. } => "corrupt",
            Error::Io { .. } => "io",
            Error::Locked(_) => "locked",
            Error::ReadOnly(_) => "read-only",
            Error::Stopped(_) => "stopped",
        }
    }

    /// True when the same call may succeed later without being changed.
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Error::Unreachable { .. }
                | Error::Deadline(_)
                | Error::Busy(_)
                | Error::ClockAhead { .. }
                | Error::Io { .. }
                | Error::ReadOnly(_)
                | Error::Full { .. }
        )
    }

    /// The error as clients of the JSON operations receive it:
    /// `{"error":{"code":…,"message":…,"retryable":…}}`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({"error": {
            "code": self.code(),
            "message": self.to_string(),
            "retryable": self.retryable(),
        }})
    }

    /// The same error about a table under the name that whoever asked knows it by.
    pub(crate) fn calling(self, stored: &str, named: &str) -> Self {
        let name = |table: String| if table == stored { named.to_owned() } else { table };
        let text = |text: String| text.replace(&format!("{stored:?}"), &format!("{named:?}"));
        match self {
            Error::UnknownTable(table) => Error::UnknownTable(name(table)),
            Error::UnknownColumn { table, column } => {
                Error::UnknownColumn { table: name(table), column }
            }
            Error::MissingKey { table, column } => Error::MissingKey { table: name(table), column },
            Error::BadRequest(reason) => Error::BadRequest(text(reason)),
            Error::TooLarge { what, bytes, max } => {
                Error::TooLarge { what: text(what), bytes, max }
            }
            Error::Full { what, bytes, max, limit } => {
                Error::Full { what: text(what), bytes, max, limit }
            }
            Error::Unreachable { what, reason } => Error::Unreachable { what: text(what), reason },
            Error::Deadline(what) => Error::Deadline(text(what)),
            Error::Busy(what) => Error::Busy(text(what)),
            other => other,
        }
    }

    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Error::Io { what: what.into(), source }
    }

    pub(crate) fn corrupt(object: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Corrupt { object: object.into(), reason: reason.into() }
    }

    pub(crate) fn link(what: impl Into<String>, error: LinkError) -> Self {
        match error {
            LinkError::Timeout => Error::Deadline(what.into()),
            other => Error::Unreachable { what: what.into(), reason: other.to_string() },
        }
    }
}
