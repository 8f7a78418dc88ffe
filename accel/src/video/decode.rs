//! Decoding: anything FFmpeg opens, to NV12 frames with their times in microseconds.

use std::ops::ControlFlow;
use std::sync::Arc;

use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::context::Context;
use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame::Video;
use ffmpeg_next::software::scaling::{Context as Scaler, Flags};
use ffmpeg_next::util::color;
use ffmpeg_next::{Dictionary, Packet, Rational};

use super::gpu;
use crate::frame::{FrameMemory, bytes_of};
use crate::{Error, Frame, Matrix, PixelFormat, Range, Result, Shape};

/// Damaged packets in a row after which a stream is given up.
const DAMAGED_RUN_MAX: u64 = 100;
/// Packets in a row that a GPU may refuse: one that is lost takes none.
const REFUSED_RUN_MAX: u64 = 25;
/// Protocols a URL may use, and what it links to. Files are only opened by their path.
const URL_PROTOCOLS: &str = "http,https,tcp,tls,udp,rtp,srtp,rtsp,rtmp,rtmps,srt,crypto";
const FILE_PROTOCOLS: &str = "file,crypto,data";
/// What a frame lasts when the stream does not say.
const FRAME_US: i64 = 40_000;

/// How a stream went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    pub frames: u64,
    /// Packets that could not be decoded and were skipped.
    pub damaged: u64,
}

/// Decodes the best video stream of a file or URL, frame by frame, until it ends or `on_frame`
/// breaks. Fails when it cannot be opened, has no video, or not one frame can be decoded.
pub fn decode(
    path_or_url: &str,
    mut on_frame: impl FnMut(Frame) -> ControlFlow<()>,
) -> Result<Summary> {
    let memory = FrameMemory::new();
    each(path_or_url, None, &mut |picture| Ok(on_frame(picture.frame(&memory)?)))
}

