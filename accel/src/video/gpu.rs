//! The decoder of an NVIDIA GPU, through FFmpeg, which loads the driver where there is one.
//!
//! Only for codecs whose pictures the standard gives to the bit, so that frames are the same
//! whoever decodes them. Pictures are brought to host memory at once.

use ffmpeg_next::codec::Id;
use ffmpeg_next::codec::context::Context;
use ffmpeg_next::ffi;
use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame::Video;

/// What is asked in vain where this variable has this value.
const VARIABLE: &str = "EDGESCALE_DECODER";
const NOBODY: &str = "software";

/// An open GPU.
pub(super) struct Gpu {
    device: *mut ffi::AVBufferRef,
}

impl Gpu {
    /// The first one; the error says why there is none.
    pub fn open() -> Result<Self, String> {
        super::init();
        if std::env::var_os(VARIABLE).is_some_and(|value| value == NOBODY) {
            return Err(format!("{VARIABLE} is {NOBODY}"));
        }
        let (mut device, kind) = (std::ptr::null_mut(), ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA);
        let (name, options) = (std::ptr::null(), std::ptr::null_mut());
        // SAFETY: the place for the device outlives the call, and no name and no options are given.
        match unsafe { ffi::av_hwdevice_ctx_create(&mut device, kind, name, options, 0) } {
            0 if !device.is_null() => Ok(Self { device }),
            error => Err(format!("no CUDA device ({})", ffmpeg_next::Error::from(error))),
        }
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: the reference is this value's own; null is left alone.
        unsafe { ffi::av_buffer_unref(&mut self.device) };
    }
}

/// Has a decoder that is not open yet use the first GPU; the error says why it does not.
pub(super) fn lend(context: &mut Context) -> Result<(), String> {
    let codec = context.id();
    if !matches!(codec, Id::H264 | Id::HEVC | Id::VP8 | Id::VP9 | Id::AV1) {
        return Err(format!("no GPU is asked for {}", codec.name()));
    }
    let mut gpu = Gpu::open()?;
    let device = std::mem::replace(&mut gpu.device, std::ptr::null_mut());
    // SAFETY: the context is alive, nobody else has it, and it frees what it is given here.
    unsafe { (*context.as_mut_ptr()).hw_device_ctx = device };
    Ok(())
}

/// Whether a picture lies in a GPU's memory.
pub(super) fn has(picture: &Video) -> bool {
    picture.format() == Pixel::CUDA
}

/// The same picture in host memory.
pub(super) fn bring(picture: &Video) -> Result<Video, String> {
    let mut here = Video::empty();
    // SAFETY: both frames are alive, and the empty one is given memory of its own.
    let copied = unsafe { ffi::av_hwframe_transfer_data(here.as_mut_ptr(), picture.as_ptr(), 0) };
    if copied < 0 {
        return Err(format!("from the GPU: {}", ffmpeg_next::Error::from(copied)));
    }
    // SAFETY: both frames are alive.
    match unsafe { ffi::av_frame_copy_props(here.as_mut_ptr(), picture.as_ptr()) } {
        0.. => Ok(here),
        error => Err(format!("from the GPU: {}", ffmpeg_next::Error::from(error))),
    }
}
