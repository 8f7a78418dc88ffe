//! What is wrong with a PTX text, and what a thread did wrong while it ran.

use std::fmt;

/// A text that is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("PTX line {line}: {detail}")]
pub struct Refusal {
    pub line: u32,
    pub detail: String,
}

impl Refusal {
    pub fn new(line: u32, detail: impl Into<String>) -> Self {
        Self { line, detail: detail.into() }
    }
}

/// A thread that did what it must not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("kernel {kernel}, PTX line {line} ({opcode}), {thread}: {wrong}")]
pub struct Fault {
    pub kernel: String,
    pub line: u32,
    pub opcode: String,
    pub thread: Thread,
    pub wrong: Wrong,
}

/// A thread of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thread {
    pub block: u32,
    /// Within the block.
    pub index: u32,
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {} of block {}", self.index, self.block)
    }
}

/// What a thread must not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("{bytes} bytes at {space} address {address:#x} lie {place}")]
    Outside { space: &'static str, address: u64, bytes: usize, place: String },
    #[error("{bytes} bytes at {space} address {address:#x}, which is no multiple of that")]
    Misaligned { space: &'static str, address: u64, bytes: usize },
    #[error("{used} depends on memory or a register that nobody wrote")]
    Undefined { used: &'static str },
    #[error("{access} byte {at} of {of}, which {other} {did} with nothing to order the two")]
    Race { access: &'static str, at: usize, of: String, other: Thread, did: &'static str },
    #[error("writes byte {at} of {of}, which is only to be read")]
    WritesInput { at: usize, of: String },
    #[error("reads byte {at} of {of}, an output, before this launch has written it")]
    ReadsOutput { at: usize, of: String },
    #[error("byte {at} of {of} is read as never changing (.nc) and written in the same launch")]
    ReadAsConstant { at: usize, of: String },
    #[error("divides by zero")]
    DivisionByZero,
    #[error("waits at a barrier while {other} waits at the one of line {line}")]
    BarrierDiverges { other: Thread, line: u32 },
    #[error("waits for lanes {awaited:#010x} of its warp; only {came:#010x} come")]
    WarpDiverges { awaited: u32, came: u32 },
    #[error("its lane is not in the mask {mask:#010x} that it names")]
    OutsideMask { mask: u32 },
    #[error("takes a value of lane {lane}, which takes no part")]
    AbsentLane { lane: u32 },
    #[error("still runs after {steps} instructions of its block's warps")]
    Endless { steps: u64 },
    #[error("index {index} of a table of {len} branches")]
    NoSuchBranch { index: u64, len: usize },
    #[error("trap")]
    Trap,
}
