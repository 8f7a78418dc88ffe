//! Streams of H.264 in files that players open, through FFmpeg's containers.

use std::path::Path;

use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::Parameters;
use ffmpeg_next::format::context::Output;
use ffmpeg_next::{Dictionary, Packet, Rational, codec, encoder, ffi};

use crate::h264::Unit;
use crate::{Error, Result, Shape};

/// Times are in microseconds.
const TIME_BASE: Rational = Rational(1, 1_000_000);
/// How long one picture alone is shown.
const PERIOD_US: i64 = 40_000;
/// Zeros that FFmpeg wants behind what it reads.
const PADDING_BYTES: usize = ffi::AV_INPUT_BUFFER_PADDING_SIZE as usize;

/// Names of options with their values.
type Options = &'static [(&'static str, &'static str)];

/// The endings of the files there are, FFmpeg's names for them, and options: `MP4` with its index
/// first, and lists of pieces (HLS) that keep all.
const KINDS: [(&str, &str, Options); 5] = [
    ("mp4", "mp4", &[("movflags", "+faststart")]),
    ("mkv", "matroska", &[]),
    ("ts", "mpegts", &[]),
    ("m3u8", "hls", &[("hls_list_size", "0"), ("hls_time", "2")]),
    ("h264", "h264", &[]),
];

/// A file that is being written.
pub struct Mux {
    name: String,
    output: Output,
    stream_base: Rational,
    /// The picture before, which waits for how long it is shown.
    held: Option<Unit>,
    first_us: i64,
    shown_us: i64,
}

impl Mux {
    /// Whether there is a kind of file with this ending.
    pub fn writes(ending: &str) -> bool {
        KINDS.iter().any(|(known, ..)| *known == ending)
    }

    /// Begins a file, of the kind that its ending says, for a stream that begins with `first`.
    pub fn new(path: impl AsRef<Path>, shape: Shape, first: &Unit) -> Result<Self> {
        super::init();
        let path = path.as_ref();
        let name = path.display().to_string();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let kind = KINDS.iter().find(|(known, ..)| *known == ending).ok_or_else(|| {
            let known: Vec<&str> = KINDS.iter().map(|(ending, ..)| *ending).collect();
            Error::media(&name, format!("end it in one of {}", known.join(", ")))
        })?;
        let begun = begin(path, kind.1, kind.2, shape, first);
        let (output, stream_base) = begun.map_err(|error| Error::media(&name, error))?;
        let first_us = first.pts_us;
        Ok(Self { name, output, stream_base, held: None, first_us, shown_us: PERIOD_US })
    }

    /// Adds the next picture; times increase.
    pub fn add(&mut self, unit: Unit) -> Result<()> {
        let Some(before) = self.held.replace(unit) else { return Ok(()) };
        let now_us = self.held.as_ref().map_or(before.pts_us, |unit| unit.pts_us);
        let shown_us = now_us.saturating_sub(before.pts_us);
        if shown_us <= 0 {
            let detail = format!("times go back from {} to {now_us} us", before.pts_us);
            return Err(Error::media(&self.name, detail));
        }
        self.shown_us = shown_us;
        self.write(&before)
    }

    /// Closes the file.
    pub fn finish(mut self) -> Result<()> {
        if let Some(last) = self.held.take() {
            self.write(&last)?;
        }
        self.output.write_trailer().map_err(|error| Error::media(&self.name, error))
    }

    fn write(&mut self, unit: &Unit) -> Result<()> {
        let mut packet = Packet::copy(&unit.data);
        let at_us = unit.pts_us.saturating_sub(self.first_us);
        packet.set_stream(0);
        packet.set_pts(Some(at_us));
        packet.set_dts(Some(at_us));
        packet.set_duration(self.shown_us);
        if unit.is_key {
            packet.set_flags(codec::packet::Flags::KEY);
        }
        packet.rescale_ts(TIME_BASE, self.stream_base);
        let written = packet.write_interleaved(&mut self.output);
        written.map_err(|error| Error::media(&self.name, error))
    }
}

fn begin(
    path: &Path,
    kind: &str,
    options: Options,
    shape: Shape,
    first: &Unit,
) -> std::result::Result<(Output, Rational), ffmpeg::Error> {
    let mut output = ffmpeg::format::output_as(path, kind)?;
    let mut stream = output.add_stream(encoder::find(codec::Id::None))?;
    stream.set_time_base(TIME_BASE);
    stream.set_parameters(parameters(shape, &first.data)?);
    let mut dictionary = Dictionary::new();
    options.iter().for_each(|(name, value)| dictionary.set(name, value));
    output.write_header_with(dictionary)?;
    let base = output.stream(0).ok_or(ffmpeg::Error::StreamNotFound)?.time_base();
    Ok((output, base))
}

/// What containers want to know of the stream, its parameter sets among it.
fn parameters(shape: Shape, first: &[u8]) -> std::result::Result<Parameters, ffmpeg::Error> {
    let sets = crate::h264::sets(first);
    let mut parameters = Parameters::new();
    // SAFETY: FFmpeg gives zeroed memory of this length, or none.
    let extra = unsafe { ffi::av_mallocz(sets.len() + PADDING_BYTES) }.cast::<u8>();
    if extra.is_null() {
        return Err(ffmpeg::Error::Other { errno: ffmpeg::error::ENOMEM });
    }
    // SAFETY: the memory was just made as long as that, and nobody else has it.
    unsafe { std::ptr::copy_nonoverlapping(sets.as_ptr(), extra, sets.len()) };
    // SAFETY: the parameters are alive, nobody else has them, and they have no extra data yet.
    let inner = unsafe { &mut *parameters.as_mut_ptr() };
    inner.codec_type = ffi::AVMediaType::AVMEDIA_TYPE_VIDEO;
    inner.codec_id = ffi::AVCodecID::AV_CODEC_ID_H264;
    inner.width = shape.width.next_multiple_of(2) as i32;
    inner.height = shape.height.next_multiple_of(2) as i32;
    inner.profile = 66 | 512;
    // From here on it is freed with the parameters.
    inner.extradata = extra;
    inner.extradata_size = sets.len() as i32;
    Ok(parameters)
}
