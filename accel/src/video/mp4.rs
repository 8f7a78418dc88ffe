//! MP4 files with H.264 that a browser plays, from JPEG pictures.

use std::path::Path;

use bytes::Bytes;
use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::context::Context;
use ffmpeg_next::frame::Video;
use ffmpeg_next::{Packet, codec, decoder};

use super::decode::Converter;
use super::mux::Mux;
use crate::h264::{Encoder, Settings};
use crate::{Error, Result};

/// Writes JPEG pictures of one size with their presentation times (microseconds, increasing) as
/// H.264 in a file whose index comes first. Of an odd side the last samples are shown twice.
pub fn write_mp4(path: impl AsRef<Path>, frames: &[(i64, Bytes)]) -> Result<()> {
    super::init();
    let path = path.as_ref();
    let failed = |error: &dyn ToString| Error::media(path.display().to_string(), error.to_string());
    let mut decoder = jpeg_decoder().map_err(|error| failed(&error))?;
    let (mut converter, mut writing) = (Converter::default(), None);
    for (index, (pts_us, jpeg)) in frames.iter().enumerate() {
        let picture = decode_jpeg(&mut decoder, jpeg).map_err(|error| failed(&error))?;
        let frame = converter.frame(&picture, *pts_us, index as u64);
        let frame = frame.map_err(|error| failed(&error))?;
        let (mut encoder, mux) = match writing.take() {
            Some((encoder, mux)) => (encoder, Some(mux)),
            None => (Encoder::new(frame.shape(), Settings::default())?, None),
        };
        let unit = encoder.encode(&frame)?;
        let mut mux = match mux {
            Some(mux) => mux,
            None => Mux::new(path, frame.shape(), &unit)?,
        };
        mux.add(unit)?;
        writing = Some((encoder, mux));
    }
    match writing {
        Some((_, mux)) => mux.finish(),
        None => Err(failed(&"there is no picture")),
    }
}

pub(super) fn jpeg_decoder() -> std::result::Result<decoder::Video, ffmpeg::Error> {
    let codec = decoder::find(codec::Id::MJPEG).ok_or(ffmpeg::Error::DecoderNotFound)?;
    Context::new_with_codec(codec).decoder().open_as(codec)?.video()
}

/// One picture; the decoder may be used again.
pub(super) fn decode_jpeg(
    decoder: &mut decoder::Video,
    jpeg: &[u8],
) -> std::result::Result<Video, ffmpeg::Error> {
    decoder.send_packet(&Packet::copy(jpeg))?;
    let mut picture = Video::empty();
    decoder.receive_frame(&mut picture)?;
    Ok(picture)
}

#[cfg(test)]
mod tests;
