//! The video kernels. Each is one stem: `foo.rs` holds the specification, the exact integer
//! reference, the native form and the operations of pipelines made of it, `foo.cl` the form that
//! OpenCL and CUDA compile (`foo.cu` where CUDA needs its own), `foo.cpp` that for FPGA
//! cards ([`hls`]). All forms give the same bits. A new stem is those three files and a line
//! in [`STEMS`].
//!
//! What is not here: scheduling, pipelines, and any vendor API.
//!
//! Frames are planes of bytes with a stride. NV12 is a luma plane of `width` x `height` samples
//! and, `chroma_offset` bytes from its start, a plane of ceil(width/2) x ceil(height/2) pairs of
//! Cb and Cr (ITU-R BT.601 sampling 4:2:0).

// Other processors have fewer forms by hand: what only those need is left over there.
#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, unused_imports, unused_mut, unused_variables)
)]

pub mod absdiff;
#[cfg(target_arch = "x86_64")]
mod avx2;
pub mod bilateral;
pub mod blur;
pub mod boxes;
pub mod chain;
pub mod component_table;
pub mod components;
pub mod convert;
pub mod corners;
mod dice;
pub mod edges;
pub mod gray;
pub mod h264;
pub mod half;
pub mod hls;
pub mod integral;
mod interleave;
pub mod jpeg;
mod lanes;
pub mod levels;
pub mod median;
pub mod mix;
pub mod mog2;
pub mod morph;
pub mod motion;
mod native;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plane;
mod pointwise;
pub mod quality;
pub mod rearrange;
pub mod regions;
pub mod resize;
pub mod scene;
pub mod score;
mod shape;
pub mod stamp;
pub mod stem;
pub mod temporal;
#[cfg(test)]
mod testing;
pub mod threshold;
pub mod warp;

use hw::Kernel;

pub use dice::Dice;
pub use native::{Job, wide};
pub use plane::{Nv12, Part, Plane, SIDE_MAX};
pub use shape::{Matrix, PixelFormat, Range, Shape};
pub use stem::{Entry, Op, Stem};

/// Every stem there is.
pub static STEMS: [&Stem; 33] = [
    &gray::STEM,
    &half::STEM,
    &absdiff::STEM,
    &threshold::STEM,
    &score::STEM,
    &boxes::STEM,
    &jpeg::STEM,
    &convert::STEM,
    &resize::STEM,
    &rearrange::STEM,
    &blur::STEM,
    &edges::STEM,
    &median::STEM,
    &morph::STEM,
    &mix::STEM,
    &temporal::STEM,
    &levels::STEM,
    &integral::STEM,
    &quality::STEM,
    &stamp::STEM,
    &regions::STEM,
    &motion::STEM,
    &mog2::STEM,
    &h264::STEM,
    &bilateral::STEM,
    &corners::STEM,
    &warp::STEM,
    &scene::STEM,
    &components::STEM,
    &component_table::STEM,
    &jpeg::inverse::STEM,
    &h264::eight::STEM,
    &h264::four::STEM,
];

/// The kernels that chains are made of, by stems.
static POINTWISE: [&[pointwise::Pointwise]; 8] = [
    gray::POINTWISE,
    absdiff::POINTWISE,
    threshold::POINTWISE,
    convert::POINTWISE,
    rearrange::POINTWISE,
    mix::POINTWISE,
    levels::POINTWISE,
    stamp::POINTWISE,
];

/// The kernels that chains may end in, by stems.
static READERS: [&[pointwise::Reader]; 2] = [half::READERS, edges::READERS];

/// Every kernel with its reference.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    STEMS.iter().flat_map(|stem| stem.entries)
}

/// Every operation of pipelines.
pub fn ops() -> impl Iterator<Item = &'static Op> {
    STEMS.iter().flat_map(|stem| stem.ops)
}

/// The kernels that are compiled before the first job: those of the stems at the front of the
/// list. Others are compiled when a job wants them.
pub fn common() -> Vec<&'static Kernel> {
    STEMS[..COMMON].iter().flat_map(|stem| stem.entries).map(|entry| entry.kernel).collect()
}

const COMMON: usize = 7;

#[cfg(test)]
mod tests;
