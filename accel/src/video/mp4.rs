//! MP4 files with H.264 that a browser plays, from JPEG pictures, through FFmpeg's encoder.

use std::path::Path;

use bytes::Bytes;
use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::context::Context;
use ffmpeg_next::format::{Pixel, context::Output};
use ffmpeg_next::frame::Video;
use ffmpeg_next::software::scaling::{Context as Scaler, Flags};
use ffmpeg_next::util::color;
use ffmpeg_next::{Dictionary, Packet, Rational, codec, decoder, encoder, picture};

use super::avi::jpeg_sides;
use crate::{Error, Result};

/// Times are in microseconds.
const TIME_BASE: Rational = Rational(1, 1_000_000);
/// How long one picture alone is shown.
const PERIOD_US: i64 = 40_000;
/// Encoders that will do, in order of preference.
const ENCODERS: [&str; 2] = ["libx264", "libopenh264"];

/// Writes JPEG pictures with their presentation times (microseconds, increasing) as H.264 of
/// 4:2:0 in a file whose index comes first. An odd last column or row is left out.
///
/// [`Error::NoCodec`] when this machine's FFmpeg cannot encode H.264.
pub fn write_mp4(path: impl AsRef<Path>, frames: &[(i64, Bytes)]) -> Result<()> {
    super::init();
    let path = path.as_ref();
    let name = path.display().to_string();
    let codec = ENCODERS.into_iter().find_map(encoder::find_by_name).ok_or_else(no_encoder)?;
    let (width, height) = frames
        .first()
        .and_then(|(_, jpeg)| jpeg_sides(jpeg))
        .map(|(width, height)| (width & !1, height & !1))
        .filter(|(width, height)| *width > 0 && *height > 0)
        .ok_or_else(|| Error::media(&name, "the first picture is missing, too small or no JPEG"))?;
    if let Some(pair) = frames.windows(2).find(|pair| pair[1].0 <= pair[0].0) {
        let detail = format!("times go back from {} to {} us", pair[0].0, pair[1].0);
        return Err(Error::media(&name, detail));
    }
    let mean_us = match frames {
        [first, .., last] => last.0.saturating_sub(first.0) / (frames.len() as i64 - 1),
        _ => PERIOD_US,
    };
    let written = Writing::start(path, codec, width, height, mean_us).and_then(|mut writing| {
        frames
            .iter()
            .try_for_each(|(pts_us, jpeg)| writing.add(pts_us.saturating_sub(frames[0].0), jpeg))?;
        writing.finish()
    });
    written.map_err(|error| Error::media(&name, error))
}

fn no_encoder() -> Error {
    Error::NoCodec {
        codec: "H.264 encoder".to_string(),
        mend: format!("install an FFmpeg built with {}", ENCODERS.join(" or ")),
    }
}

struct Writing {
    output: Output,
    encoder: encoder::Video,
    stream_base: Rational,
    decoder: decoder::Video,
    scaler: Option<Scaler>,
    width: u32,
    height: u32,
    /// How long the last picture is shown: without it, players leave it out.
    picture_us: i64,
}

impl Writing {
    fn start(
        path: &Path,
        codec: ffmpeg::Codec,
        width: u32,
        height: u32,
        picture_us: i64,
    ) -> std::result::Result<Self, ffmpeg::Error> {
        let mut output = ffmpeg::format::output_as(path, "mp4")?;
        let global_header = output.format().flags().contains(ffmpeg::format::Flags::GLOBAL_HEADER);
        let mut settings = Context::new_with_codec(codec).encoder().video()?;
        settings.set_width(width);
        settings.set_height(height);
        settings.set_format(Pixel::YUV420P);
        settings.set_color_range(color::Range::MPEG);
        settings.set_time_base(TIME_BASE);
        if global_header {
            settings.set_flags(codec::Flags::GLOBAL_HEADER);
        }
        let mut options = Dictionary::new();
        options.set("preset", "veryfast");
        options.set("crf", "23");
        let encoder = settings.open_as_with(codec, options)?;
        let mut stream = output.add_stream(codec)?;
        stream.set_time_base(TIME_BASE);
        stream.set_parameters(&encoder);
        let mut options = Dictionary::new();
        options.set("movflags", "+faststart");
        output.write_header_with(options)?;
        let stream_base = output.stream(0).ok_or(ffmpeg::Error::StreamNotFound)?.time_base();
        let decoder = jpeg_decoder()?;
        let scaler = None;
        Ok(Self { output, encoder, stream_base, decoder, scaler, width, height, picture_us })
    }

    fn add(&mut self, pts_us: i64, jpeg: &[u8]) -> std::result::Result<(), ffmpeg::Error> {
        let picture = decode_jpeg(&mut self.decoder, jpeg)?;
        let mut frame = self.scale(&picture)?;
        frame.set_pts(Some(pts_us));
        frame.set_kind(picture::Type::None);
        self.encoder.send_frame(&frame)?;
        self.drain()
    }

    /// The picture with limited range and even sides.
    fn scale(&mut self, picture: &Video) -> std::result::Result<Video, ffmpeg::Error> {
        let (format, width, height) = (picture.format(), picture.width(), picture.height());
        let fits = |scaler: &Scaler| {
            let input = scaler.input();
            (input.format, input.width, input.height) == (format, width, height)
        };
        if !self.scaler.as_ref().is_some_and(fits) {
            let (to_width, to_height) = (self.width, self.height);
            let to = (Pixel::YUV420P, to_width, to_height);
            self.scaler =
                Some(Scaler::get(format, width, height, to.0, to.1, to.2, Flags::BICUBIC)?);
        }
        let scaler = self.scaler.as_mut().ok_or(ffmpeg::Error::Bug)?;
        let mut frame = Video::empty();
        scaler.run(picture, &mut frame)?;
        Ok(frame)
    }

    fn drain(&mut self) -> std::result::Result<(), ffmpeg::Error> {
        let mut packet = Packet::empty();
        while self.encoder.receive_packet(&mut packet).is_ok() {
            packet.set_stream(0);
            packet.set_duration(self.picture_us);
            packet.rescale_ts(TIME_BASE, self.stream_base);
            packet.write_interleaved(&mut self.output)?;
        }
        Ok(())
    }

    fn finish(mut self) -> std::result::Result<(), ffmpeg::Error> {
        self.encoder.send_eof()?;
        self.drain()?;
        self.output.write_trailer()
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
