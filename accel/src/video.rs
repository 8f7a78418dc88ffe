//! Video in and out, through FFmpeg: decoding files and streams to frames, how a child process
//! hands frames to its parent, and files that players open.
//!
//! A damaged stream can crash a decoder, so a node decodes in a child process ([`child`]).

mod avi;
pub mod child;
mod decode;
mod gpu;
mod mp4;
mod mux;
pub(crate) mod ring;

use std::sync::Once;

use ffmpeg_next as ffmpeg;

pub use avi::write_avi;
pub use decode::{Summary, decode};
pub use mp4::write_mp4;
pub use mux::Mux;

pub use crate::h264::{Encoder, Preset, Settings, Unit};

/// What decodes streams here beside FFmpeg's software: the error says why nothing does. This loads
/// the driver of a GPU where there is one.
pub fn gpu_decoder() -> std::result::Result<&'static str, String> {
    gpu::Gpu::open().map(|_| "the decoder of a CUDA device")
}

/// Readies FFmpeg, which otherwise writes its own complaints to stderr; ours are typed errors.
pub(crate) fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = ffmpeg::init() {
            tracing::warn!(%error, "FFmpeg does not start");
        }
        ffmpeg::log::set_level(ffmpeg::log::Level::Fatal);
    });
}
