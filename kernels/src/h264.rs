//! The arithmetic of H.264 (ITU-T H.264, constrained baseline) of NV12 frames: everything but the
//! bitstream. What is normative (prediction, inverse transform, deblocking) is the standard's; what
//! an encoder may choose is defined here, so that all forms choose alike.
//!
//! Macroblocks are coded in order, row by row; behind that, rows are filtered along edges of blocks
//! ([`deblock`]), and the picture becomes the next one's reference:
//!
//! 1. [`search`]: where a macroblock of 16 x 16 came from, in quarter samples of [`halves`], and
//!    whether it is better predicted from its neighbours;
//! 2. [`inter`] or [`intra`]: prediction, transform, quantisation, reconstruction.
//!
//! That is what one core does best; for devices with many lanes the [`wide`] [`Preset`] goes in
//! passes over whole pictures instead.
//!
//! The fast preset looks first at whether a macroblock is [`near`] to what it would be if it
//! were skipped, before anything is transformed.
//!
//! All macroblocks have one quantiser; each P macroblock is one partition; one reference.
//!
//! A motion record has 8 bytes: x and y in quarter samples, the blocks of luma that have levels,
//! and 1 for intra before one that is not used. A level record has [`RECORD`] signed words of 16
//! bits; what lies where stands at the constants. Levels that no mask tells of are anything.

pub mod block;
pub mod deblock;
pub mod eight;
pub mod four;
pub mod halves;
pub mod inter;
pub mod intra;
pub mod near;
pub mod passes;
pub mod picture;
pub mod search;
pub mod vector;
pub mod wide;

use serde::{Deserialize, Serialize};

use crate::stem::{Op, Setting, SettingKind, Stem, Takes};

pub use passes::Passes;
pub use picture::{Macroblock, Size};

pub static STEM: Stem = Stem {
    entries: &wide::ENTRIES,
    ops: &[Op {
        name: "encode",
        about: "A picture of an H.264 stream; needs a history",
        inputs: &[Takes::ANY],
        settings: &[
            Setting {
                name: "qp",
                about: "How coarse, where no bitrate is asked for",
                kind: SettingKind::Number { default: 24, least: 0, most: 51 },
            },
            Setting {
                name: "gop",
                about: "Pictures from one that stands alone to the next",
                kind: SettingKind::Number { default: 250, least: 1, most: 100_000 },
            },
            Setting {
                name: "bitrate",
                about: "Thousands of bits a second that are aimed at, 0 for none",
                kind: SettingKind::Number { default: 0, least: 0, most: 1_000_000 },
            },
            Setting {
                name: "deblock",
                about: "Whether edges of blocks are smoothed",
                kind: SettingKind::Choice(&["yes", "no"]),
            },
            Setting {
                name: "preset",
                about: "How much time is spent on few bits; wide is for devices",
                kind: SettingKind::Choice(&Preset::NAMES),
            },
            Setting {
                name: "encoder",
                about: "Whose encoder codes it; auto takes the one that is done first",
                kind: SettingKind::Choice(&ENCODERS),
            },
        ],
        plan: None,
    }],
};

/// Whose encoders there may be: this one, any, and those of others by name.
pub const ENCODERS: [&str; 5] = ["edgescale", "auto", "x264", "openh264", "nvenc"];

/// Bytes of a motion record.
pub const MOTION_BYTES: usize = 8;
/// Words of a level record.
pub const RECORD: usize = 416;
/// Words of a record: its kind, the modes of luma and chroma where it is intra.
pub const KIND: usize = 0;
pub const LUMA_MODE: usize = 1;
pub const CHROMA_MODE: usize = 2;
/// Bits of the blocks (in coding order) that have levels: 16 of luma, 8 of chroma without the
/// first level, then those of first levels: luma, Cb, Cr.
pub const LUMA_MASK: usize = 3;
pub const CHROMA_MASK: usize = 4;
pub const FIRST_MASK: usize = 5;
/// What is told of the motion: its way from the expected one.
pub const MOVED_X: usize = 6;
pub const MOVED_Y: usize = 7;
/// Kinds: predicted from the picture before, from neighbours, and as expected without levels.
pub const MOVED: i16 = 0;
pub const INTRA: i16 = 1;
pub const SKIPPED: i16 = 2;
/// Levels in zigzag order: the 16 first ones of intra luma; 16 blocks of luma; 4 first ones of Cb
/// and of Cr; 4 blocks of Cb and of Cr.
pub const LUMA_FIRST: usize = 8;
pub const LUMA: usize = 24;
pub const CHROMA_FIRST: usize = 280;
pub const CHROMA: usize = 288;

/// How much time is spent on few bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// What is [`near`] to its prediction is taken for it, and motion is looked for less closely.
    #[default]
    Fast,
    /// Differences are left out only where quantisation leaves nothing of them.
    Quality,
    /// As the fast one, in passes over whole pictures: for devices with many lanes.
    Wide,
}

impl Preset {
    pub const ALL: [Self; 3] = [Self::Fast, Self::Quality, Self::Wide];
    /// Their names, in the order of [`Preset::ALL`].
    pub const NAMES: [&str; 3] = ["fast", "quality", "wide"];

    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }
}

/// How a picture is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coding {
    pub qp: u32,
    pub preset: Preset,
    /// No macroblock looks at the picture before.
    pub intra: bool,
    /// Edges of blocks are filtered.
    pub deblock: bool,
}

/// The quantiser of chroma that goes with one of luma (table 8-15).
pub fn chroma_qp(qp: u32) -> u32 {
    const ABOVE: [u8; 22] =
        [29, 30, 31, 32, 32, 33, 34, 34, 35, 35, 36, 36, 37, 37, 37, 38, 38, 38, 39, 39, 39, 39];
    match qp {
        0..30 => qp,
        _ => u32::from(ABOVE[(qp - 30) as usize]),
    }
}

/// What a bit is worth in sums of absolute differences: about `2^((qp - 12) / 6)`.
#[inline(always)]
pub fn bit_cost(qp: u32) -> u32 {
    const STEPS: [u32; 6] = [16, 18, 20, 23, 25, 29];
    ((STEPS[(qp % 6) as usize] << (qp / 6)) >> 6).max(1)
}

#[cfg(test)]
mod tests;
