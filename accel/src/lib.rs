//! EdgeAccelerate: runs pipelines of video kernels over frames, on the devices of this machine.
//!
//! A [`Job`] is a pipeline, a frame and what it must keep to (deadline, priority, tenant). The
//! pipeline and the frame's shape make a [`Plan`]: device commands and host work as plain data.
//! A pure scheduler picks the device by learned cost; one thread per device carries plans out.
//! Failing devices are set aside for a while and their jobs run elsewhere.
//!
//! What is not here: any network, any vendor API (`hw` has those), and the kernels' arithmetic
//! (`kernels`). [`video`] brings frames in from files and streams and takes them out again.

pub mod encoders;
mod engine;
mod frame;
mod grid;
mod h264;
mod history;
mod jfif;
mod pipeline;
pub mod plan;
mod plans;
mod queue;
pub mod schedule;
pub mod share;
mod status;
#[cfg(test)]
mod testing;
pub mod video;
mod worker;

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use engine::{Config, EdgeAccelerate};
pub use frame::{Frame, Layout, Matrix, PixelFormat, Range, Shape};
pub use pipeline::{Op, Pipeline, STEPS_MAX, Step, allowed};
pub use plan::{Plan, plan, step_by_step};
pub use schedule::Prefer;
pub use status::{DeviceChange, DeviceState, DeviceStatus};

pub type Result<T> = std::result::Result<T, Error>;

/// One frame to put through one pipeline.
#[derive(Debug, Clone)]
pub struct Job {
    pub pipeline: Pipeline,
    /// What the pipeline calls `frame`.
    pub input: Frame,
    /// Under which key values are remembered for `name@-1`; needed by pipelines that use that.
    /// Jobs of one key are expected one after the other, each with the frame after the last.
    pub history: Option<String>,
    /// A job not begun by then is given up.
    pub deadline: Option<Instant>,
    /// Higher goes first.
    pub priority: u8,
    /// Among equal priorities, devices are shared evenly between tenants.
    pub tenant: String,
}

impl Job {
    /// A job without history, deadline, priority or tenant.
    pub fn new(pipeline: Pipeline, input: Frame) -> Self {
        Self { pipeline, input, history: None, deadline: None, priority: 0, tenant: String::new() }
    }
}

/// What a pipeline returned, by name, and how it went.
#[derive(Debug, Clone)]
pub struct Output {
    pub values: BTreeMap<String, Value>,
    /// The device that did it, such as `opencl0`.
    pub device: String,
    pub timing: Timing,
    /// Each step's output name with the microseconds it took, in order. Steps that ran as one
    /// kernel count as the last of them.
    pub steps: Vec<(String, u64)>,
}

/// A value of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Frame(Frame),
    Blob(Bytes),
    Boxes(Vec<Rect>),
    Number(f64),
}

/// A rectangle in samples of the job's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rect {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// Where a job's time went, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Timing {
    /// From the request to its start on the device, failed attempts included.
    pub queue_us: u64,
    /// Moving bytes to and from the device, with the way there and back.
    pub copy_us: u64,
    /// Kernels on the device.
    pub compute_us: u64,
    /// Work on the host: boxes, entropy coding.
    pub host_us: u64,
}

/// Why there is no result, by what the caller can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Fix the request.
    #[error("{0}")]
    Invalid(String),
    /// Come back later; nothing was done.
    #[error("all devices are busy, retry after {retry_after_ms} ms")]
    Overloaded { retry_after_ms: u64 },
    /// Too late; nothing was done.
    #[error("job was {late_ms} ms late when its turn came")]
    Late { late_ms: u64 },
    /// Every device that could do it failed; the last one said so.
    #[error("no device could do the job: {0}")]
    NoDevice(String),
    /// The engine is shutting down.
    #[error("the accelerator engine has stopped")]
    Stopped,
    /// A file or stream of video cannot be used.
    #[error("video {path}: {detail}")]
    Media { path: String, detail: String },
}

impl Error {
    pub(crate) fn media(path: impl Into<String>, detail: impl ToString) -> Self {
        Error::Media { path: path.into(), detail: detail.to_string() }
    }
}
