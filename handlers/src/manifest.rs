//! The manifest of an app, `app.toml`: what its handlers are, what starts them, where they may
//! run and what they may touch. Parsing checks everything that can be known from the text alone;
//! each mistake is answered with its line, the field and the mend.
//!
//! Does not look at code, tiers or tables that exist: that is EdgeDeploy's.

mod bindings;
mod grants;
pub mod http;
mod parse;
mod reader;
mod tables;

use std::collections::{BTreeMap, BTreeSet};

pub use bus::TierClass;
use bus::subject::matches as subject_matches;
use serde::{Deserialize, Serialize};
pub use store::{ColumnKind, ColumnSpec, Merge, TTL_SECONDS_MAX, TableSpec, Ttl};

use crate::Digest;
pub use crate::binding::Bindings;
pub use crate::cron::{Missed, Schedule};
use crate::outbound::HostGrant;

/// Longest manifest that is read.
pub const MANIFEST_BYTES_MAX: usize = 64 << 10;
/// Most handlers of an app.
pub const HANDLERS_MAX: usize = 64;
/// Most triggers of a handler.
pub const TRIGGERS_MAX: usize = 32;
/// Most tables of an app.
pub const TABLES_MAX: usize = 64;
/// Most columns of a table.
pub const COLUMNS_MAX: usize = 256;

/// A checked manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// `[app]`.
    pub app: App,
    /// `[[handler]]`, in the order of the text.
    #[serde(default)]
    pub handlers: Vec<Handler>,
    /// `[[table]]`, in the order of the text.
    #[serde(default)]
    pub tables: Vec<TableSpec>,
    /// `[grants]`.
    #[serde(default)]
    pub grants: Grants,
}

/// `[app]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// `[a-z0-9-]{1,32}`; the app's namespace for subjects and tables.
    pub name: String,
    /// For people; revisions are counted by the platform.
    pub version: String,
    /// Invocations of all its handlers at once on one node; as many as they allow unless said.
    #[serde(default)]
    pub concurrency: Option<u32>,
}

/// `[[handler]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handler {
    /// `[a-z0-9-]{1,32}`, unique within the app.
    pub name: String,
    /// What the code is.
    pub kind: CodeKind,
    /// Where the code is.
    pub source: Source,
    /// `module.function` for Python and JavaScript, `module:application` for a WSGI application,
    /// `package.Class::method` for Java, arguments for a command.
    pub entry: Option<String>,
    /// What starts it.
    pub triggers: Vec<Trigger>,
    /// Where it may run.
    pub placement: Placement,
    /// What one invocation may use.
    pub limits: Limits,
    /// What happens when it fails.
    pub retry: Retry,
    /// Which of its events are handled one at a time and in order.
    #[serde(default)]
    pub order: Option<Order>,
    /// How the bodies of HTTP requests reach it.
    #[serde(default)]
    pub request_body: RequestBody,
    /// Settings that it reads by name.
    pub config: BTreeMap<String, String>,
    /// Secrets of the site that it reads by name.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Rows that it is given, and what becomes of its result.
    #[serde(default)]
    pub bindings: Bindings,
    /// Line of `source` in the text, from 1.
    pub source_line: usize,
}

/// When a handler of HTTP requests begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestBody {
    /// When the whole body is there.
    #[default]
    Whole,
    /// At once: it reads the body as it comes, within its time limit.
    Stream,
}

/// What the code of a handler is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CodeKind {
    /// A WebAssembly component of one of the worlds in `wit/app.wit`.
    Component,
    /// A Python file or zip archive with an AWS Lambda function or a WSGI application.
    Python,
    /// A JavaScript file or zip archive with an AWS Lambda function for Node.js.
    Js,
    /// A jar with an AWS Lambda function, or with a main class that speaks the AWS Lambda Runtime
    /// API; or one source file of the latter.
    Java,
    /// An executable that speaks the AWS Lambda Runtime API.
    Command,
}

/// Where code is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Uploaded code.
    Digest(Digest),
    /// A file beside the manifest; uploading turns it into a digest.
    Path(String),
}

/// `[[handler.trigger]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// An event whose subject within the app matches; `*` and `>` as in NATS.
    Event(String),
    /// A request by this name; unique within the app.
    Call(String),
    /// A time that has come; once for the whole tree.
    Cron(CronTrigger),
    /// Rows of a table that change in the store of a site where the handler is placed.
    Table {
        /// One of the app's tables.
        table: String,
        /// Topic of its events: `_table.<handler>.<number of the trigger>`.
        topic: String,
    },
    /// An HTTP request that this route takes.
    Http(http::Route),
    /// Data of a stream.
    Stream {
        /// Name of the stream.
        name: String,
        /// How its bytes become inputs.
        framing: Framing,
    },
}

