//! Pictures of a film in memory and as raw files, and how near to them a coded form is.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use accel::Frame;
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;

use super::{Coded, Range};

/// What a picture that is the same to the bit counts for.
const PSNR_DB_MAX: f64 = 100.0;

/// The first pictures of a film.
pub struct Film {
    /// The name of its file.
    pub name: String,
    /// NV12, all of one shape; at least one.
    pub frames: Vec<Frame>,
    /// The same as raw samples: NV12, or planar in a film of full range.
    pub raw: PathBuf,
    folder: PathBuf,
}

impl Film {
    /// Decodes at most `frames_max` pictures; raw files go to `folder`.
    pub fn read(path: &Path, frames_max: usize, folder: &Path) -> Result<Self> {
        let mut frames: Vec<Frame> = Vec::new();
        decode(path, |frame| {
            frames.push(frame);
            frames.len() < frames_max
        })?;
        let shape = frames.first().context("a film has a picture")?.shape();
        frames.retain(|frame| frame.shape() == shape);
        let name = name(path);
        let raw = folder.join(format!("{name}.nv12"));
        let samples: Vec<u8> = frames.iter().flat_map(|frame| frame.data.iter().copied()).collect();
        std::fs::write(&raw, samples).with_context(|| raw.display().to_string())?;
        Ok(Self { name, frames, raw, folder: folder.to_owned() })
    }

    /// The same samples, taken for those of the full range that JPEG files have.
    pub fn in_full_range(&self) -> Result<Self> {
        let full = |frame: &Frame| Frame { range: Range::Full, ..frame.clone() };
        let frames: Vec<Frame> = self.frames.iter().map(full).collect();
        let raw = self.folder.join(format!("{}.yuvj420p", self.name));
        let luma_len = (self.width() * self.height()) as usize;
        let mut samples = Vec::new();
        for frame in &frames {
            let (luma, chroma) = frame.data.split_at(luma_len);
            samples.extend_from_slice(luma);
            samples.extend(chroma.iter().step_by(2));
            samples.extend(chroma.iter().skip(1).step_by(2));
        }
        std::fs::write(&raw, samples).with_context(|| raw.display().to_string())?;
        Ok(Self { name: self.name.clone(), frames, raw, folder: self.folder.clone() })
    }

    pub fn width(&self) -> u32 {
        self.frames[0].width
    }

    pub fn height(&self) -> u32 {
        self.frames[0].height
    }

    /// How FFmpeg names the raw samples.
    pub fn pixels(&self) -> &'static str {
        if self.frames[0].range == Range::Full { "yuvj420p" } else { "nv12" }
    }

    /// A file for a coded form of it.
    pub fn beside(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{}-{ending}", self.name))
    }

    /// What a coded form of all of its pictures is: fails where it has not as many.
    pub fn coded(&self, path: &Path, cpu_ms: f64) -> Result<Coded> {
        let bytes = std::fs::metadata(path)?.len();
        let (mut sum_db, mut count) = (0.0, 0);
        let luma_len = (self.width() * self.height()) as usize;
        decode(path, |frame| {
            if let Some(given) = self.frames.get(count) {
                sum_db += psnr_db(&given.data[..luma_len], &luma(&frame, given));
            }
            count += 1;
            true
        })?;
        let expected = self.frames.len();
        ensure!(count == expected, "{}: {count} pictures of {expected}", path.display());
        let bytes = if path.extension().is_some_and(|ending| ending == "mjpeg") {
            bytes / count as u64
        } else {
            bytes
        };
        Ok(Coded { bytes, psnr_db: sum_db / count as f64, cpu_ms })
    }
}

pub fn name(path: &Path) -> String {
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

fn decode(path: &Path, mut on_frame: impl FnMut(Frame) -> bool) -> Result<()> {
    let text = path.to_str().context("a film's path is not UTF-8")?;
    accel::video::decode(text, |frame| match on_frame(frame) {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    })?;
    Ok(())
}

/// The luma of a decoded picture, without the column or row that makes an odd side even.
fn luma(frame: &Frame, given: &Frame) -> Bytes {
    let (wide, width) = (frame.width as usize, given.width as usize);
    if wide == width {
        return frame.data.slice(..(width * given.height as usize).min(frame.data.len()));
    }
    let rows = frame.data.chunks(wide).take(given.height as usize);
    rows.flat_map(|row| row.iter().take(width).copied()).collect::<Vec<u8>>().into()
}

/// The peak signal to noise ratio of 8-bit samples.
pub fn psnr_db(a: &[u8], b: &[u8]) -> f64 {
    let square = |(a, b): (&u8, &u8)| u64::from(a.abs_diff(*b)).pow(2);
    let sum: u64 = a.iter().zip(b).map(square).sum();
    let mean = sum as f64 / a.len().max(1) as f64;
    (10.0 * (255.0 * 255.0 / mean).log10()).min(PSNR_DB_MAX)
}
