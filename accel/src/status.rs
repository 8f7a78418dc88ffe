//! What is told of a device.

use serde::{Deserialize, Serialize};

/// A device and how it is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Such as `cpu0` or `opencl0`.
    pub id: String,
    /// `cpu`, `opencl`, `cuda`, `xrt` or `encoder`.
    pub kind: String,
    /// Whose encoder codes H.264 there: `edgescale`, or that of others whose device it is.
    #[serde(default)]
    pub encoder: String,
    /// In which place a job like the last one would go to it, from 1: to the next when this one
    /// fails. None where it is not for such jobs.
    #[serde(default)]
    pub order: Option<usize>,
    /// What such a job takes there, where one has run.
    #[serde(default)]
    pub cost_us: Option<u64>,
    /// It computes on the host's own processor, whatever the interface.
    #[serde(default)]
    pub on_cpu: bool,
    pub name: String,
    pub driver: String,
    pub memory_bytes: u64,
    pub compute_units: u32,
    pub state: DeviceState,
    /// How much longer it is set aside.
    pub quarantined_ms: u64,
    /// Jobs that wait for it.
    pub queue_len: usize,
    pub jobs_done: u64,
    pub jobs_failed: u64,
    /// Submissions in which the jobs were done: fewer than jobs, where several went together.
    #[serde(default)]
    pub batches: u64,
    /// Time it has worked.
    pub busy_us: u64,
    /// The circuit that it has, where it takes no other kernels than those of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit: Option<String>,
    /// How often it was given another one.
    #[serde(default)]
    pub loads: u64,
    pub last_error: Option<String>,
    /// Kernels of chains that its compiler refused: their launches run one by one.
    #[serde(default)]
    pub chains_refused: usize,
}

/// What happened to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceChange {
    /// Such as `opencl0`.
    pub device: String,
    /// Why it is set aside; nothing when it works again.
    pub lost: Option<String>,
}

/// What a device is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    /// Not needed yet: no kernel is compiled, and its driver may not even be loaded.
    Asleep,
    /// Compiling its kernels.
    Warming,
    Ready,
    /// Failed lately, and left alone for a while.
    Quarantined,
}