/// First token of the topics under which what is due reaches a handler.
pub const CRON_TOPIC: &str = "_cron";

/// First token of the topics under which changed rows reach a handler.
pub const TABLE_TOPIC: &str = "_table";

/// A schedule; see [`crate::cron`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CronTrigger {
    /// As in a crontab.
    pub line: String,
    /// Of the IANA database.
    pub zone: String,
    /// What becomes of times that passed while nobody could run it.
    pub missed: Missed,
    /// Topic of its events: `_cron.<handler>.<number of the trigger>`.
    pub topic: String,
}

impl CronTrigger {
    /// The schedule; there is one, because the manifest was checked.
    pub fn schedule(&self) -> Option<Schedule> {
        Schedule::parse(&self.line, &self.zone).ok()
    }
}

/// How the bytes of a stream become inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// Decoded video frames.
    Frames,
}

/// `[handler.placement]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Lowest class that may run it.
    pub min_tier: TierClass,
    /// Highest class that may run it.
    pub max_tier: TierClass,
    /// Class to prefer among those.
    pub prefer: Option<TierClass>,
    /// Devices it cannot do without.
    pub needs: BTreeSet<DeviceClass>,
    /// Table whose data it wants to be close to.
    pub near: Option<String>,
    /// Events go up the tree when that is sooner done than waiting here.
    #[serde(default)]
    pub spill: bool,
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            min_tier: TierClass::Device,
            max_tier: TierClass::Cloud,
            prefer: None,
            needs: BTreeSet::new(),
            near: None,
            spill: false,
        }
    }
}

/// A class of compute devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceClass {
    /// The host's own cores.
    Cpu,
    /// Graphics processors and what else speaks OpenCL or CUDA.
    Gpu,
    /// Programmable logic.
    Fpga,
    /// What codes H.264: the accelerator engine of any site does, on its cores if on nothing else.
    #[serde(rename = "encode.h264")]
    EncodeH264,
}

/// `[handler.limits]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory of one instance, MiB.
    pub memory_mb: u32,
    /// Time of one invocation.
    pub timeout_ms: u32,
    /// Time that one invocation may compute, waiting not counted; no limit but `timeout_ms` unless
    /// said.
    #[serde(default)]
    pub cpu_ms: Option<u32>,
    /// Invocations at once on one node.
    pub concurrency: u32,
    /// Invocations that one instance or process handles one after the other before it makes room
    /// for a fresh one. Unless said, 1 for components and no limit for processes.
    #[serde(default)]
    pub reuse: Option<u32>,
    /// Requests that one instance of a `wasi:http` 0.3 component serves at once.
    #[serde(default = "one")]
    pub at_once: u32,
    /// Instances or processes that are made ahead, so that the next invocations find theirs ready.
    #[serde(default)]
    pub ready: u32,
    /// Whether the component runs in processes that are its own, not in the node's.
    #[serde(default)]
    pub own_process: bool,
    /// Its jobs go before those of lower priority that wait for a device.
    #[serde(default)]
    pub priority: u8,
    /// Events that one invocation may publish; a large one counts as several.
    #[serde(default = "thousand")]
    pub publishes: u32,
    /// Functions that it may call.
    #[serde(default = "thousand")]
    pub calls: u32,
    /// Rows that it may write or remove; a blob counts as several.
    #[serde(default = "hundred_thousand")]
    pub writes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let (memory_mb, timeout_ms, concurrency) = (128, 5_000, 16);
        let (cpu_ms, reuse, at_once, ready, own_process) = (None, None, 1, 0, false);
        let (publishes, calls, writes) = (thousand(), thousand(), hundred_thousand());
        Self {
            memory_mb,
            timeout_ms,
            cpu_ms,
            concurrency,
            reuse,
            at_once,
            ready,
            own_process,
            priority: 0,
            publishes,
            calls,
            writes,
        }
    }
}

fn thousand() -> u32 {
    1_000
}

fn hundred_thousand() -> u32 {
    100_000
}

fn one() -> u32 {
    1
}

