//! In the child: a stream coded by one of FFmpeg's encoders.

use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::context::Context;
use ffmpeg_next::codec::threading;
use ffmpeg_next::encoder::video::Encoder;
use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame::Video;
use ffmpeg_next::util::{color, picture};
use ffmpeg_next::{Dictionary, Packet, Rational};

use super::{Make, units};
use crate::h264::{Preset, Settings};
use crate::{Matrix, PixelFormat, Range, Shape};

/// Times are in microseconds.
const TIME_BASE: Rational = Rational(1, 1_000_000);
/// Thousandths of pictures a second, where none has been seen.
const RATE: i32 = 25_000;
/// With its quantiser fixed, this rate is no bound to openh264: so many bits for each sample.
const BOUNDLESS: usize = 64;

/// A stream under way.
pub(super) struct Coding {
    encoder: Encoder,
    make: Make,
    shape: Shape,
    settings: Settings,
    /// Thousandths of pictures a second that the encoder was told.
    rate: i32,
    pixel: Pixel,
    pictures: i64,
    first_us: i64,
    last_us: i64,
}

impl Coding {
    /// Begins a stream of NV12 pictures of this shape.
    pub fn open(make: Make, shape: Shape, settings: Settings) -> Result<Self, String> {
        Self::open_at(make, shape, settings, RATE)
    }

    fn open_at(make: Make, shape: Shape, settings: Settings, rate: i32) -> Result<Self, String> {
        crate::video::init();
        let missing = || format!("FFmpeg has no encoder {}", make.codec());
        let codec = ffmpeg::encoder::find_by_name(make.codec()).ok_or_else(missing)?;
        let failed = |error| format!("{} does not open: {error}", make.codec());
        let mut context = Context::new_with_codec(codec);
        // As our own encoder: one stream, one core. Others have the other cores.
        context.set_threading(threading::Config::count(1));
        let mut encoder = context.encoder().video().map_err(failed)?;
        let pixel = match make {
            Make::OpenH264 => Pixel::YUV420P,
            Make::X264 | Make::Nvenc => Pixel::NV12,
        };
        encoder.set_width(shape.width.next_multiple_of(2));
        encoder.set_height(shape.height.next_multiple_of(2));
        encoder.set_format(pixel);
        encoder.set_color_range(range(shape));
        encoder.set_colorspace(space(shape));
        encoder.set_time_base(TIME_BASE);
        encoder.set_frame_rate(Some(Rational(rate, 1000)));
        encoder.set_gop(settings.gop);
        encoder.set_max_b_frames(0);
        let bits = settings.bitrate as usize;
        if bits > 0 {
            encoder.set_bit_rate(bits);
            encoder.set_max_bit_rate(bits);
        } else if make == Make::OpenH264 {
            encoder.set_bit_rate(BOUNDLESS * (shape.width * shape.height) as usize);
            encoder.set_qmin(settings.qp.max(1) as i32);
            encoder.set_qmax(settings.qp.max(1) as i32);
        }
        let mut options = Dictionary::new();
        for (name, value) in options_of(make, &settings) {
            options.set(name, &value);
        }
        let encoder = encoder.open_as_with(codec, options).map_err(failed)?;
        let (pictures, first_us, last_us) = (0, 0, i64::MIN);
        Ok(Self { encoder, make, shape, settings, rate, pixel, pictures, first_us, last_us })
    }

    /// Codes the samples of the next picture, one that stands alone where `is_key`.
    pub fn code(&mut self, samples: &[u8], pts_us: i64, is_key: bool) -> Result<Vec<u8>, String> {
        if is_key {
            self.keep_pace()?;
        }
        let mut picture = self.picture(samples)?;
        // Encoders want times that increase, and only their differences matter.
        self.last_us = pts_us.max(self.last_us.saturating_add(1));
        if self.pictures == 0 {
            self.first_us = self.last_us;
        }
        self.pictures += 1;
        picture.set_pts(Some(self.last_us));
        picture.set_kind(if is_key { picture::Type::I } else { picture::Type::None });
        picture.set_color_range(range(self.shape));
        picture.set_color_space(space(self.shape));
        self.encoder.send_frame(&picture).map_err(|error| format!("a picture: {error}"))?;
        let mut packet = Packet::empty();
        let received = self.encoder.receive_packet(&mut packet);
        received.map_err(|error| format!("no coded picture at once: {error}"))?;
        packet.data().map(<[u8]>::to_vec).ok_or_else(|| "an empty picture".to_string())
    }

    /// Opens the encoder anew where bits are to follow a rate and pictures have come at another
    /// pace than it was told. By their times alone x264 would keep each back until the next has
    /// come, and the others do not look at them.
    fn keep_pace(&mut self) -> Result<(), String> {
        let passed_us = self.last_us.saturating_sub(self.first_us);
        if self.settings.bitrate == 0 || self.pictures < 2 || passed_us <= 0 {
            return Ok(());
        }
        let seen = (1_000_000_000 * (self.pictures - 1) / passed_us).clamp(100, 1_000_000) as i32;
        if (seen - self.rate).abs() > self.rate / 10 {
            *self = Self::open_at(self.make, self.shape, self.settings, seen)?;
        }
        Ok(())
    }

