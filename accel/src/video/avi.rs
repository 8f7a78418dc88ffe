//! AVI files of JPEG pictures ("Motion JPEG"), which players open everywhere.
//!
//! ```text
//! RIFF "AVI " { LIST "hdrl" { "avih", LIST "strl" { "strh", "strf" } },
//!               LIST "movi" { "00dc" for each slot }, "idx1" }
//! ```
//!
//! AVI has a fixed frame rate: the median distance of the pictures. A slot that no picture falls
//! into is an empty chunk, which repeats the one before.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;

use crate::{Error, Result};

/// Most slots of a file: nine hours at 30 a second.
const SLOTS_MAX: i64 = 1 << 20;
/// Largest file: offsets are 32 bits, and some readers take them as signed.
const FILE_BYTES_MAX: u64 = i32::MAX as u64;
/// Between two pictures when there is only one.
const PERIOD_US: i64 = 40_000;

const HAS_INDEX: u32 = 0x10;
const KEY_FRAME: u32 = 0x10;

/// Writes JPEG pictures with their presentation times (microseconds, increasing) as a file.
pub fn write_avi(path: impl AsRef<Path>, frames: &[(i64, Bytes)]) -> Result<()> {
    let path = path.as_ref();
    let failed = |detail: String| Error::media(path.display().to_string(), detail);
    let (width, height) = frames
        .first()
        .and_then(|(_, jpeg)| jpeg_sides(jpeg))
        .ok_or_else(|| failed("the first picture is missing or no JPEG".to_string()))?;
    let period_us = period_us(frames).map_err(failed)?;
    let slots = slots(frames, period_us).map_err(failed)?;
    let largest = frames.iter().map(|(_, jpeg)| jpeg.len()).max().unwrap_or(0);
    let movi_bytes: u64 = 4 + slots.iter().map(|slot| 8 + padded(slot.len()) as u64).sum::<u64>();
    let index_bytes = 16 * slots.len() as u64;
    let headers = headers(width, height, period_us, slots.len() as u32, largest as u32);
    let riff_bytes = 4 + headers.len() as u64 + 8 + movi_bytes + 8 + index_bytes;
    if riff_bytes > FILE_BYTES_MAX {
        return Err(failed(format!("would take {riff_bytes} bytes, AVI holds {FILE_BYTES_MAX}")));
    }
    let mut file = Vec::with_capacity(headers.len() + 64);
    chunk_head(&mut file, b"RIFF", riff_bytes as u32);
    file.extend(b"AVI ");
    file.extend(headers);
    chunk_head(&mut file, b"LIST", movi_bytes as u32);
    file.extend(b"movi");
    write(path, file, &slots).map_err(|error| failed(error.to_string()))
}

fn write(path: &Path, start: Vec<u8>, slots: &[&[u8]]) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    file.write_all(&start)?;
    let mut index = Vec::with_capacity(16 * slots.len());
    // Offsets of the index count from the word "movi".
    let mut at = 4u32;
    for slot in slots {
        let mut head = Vec::with_capacity(8);
        chunk_head(&mut head, b"00dc", slot.len() as u32);
        file.write_all(&head)?;
        file.write_all(slot)?;
        file.write_all(&[0][..padded(slot.len()) - slot.len()])?;
        let flags = if slot.is_empty() { 0 } else { KEY_FRAME };
        index.extend(b"00dc");
        index.extend([flags, at, slot.len() as u32].iter().flat_map(|v| v.to_le_bytes()));
        at += 8 + padded(slot.len()) as u32;
    }
    let mut head = Vec::with_capacity(8);
    chunk_head(&mut head, b"idx1", index.len() as u32);
    file.write_all(&head)?;
    file.write_all(&index)?;
    file.flush()
}