/// `[handler.retry]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Deliveries of one event before it becomes a dead letter.
    pub max_deliver: u32,
    /// Wait before the second delivery; doubles from then on.
    pub backoff_ms: u32,
    /// In place of `max_deliver`, where the last one ended so.
    #[serde(default)]
    pub attempts: BTreeMap<FailureKind, u32>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { max_deliver: 5, backoff_ms: 250, attempts: BTreeMap::new() }
    }
}

impl Retry {
    /// Deliveries of one event, when the last one failed so.
    pub fn attempts_after(&self, kind: Option<FailureKind>) -> u32 {
        match kind {
            // The same code would fail the same way.
            Some(FailureKind::Code) => 1,
            Some(kind) => self.attempts.get(&kind).copied().unwrap_or(self.max_deliver),
            None => self.max_deliver,
        }
    }
}

/// How an invocation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureKind {
    /// The handler said so, or raised an error.
    Error,
    /// It broke down: a trap, an exit.
    Trap,
    /// At its time limit.
    Timeout,
    /// At its limit of computing time.
    Cpu,
    /// At its memory limit.
    Memory,
    /// The node could not run it.
    Node,
    /// The code cannot do it at all.
    Code,
}

impl FailureKind {
    /// Its lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Node => "node",
            Self::Code => "code",
        }
    }
}

/// What events share that are handled one at a time and in the order of the site's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Their subject within the app.
    Subject,
    /// Their `ce-partitionkey`; those that have none have no order.
    Key,
}

/// `[grants]`: what the app may touch beyond its own tables and subjects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// Tables of other apps, `app/table`.
    pub tables: Vec<String>,
    /// Subjects of other apps, `app.pattern`.
    pub subjects: Vec<String>,
    /// Devices for video work.
    pub devices: BTreeSet<DeviceClass>,
    /// Hosts outside of the tree.
    #[serde(default)]
    pub hosts: Vec<HostGrant>,
}

/// What is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestError {
    /// From 1.
    pub line: usize,
    /// Such as `handler[0].placement.min_tier`; empty when the text is no TOML at all.
    pub field: String,
    /// The mistake and the mend.
    pub problem: String,
}

impl std::fmt::Display for ManifestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.field.as_str() {
            "" => write!(f, "line {}: {}", self.line, self.problem),
            field => write!(f, "line {}: {field}: {}", self.line, self.problem),
        }
    }
}

impl std::error::Error for ManifestError {}

impl Manifest {
    /// Reads a manifest; the first mistake is the answer.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        parse::manifest(text)
    }

    /// The handler by name.
    pub fn handler(&self, name: &str) -> Option<&Handler> {
        self.handlers.iter().find(|handler| handler.name == name)
    }

    /// The handler that answers calls by `name`.
    pub fn handler_of_call(&self, name: &str) -> Option<&Handler> {
        let answers = |handler: &&Handler| {
            handler.triggers.iter().any(|t| matches!(t, Trigger::Call(n) if n == name))
        };
        self.handlers.iter().find(answers)
    }

    /// The handler that takes what comes on a stream.
    pub fn handler_of_stream(&self, stream: &str) -> Option<&Handler> {
        let takes = |t: &Trigger| matches!(t, Trigger::Stream { name, .. } if name == stream);
        self.handlers.iter().find(|handler| handler.triggers.iter().any(takes))
    }

    /// Holds when every handler names uploaded code, as a manifest sent over the bus must.
    pub fn check_uploaded(&self) -> Result<(), ManifestError> {
        for (at, handler) in self.handlers.iter().enumerate() {
            if let Source::Path(path) = &handler.source {
                return Err(ManifestError {
                    line: handler.source_line,
                    field: format!("handler[{at}].{}", handler.kind.name()),
                    problem: format!(
                        "\"{path}\" is a file; upload it and write its digest, \"sha256-…\""
                    ),
                });
            }
        }
        Ok(())
    }
}

impl Trigger {
    /// Whether an event with this subject within the app starts the handler.
    pub fn takes_event(&self, subject: &str) -> bool {
        match self {
            // Topics with an underscore are ours: `>` does not mean them.
            Self::Event(pattern) => !subject.starts_with('_') && subject_matches(pattern, subject),
            Self::Cron(cron) => cron.topic == subject,
            Self::Table { topic, .. } => topic == subject,
            _ => false,
        }
    }
}

impl CodeKind {
    /// The field of a handler that names its code.
    pub fn name(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Python => "python",
            Self::Js => "js",
            Self::Java => "java",
            Self::Command => "command",
        }
    }
}

#[cfg(test)]
mod tests;