    /// The samples as FFmpeg has them; what an odd side lacks is its last sample once more.
    fn picture(&self, samples: &[u8]) -> Result<Video, String> {
        let (width, height) = (self.shape.width as usize, self.shape.height as usize);
        if self.shape.bytes() != Some(samples.len()) {
            return Err(format!("{} bytes for {width} x {height}", samples.len()));
        }
        let (wide, high) = (width.next_multiple_of(2), height.next_multiple_of(2));
        let mut picture = Video::new(self.pixel, wide as u32, high as u32);
        let (luma, chroma) = samples.split_at(width * height);
        let stride = picture.stride(0);
        let to = picture.data_mut(0);
        for y in 0..high {
            let row = &luma[y.min(height - 1) * width..][..width];
            let to = &mut to[y * stride..][..wide];
            to[..width].copy_from_slice(row);
            to[width..].fill(row[width - 1]);
        }
        let chroma = chroma.chunks_exact(wide);
        if self.pixel == Pixel::NV12 {
            let stride = picture.stride(1);
            for (to, row) in picture.data_mut(1).chunks_mut(stride).zip(chroma) {
                to[..wide].copy_from_slice(row);
            }
        } else {
            for plane in [1, 2] {
                let stride = picture.stride(plane);
                let rows = picture.data_mut(plane).chunks_mut(stride).zip(chroma.clone());
                for (to, row) in rows {
                    let own = row.iter().skip(plane - 1).step_by(2);
                    to.iter_mut().zip(own).for_each(|(to, from)| *to = *from);
                }
            }
        }
        Ok(picture)
    }
}

fn range(shape: Shape) -> color::Range {
    match shape.range {
        Range::Limited => color::Range::MPEG,
        Range::Full => color::Range::JPEG,
    }
}

fn space(shape: Shape) -> color::Space {
    match shape.matrix {
        Matrix::Unspecified => color::Space::Unspecified,
        Matrix::Bt601 => color::Space::SMPTE170M,
        Matrix::Bt709 => color::Space::BT709,
    }
}

/// What our settings are called by each encoder. All code constrained baseline, give each picture
/// at once, and begin anew only where they are told to.
fn options_of(make: Make, settings: &Settings) -> Vec<(&'static str, String)> {
    let Settings { qp, bitrate, deblock, preset, .. } = *settings;
    let is_fast = preset == Preset::Fast;
    let choose = |is: bool, yes: &str, no: &str| if is { yes } else { no }.to_string();
    let mut options = match make {
        Make::X264 => {
            let deblock = choose(deblock, "deblock=0,0", "no-deblock=1");
            vec![
                ("preset", choose(is_fast, "ultrafast", "veryfast")),
                ("tune", "zerolatency".to_string()),
                ("profile", "baseline".to_string()),
                ("forced-idr", "1".to_string()),
                ("x264-params", format!("scenecut=0:{deblock}")),
            ]
        }
        Make::OpenH264 => vec![
            ("profile", "constrained_baseline".to_string()),
            ("loopfilter", choose(deblock, "1", "0")),
            ("allow_skip_frames", "0".to_string()),
            ("rc_mode", choose(bitrate > 0, "bitrate", "quality")),
        ],
        Make::Nvenc => vec![
            ("preset", choose(is_fast, "p1", "p4")),
            ("tune", "ull".to_string()),
            ("profile", "baseline".to_string()),
            ("forced-idr", "1".to_string()),
            ("no-scenecut", "1".to_string()),
            ("delay", "0".to_string()),
            ("zerolatency", "1".to_string()),
            ("rc", choose(bitrate > 0, "cbr", "constqp")),
        ],
    };
    match (make, bitrate) {
        // Its 0 is lossless, which no baseline stream is.
        (Make::X264, 0) => options.push(("qp", qp.max(1).to_string())),
        (Make::Nvenc, 0) => options.push(("qp", qp.to_string())),
        (Make::OpenH264, 0) => {}
        // Within a second, as ours.
        (_, rate) => options.push(("bufsize", rate.to_string())),
    }
    options
}

/// The library of the encoders with its version.
pub(super) fn driver() -> String {
    let version = ffmpeg::codec::version();
    format!("libavcodec {}.{}.{}", version >> 16, version >> 8 & 255, version & 255)
}

/// Whether an encoder is here and works: it codes two gray pictures.
pub(super) fn try_out(make: Make) -> Result<(), String> {
    let shape = Shape::limited(320, 192, PixelFormat::Nv12);
    let samples = vec![128; shape.bytes().unwrap_or_default()];
    let mut coding = Coding::open(make, shape, Settings::default())?;
    for is_key in [true, false] {
        let coded = coding.code(&samples, i64::from(!is_key) * 40_000, is_key)?;
        units::tidied(&coded, is_key)?;
    }
    Ok(())
}