/// The median distance of the pictures, which must be in order.
fn period_us(frames: &[(i64, Bytes)]) -> std::result::Result<i64, String> {
    let mut distances = Vec::with_capacity(frames.len());
    for pair in frames.windows(2) {
        let distance = pair[1].0.saturating_sub(pair[0].0);
        if distance <= 0 {
            return Err(format!("times go back from {} to {} us", pair[0].0, pair[1].0));
        }
        distances.push(distance);
    }
    distances.sort_unstable();
    Ok(distances.get(distances.len() / 2).copied().unwrap_or(PERIOD_US).min(i64::from(u32::MAX)))
}

/// The picture of each slot, or nothing.
fn slots(frames: &[(i64, Bytes)], period_us: i64) -> std::result::Result<Vec<&[u8]>, String> {
    let first_us = frames.first().map_or(0, |(pts_us, _)| *pts_us);
    let mut slots: Vec<&[u8]> = Vec::with_capacity(frames.len());
    for (pts_us, jpeg) in frames {
        let since = pts_us.saturating_sub(first_us);
        let nearest = (since.saturating_add(period_us / 2) / period_us).max(slots.len() as i64);
        if nearest >= SLOTS_MAX {
            return Err(format!("its pictures span {since} us, too long at {period_us} us each"));
        }
        slots.resize(nearest as usize, &[]);
        slots.push(jpeg);
    }
    Ok(slots)
}

fn headers(width: u32, height: u32, period_us: i64, slots: u32, largest: u32) -> Vec<u8> {
    let period_us = period_us as u32;
    let main = [period_us, 0, 0, HAS_INDEX, slots, 0, 1, largest, width, height, 0, 0, 0, 0];
    // Time base period_us / 1000000, quality unset; the rectangle after it is of 16-bit words.
    let stream = [0, 0, 0, period_us, 1_000_000, 0, slots, largest, u32::MAX, 0, 0];
    let mut strh: Vec<u8> = b"vidsMJPG".to_vec();
    strh.extend(stream.iter().flat_map(|v| v.to_le_bytes()));
    strh.extend([width as u16, height as u16].iter().flat_map(|v| v.to_le_bytes()));
    let planes_and_depth = 1 | 24 << 16;
    let bitmap = [40, width, height, planes_and_depth, u32::from_le_bytes(*b"MJPG")];
    let rest = [width * height * 3, 0, 0, 0, 0];
    let strf: Vec<u8> = bitmap.iter().chain(&rest).flat_map(|v| v.to_le_bytes()).collect();
    let mut list = b"strl".to_vec();
    chunk(&mut list, b"strh", &strh);
    chunk(&mut list, b"strf", &strf);
    let mut hdrl = b"hdrl".to_vec();
    chunk(&mut hdrl, b"avih", &main.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    chunk(&mut hdrl, b"LIST", &list);
    let mut out = Vec::new();
    chunk(&mut out, b"LIST", &hdrl);
    out
}

fn chunk(out: &mut Vec<u8>, name: &[u8; 4], content: &[u8]) {
    chunk_head(out, name, content.len() as u32);
    out.extend(content);
}

fn chunk_head(out: &mut Vec<u8>, name: &[u8; 4], bytes: u32) {
    out.extend(name);
    out.extend(bytes.to_le_bytes());
}

/// Chunks begin at even offsets.
fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(2)
}

/// Width and height from the frame header of a JPEG file (T.81 B.2.2).
pub(super) fn jpeg_sides(jpeg: &[u8]) -> Option<(u32, u32)> {
    let mut rest = jpeg.strip_prefix(&[0xFF, 0xD8])?;
    loop {
        let (marker, after) = match rest {
            [0xFF, marker, after @ ..] => (*marker, after),
            _ => return None,
        };
        let length = usize::from(u16::from_be_bytes([*after.first()?, *after.get(1)?]));
        let segment = after.get(2..length)?;
        // C4, C8 and CC are no frame headers.
        if matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC) {
            let side =
                |at: usize| Some(u16::from_be_bytes([*segment.get(at)?, *segment.get(at + 1)?]));
            let (height, width) = (u32::from(side(1)?), u32::from(side(3)?));
            return (width > 0 && height > 0).then_some((width, height));
        }
        rest = &after[length..];
    }
}

#[cfg(test)]
mod tests;
