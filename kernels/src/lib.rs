//! The video kernels. Each is one stem: `foo.rs` holds the specification, the exact integer
//! reference and the native form, `foo.cl` the OpenCL form. All forms give the same bits.
//!
//! What is not here: scheduling, pipelines, and any vendor API.
//!
//! Frames are planes of bytes with a stride. NV12 is a luma plane of `width` x `height` samples
//! and, `chroma_offset` bytes from its start, a plane of ceil(width/2) x ceil(height/2) pairs of
//! Cb and Cr (ITU-R BT.601 sampling 4:2:0).

pub mod absdiff;
pub mod boxes;
pub mod gray;
pub mod half;
pub mod jpeg;
mod native;
mod plane;
pub mod score;
#[cfg(test)]
mod testing;
pub mod threshold;

use hw::{CpuArgs, Kernel};

pub use plane::{Nv12, Plane, SIDE_MAX};

/// A kernel with the slow, obviously right form that its other forms are checked against.
pub struct Entry {
    pub kernel: &'static Kernel,
    pub reference: fn(&mut CpuArgs<'_>),
}

/// Every kernel there is.
pub static ALL: [Entry; 7] = [
    Entry { kernel: &gray::KERNEL, reference: gray::reference },
    Entry { kernel: &half::KERNEL, reference: half::reference },
    Entry { kernel: &absdiff::KERNEL, reference: absdiff::reference },
    Entry { kernel: &threshold::KERNEL, reference: threshold::reference },
    Entry { kernel: &score::KERNEL, reference: score::reference },
    Entry { kernel: &boxes::KERNEL, reference: boxes::reference },
    Entry { kernel: &jpeg::KERNEL, reference: jpeg::reference },
];
