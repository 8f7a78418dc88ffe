//! What a handler may ask of its node. Everything outside the sandbox stands behind [`Host`], and
//! each request names its [`Caller`] first, so that grants are checked in one place.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bus::trace::Trace;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::net::TcpStream;

use super::{Budget, Input, Invocation, Target, Time};
use crate::outbound::Refusal;
use crate::settings::Settings;

/// A row or a key of a table: column name to value, typed by the table's spec on the other side.
pub type Row = Map<String, Value>;

/// The last line of a log that is full.
pub const LOG_FULL: &str = "log limit reached; further lines are dropped";

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The handler, with its app and revision.
    pub target: Arc<Target>,
    /// Id of the event, request or frame being handled; empty outside of an invocation.
    pub invocation: String,
    /// 1 for the first delivery.
    pub attempt: u32,
    /// The trace of the invocation.
    pub trace: Trace,
    /// When the invocation will be stopped; a host need not work beyond it.
    pub deadline: Instant,
    /// What the handler is set up with.
    pub settings: Arc<Settings>,
    /// The handler that called it and waits for it, where that runs on this node.
    pub by: Option<Arc<Caller>>,
    /// What the invocation has asked of its node so far.
    pub budget: Arc<Budget>,
}

impl Caller {
    /// The handler of an invocation, while it runs.
    pub(super) fn of(invocation: &Invocation, time: Time, settings: Arc<Settings>) -> Self {
        Self {
            target: Arc::clone(&invocation.target),
            invocation: invocation.input.id(),
            attempt: invocation.attempt,
            trace: invocation.trace.clone(),
            deadline: time.deadline,
            settings,
            by: invocation.by.clone(),
            budget: Arc::default(),
        }
    }

    /// The same handler outside of an invocation.
    pub(super) fn between(&self) -> Self {
        let (invocation, attempt, trace) = (String::new(), 1, Trace::default());
        let (by, budget) = (None, Arc::default());
        Self { invocation, attempt, trace, by, budget, ..self.clone() }
    }

    /// Id of the `n`-th event an invocation publishes: handling the same input again publishes
    /// the same ids, so that whoever counts by id does not count twice.
    pub(super) fn publication_id(&self, n: u64) -> String {
        format!("{}.{}.{n}", self.invocation, self.target.handler)
    }
}

impl Input {
    /// Of the event, request or frame.
    pub fn id(&self) -> String {
        match self {
            Self::Event(event) => event.id.clone(),
            Self::Call(request) => request.id.clone(),
            Self::Http(request) => request.id.clone(),
            Self::Frame(connection, frame) => format!("{}.{}", connection.id, frame.index),
        }
    }
}

impl Invocation {
    /// The handlers that wait for its end, the nearest first.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Caller> {
        let by = std::iter::successors(self.by.as_deref(), |caller| caller.by.as_deref());
        by.filter(|caller| !caller.invocation.is_empty())
    }
}

/// Which rows of a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// Leading key columns that must match.
    pub prefix: Row,
    /// Most rows wanted; `None` leaves it to the host's own maximum.
    pub limit: Option<u32>,
    /// Last key first.
    pub reverse: bool,
    /// Key after which to go on; empty begins at the beginning.
    pub after: Row,
}

/// An event as a handler publishes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// `<invocation>.<handler>.<n>`: the same again when the same input is handled again.
    pub id: String,
    /// Subject within the app.
    pub subject: String,
    /// Media type of `body`.
    pub content_type: String,
    /// The payload.
    pub body: Bytes,
    /// Names and values that travel with it, as [`bus::event::check_metadata`] has them.
    pub metadata: Vec<(String, String)>,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// For the author.
    Debug,
    /// Course of things.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
}

impl Level {
    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Why a request of a handler was not fulfilled, by what the handler can do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum HostError {
    /// No grant.
    #[error("denied: {0}")]
    Denied(String),
    /// No such table, blob or handler.
    #[error("not found: {0}")]
    NotFound(String),
    /// The request is wrong in itself.
    #[error("invalid: {0}")]
    Invalid(String),
    /// Not now; later perhaps.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The invocation has asked for more than it may.
    #[error("too much: {0}")]
    TooMuch(String),
    /// Anything else.
    #[error("failed: {0}")]
    Failed(String),
}

/// The node, as a handler sees it.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// The row under `key`.
    async fn store_get(
        &self,
        caller: &Caller,
        table: &str,
        key: Row,
    ) -> Result<Option<Row>, HostError>;