/// What is done with a picture; it says where the samples go.
pub(super) type OnPicture<'a> =
    dyn FnMut(Picture<'_>) -> std::result::Result<ControlFlow<()>, String> + 'a;

/// The same by a GPU, where it can; `tell` hears who decodes. Where a GPU has decoded nothing,
/// software begins anew.
pub(super) fn each_by(
    tell: &mut Tell<'_>,
    path_or_url: &str,
    on_picture: &mut OnPicture<'_>,
) -> Result<Summary> {
    let (mut by_gpu, mut is_begun) = (false, false);
    let lend = &mut |context: &mut Context| {
        let lent = gpu::lend(context);
        by_gpu = lent.is_ok();
        match lent {
            Ok(()) => tell("a GPU is asked to decode"),
            Err(reason) => tell(&format!("software decodes: {reason}")),
        }
        by_gpu
    };
    let decoded = each(path_or_url, Some(lend), &mut |picture| {
        is_begun = true;
        on_picture(picture)
    });
    match decoded {
        Err(error) if by_gpu && !is_begun => {
            tell(&format!("software decodes: {error}"));
            each(path_or_url, None, on_picture)
        }
        done => done,
    }
}

/// Hears who decodes.
pub(super) type Tell<'a> = dyn FnMut(&str) + 'a;

/// Gives a decoder a GPU to use; true if it took one.
type Lend<'a> = dyn FnMut(&mut Context) -> bool + 'a;

fn each(
    path_or_url: &str,
    lend: Option<&mut Lend<'_>>,
    on_picture: &mut OnPicture<'_>,
) -> Result<Summary> {
    super::init();
    let failed = |detail: String| Error::media(path_or_url, detail);
    let mut input = open(path_or_url)?;
    let stream = input
        .streams()
        .best(ffmpeg::media::Type::Video)
        .ok_or_else(|| failed("it has no video stream".to_string()))?;
    let index = stream.index();
    let mut by_gpu = false;
    let decoder = Context::from_parameters(stream.parameters()).and_then(|mut context| {
        by_gpu = lend.is_some_and(|lend| lend(&mut context));
        context.decoder().video()
    });
    let mut decoding = Decoding {
        decoder: decoder.map_err(|e| failed(format!("its video cannot be decoded: {e}")))?,
        times: Times::new(stream.time_base(), stream.avg_frame_rate()),
        converter: Converter::default(),
        summary: Summary::default(),
    };
    let mut packet = Packet::empty();
    let (mut damaged_run, mut refused_run) = (0, 0);
    loop {
        match packet.read(&mut input) {
            Ok(()) if packet.stream() != index => continue,
            Ok(()) => damaged_run = 0,
            Err(ffmpeg::Error::Eof) => break,
            Err(ffmpeg::Error::InvalidData) if damaged_run < DAMAGED_RUN_MAX => {
                damaged_run += 1;
                continue;
            }
            Err(error) => return Err(failed(format!("reading: {error}"))),
        }
        if decoding.decoder.send_packet(&packet).is_err() {
            decoding.summary.damaged += 1;
            refused_run += 1;
        } else {
            refused_run = 0;
        }
        if by_gpu && refused_run > REFUSED_RUN_MAX {
            return Err(failed("the GPU does not decode it any more".to_string()));
        }
        if decoding.drain(on_picture).map_err(&failed)?.is_break() {
            return Ok(decoding.summary);
        }
    }
    // A decoder that refuses the end of its input has nothing more to give either.
    let _ = decoding.decoder.send_eof();
    let _ = decoding.drain(on_picture).map_err(&failed)?;
    match decoding.summary {
        Summary { frames: 0, .. } => Err(failed("no frame could be decoded".to_string())),
        summary => Ok(summary),
    }
}

fn open(path_or_url: &str) -> Result<ffmpeg::format::context::Input> {
    if path_or_url.contains('\0') || path_or_url.is_empty() {
        return Err(Error::media(path_or_url.replace('\0', "\\0"), "not a path or URL"));
    }
    let is_url = path_or_url.contains("://");
    let mut options = Dictionary::new();
    options.set("protocol_whitelist", if is_url { URL_PROTOCOLS } else { FILE_PROTOCOLS });
    // Without a protocol in front, a colon in a file name would be taken for one.
    let target = if is_url { path_or_url.to_string() } else { format!("file:{path_or_url}") };
    ffmpeg::format::input_with_dictionary(&target, options)
        .map_err(|error| Error::media(path_or_url, format!("cannot be opened: {error}")))
}

struct Decoding {
    decoder: ffmpeg::decoder::Video,
    times: Times,
    converter: Converter,
    summary: Summary,
}

impl Decoding {
    /// Hands over the pictures that are ready.
    fn drain(
        &mut self,
        on_picture: &mut OnPicture<'_>,
    ) -> std::result::Result<ControlFlow<()>, String> {
        let mut video = Video::empty();
        while self.decoder.receive_frame(&mut video).is_ok() {
            let pts_us = self.times.next(video.timestamp());
            let brought = gpu::has(&video).then(|| gpu::bring(&video)).transpose()?;
            let video = brought.as_ref().unwrap_or(&video);
            let index = self.summary.frames;
            let picture = Picture::new(video, &mut self.converter, pts_us, index)?;
            self.summary.frames += 1;
            if on_picture(picture)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Presentation times in microseconds, filled in where the stream has none.
struct Times {
    base: Rational,
    frame_us: i64,
    last_us: Option<i64>,
}

impl Times {
    fn new(base: Rational, rate: Rational) -> Self {
        let known = rate.numerator() > 0 && rate.denominator() > 0;
        let frame_us = if known {
            1_000_000 * i64::from(rate.denominator()) / i64::from(rate.numerator())
        } else {
            FRAME_US
        };
        Self { base, frame_us, last_us: None }
    }

    fn next(&mut self, timestamp: Option<i64>) -> i64 {
        let (up, down) = (i128::from(self.base.numerator()), i128::from(self.base.denominator()));
        let stated = timestamp
            .filter(|_| down != 0)
            .and_then(|ticks| i64::try_from(i128::from(ticks) * up * 1_000_000 / down).ok());
        let guessed = || self.last_us.map_or(0, |last| last.saturating_add(self.frame_us));
        let us = stated.unwrap_or_else(guessed);
        self.last_us = Some(us);
        us
    }
}

/// A decoded picture, whose samples are yet to be brought into NV12.
pub(super) struct Picture<'a> {
    video: &'a Video,
    converter: &'a mut Converter,
    pub shape: Shape,
    pub bytes: usize,
    pub pts_us: i64,
    pub index: u64,
}

impl<'a> Picture<'a> {
    /// What FFmpeg gives is checked before it is touched.
    pub(super) fn new(
        video: &'a Video,
        converter: &'a mut Converter,
        pts_us: i64,
        index: u64,
    ) -> std::result::Result<Self, String> {
        let shape = Shape {
            width: video.width(),
            height: video.height(),
            format: PixelFormat::Nv12,
            range: range(video),
            matrix: matrix(video),
        };
        let bytes = bytes_of(shape).map_err(|error| error.to_string())?;
        Ok(Self { video, converter, shape, bytes, pts_us, index })
    }

    /// The picture as a frame.
    fn frame(self, memory: &Arc<FrameMemory>) -> std::result::Result<Frame, String> {
        let (shape, pts_us, index) = (self.shape, self.pts_us, self.index);
        let data = memory.filled(self.bytes, |to| self.write(to))?;
        Frame::new(shape, pts_us, index, data).map_err(|error| error.to_string())
    }

    /// Writes the samples, which fill `to`: [`bytes`](Self::bytes) of them.
    pub(super) fn write(self, to: &mut [u8]) -> std::result::Result<(), String> {
        if to.len() != self.bytes {
            return Err(format!("{} bytes of room for {}", to.len(), self.bytes));
        }
        match self.video.format() {
            Pixel::NV12 => write_nv12(self.video, to),
            Pixel::YUV420P | Pixel::YUVJ420P => write_planar(self.video, to),
            _ => write_nv12(&self.converter.scaled(self.video)?, to),
        }
    }
}

/// Brings pixels of other kinds into NV12.
#[derive(Default)]
pub(super) struct Converter {
    scaler: Option<Scaler>,
}

impl Converter {
    /// One picture as a frame.
    pub(super) fn frame(
        &mut self,
        video: &Video,
        pts_us: i64,
        index: u64,
    ) -> std::result::Result<Frame, String> {
        Picture::new(video, self, pts_us, index)?.frame(&FrameMemory::new())
    }

    fn scaled(&mut self, video: &Video) -> std::result::Result<Video, String> {
        let (format, width, height) = (video.format(), video.width(), video.height());
        let fits = |scaler: &Scaler| {
            let input = scaler.input();
            (input.format, input.width, input.height) == (format, width, height)
        };
        if !self.scaler.as_ref().is_some_and(fits) {
            let flags = Flags::BILINEAR;
            let new = Scaler::get(format, width, height, Pixel::NV12, width, height, flags);
            self.scaler = Some(new.map_err(|e| format!("pixels {format:?}: {e}"))?);
        }
        let scaler = self.scaler.as_mut().ok_or("no scaler")?;
        let mut out = Video::empty();
        scaler.run(video, &mut out).map_err(|e| format!("pixels {format:?}: {e}"))?;
        Ok(out)
    }
}

/// The range of the samples after conversion: FFmpeg brings RGB and the "J" formats to limited.
fn range(picture: &Video) -> Range {
    match (picture.format(), picture.color_range()) {
        (Pixel::YUVJ420P, _) => Range::Full,
        (Pixel::YUVJ422P | Pixel::YUVJ444P | Pixel::YUVJ440P | Pixel::YUVJ411P, _) => {
            Range::Limited
        }
        (format, color::Range::JPEG) if !is_rgb(format) => Range::Full,
        _ => Range::Limited,
    }
}

/// The matrix of the samples after conversion, as far as the stream says; it is BT.601 by which
/// FFmpeg converts RGB. Others than the two are not told apart from none.
fn matrix(picture: &Video) -> Matrix {
    match picture.color_space() {
        _ if is_rgb(picture.format()) => Matrix::Bt601,
        color::Space::BT709 => Matrix::Bt709,
        color::Space::BT470BG | color::Space::SMPTE170M => Matrix::Bt601,
        _ => Matrix::Unspecified,
    }
}

fn is_rgb(format: Pixel) -> bool {
    let name = format.descriptor().map_or("", |descriptor| descriptor.name());
    ["rgb", "bgr", "gbr", "pal8"].iter().any(|part| name.contains(part))
}

fn write_nv12(video: &Video, to: &mut [u8]) -> std::result::Result<(), String> {
    let chroma = write_luma(video, to)?;
    let (width, height) = (video.width() as usize, video.height() as usize);
    let pairs = width.div_ceil(2) * 2;
    let from = rows(video, 1, pairs, height.div_ceil(2))?;
    chroma.chunks_exact_mut(pairs).zip(from).for_each(|(to, row)| to.copy_from_slice(row));
    Ok(())
}

fn write_planar(video: &Video, to: &mut [u8]) -> std::result::Result<(), String> {
    let chroma = write_luma(video, to)?;
    let (width, height) = (video.width() as usize, video.height() as usize);
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    let cb = rows(video, 1, half_width, half_height)?;
    let cr = rows(video, 2, half_width, half_height)?;
    let rows = chroma.chunks_exact_mut(2 * half_width).zip(cb.zip(cr));
    rows.for_each(|(to, (cb, cr))| interleave(cb, cr, to));
    Ok(())
}

/// Writes the luma; returns where the chroma goes.
fn write_luma<'a>(video: &Video, to: &'a mut [u8]) -> std::result::Result<&'a mut [u8], String> {
    let (width, height) = (video.width() as usize, video.height() as usize);
    let from = rows(video, 0, width, height)?;
    let (luma, chroma) = to.split_at_mut(width * height);
    luma.chunks_exact_mut(width).zip(from).for_each(|(to, row)| to.copy_from_slice(row));
    Ok(chroma)
}

/// Cb and Cr by turns, sixteen at a time, which the compiler makes a few instructions of.
fn interleave(cb: &[u8], cr: &[u8], to: &mut [u8]) {
    let (wide, rest) = to.as_chunks_mut::<32>();
    let ((cb, cb_rest), (cr, cr_rest)) = (cb.as_chunks::<16>(), cr.as_chunks::<16>());
    for (to, (cb, cr)) in wide.iter_mut().zip(cb.iter().zip(cr)) {
        for i in 0..16 {
            (to[2 * i], to[2 * i + 1]) = (cb[i], cr[i]);
        }
    }
    let rest = rest.as_chunks_mut::<2>().0.iter_mut();
    for (pair, (cb, cr)) in rest.zip(cb_rest.iter().zip(cr_rest)) {
        *pair = [*cb, *cr];
    }
}

/// The rows of a plane, without the gaps between them.
fn rows(
    video: &Video,
    plane: usize,
    row_bytes: usize,
    count: usize,
) -> std::result::Result<impl Iterator<Item = &[u8]>, String> {
    if plane >= video.planes() {
        return Err(format!("a picture has no plane {plane}"));
    }
    let stride = video.stride(plane);
    // A bottom-up picture has a negative stride, which arrives as a huge one.
    if stride < row_bytes || stride > 64 * Shape::SIDE_MAX as usize {
        return Err(format!("a plane of {row_bytes} bytes a row has a stride of {stride}"));
    }
    let data = video.data(plane);
    if data.len() < stride * count {
        return Err(format!("plane {plane} is {} bytes short", stride * count - data.len()));
    }
    Ok(data.chunks_exact(stride).take(count).map(move |row| &row[..row_bytes]))
}

#[cfg(test)]
pub(super) mod tests;