    /// Writes rows whole, under the columns' merge rules.
    async fn store_put(
        &self,
        caller: &Caller,
        table: &str,
        rows: Vec<Row>,
    ) -> Result<(), HostError>;

    /// Writes a row if the one under its key still has the values of `expected`, or is still
    /// absent when nothing is expected. Tells whether it was written.
    async fn store_put_if(
        &self,
        caller: &Caller,
        table: &str,
        key: Row,
        expected: Option<Row>,
        row: Row,
    ) -> Result<bool, HostError>;

    /// Deletes the rows with these keys; absent ones are no mistake.
    async fn store_delete(
        &self,
        caller: &Caller,
        table: &str,
        keys: Vec<Row>,
    ) -> Result<(), HostError>;

    /// Adds to counter columns of one row.
    async fn store_increment(
        &self,
        caller: &Caller,
        table: &str,
        key: Row,
        deltas: Row,
    ) -> Result<(), HostError>;

    /// Rows in key order.
    async fn store_scan(
        &self,
        caller: &Caller,
        table: &str,
        scan: Scan,
    ) -> Result<Vec<Row>, HostError>;

    /// Any operation on rows as clients of the bus have it; `request` names the `table` as the app
    /// does. A commit whose condition does not hold is answered with `conflict`, which says why.
    async fn store_ask(
        &self,
        caller: &Caller,
        operation: &str,
        request: Row,
    ) -> Result<Value, HostError>;

    /// The same and `sql` with rows as Arrow IPC streams: `scan`, `get-many` and `sql` answer one;
    /// `put`, `patch`, `delete` and `discard` take one, as may `get-many` its keys, and are
    /// answered in JSON.
    async fn store_arrow(
        &self,
        caller: &Caller,
        operation: &str,
        request: Row,
        rows: Option<Bytes>,
    ) -> Result<Bytes, HostError>;

    /// Answers a question in SQL over the app's own tables and those that it was granted:
    /// `columns`, `rows`, whether they are `truncated`, and the `coverage`.
    async fn store_sql(&self, caller: &Caller, question: String) -> Result<Value, HostError>;

    /// Stores bytes by content; the answer is their key.
    async fn put_blob(&self, caller: &Caller, content: Bytes) -> Result<String, HostError>;

    /// Stores bytes of the caller's app alone; the answer is a key that nobody else is given, also
    /// not for the same bytes.
    async fn put_private_blob(&self, caller: &Caller, content: Bytes) -> Result<String, HostError>;

    /// Has blobs that [`Host::put_private_blob`] stored for the caller's app removed once every
    /// handler that may read them now has ended. Others stay, and so does what is no key.
    async fn let_go(&self, caller: &Caller, keys: Vec<String>) -> Result<(), HostError>;

    /// The bytes under a key.
    async fn get_blob(&self, caller: &Caller, key: &str) -> Result<Option<Bytes>, HostError>;

    /// Some of the bytes under a key, clipped to its end.
    async fn get_blob_range(
        &self,
        caller: &Caller,
        key: &str,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, HostError>;

    /// Publishes an event within the app.
    async fn publish(&self, caller: &Caller, event: Publication) -> Result<(), HostError>;

    /// Calls `name` of the app, wherever it is served, until the caller's deadline.
    async fn call(&self, caller: &Caller, name: &str, body: Bytes) -> Result<Bytes, HostError>;

    /// Runs a pipeline over a frame. `history` is the key under which earlier values are kept;
    /// without one there are none.
    async fn accelerate(
        &self,
        caller: &Caller,
        frame: &accel::Frame,
        pipeline: accel::Pipeline,
        history: Option<&str>,
    ) -> Result<accel::Output, HostError>;

    /// A line for the handler's log; must not block.
    fn log(&self, caller: &Caller, level: Level, message: &str);

    /// Notes that a handler's log is full and further lines are dropped; must not block.
    fn log_full(&self, caller: &Caller) {
        self.log(caller, Level::Warn, LOG_FULL);
    }

    /// What a handler is set up with now. Asked whenever an invocation begins; it does not begin
    /// where something is missing.
    fn settings(&self, target: &Target) -> Result<Arc<Settings>, HostError>;

    /// Connects to a host outside of the tree, if the app's grants allow it.
    async fn connect(&self, caller: &Caller, host: &str, port: u16) -> Result<TcpStream, Refusal>;

    /// Notes that a handler was not let out, for its author and for the counts; must not block.
    fn refused(&self, caller: &Caller, refusal: &Refusal);
}
