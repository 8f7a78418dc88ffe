//! Slices: a header, then the macroblocks (clauses 7.3.3 to 7.3.5).

use kernels::h264::block::BLOCKS;
use kernels::h264::{
    CHROMA, CHROMA_FIRST, CHROMA_MASK, CHROMA_MODE, FIRST_MASK, INTRA, KIND, LUMA, LUMA_FIRST,
    LUMA_MASK, LUMA_MODE, MOVED_X, MOVED_Y, RECORD, SKIPPED,
};

use super::bits::BitWriter;
use super::{NUMBER_BITS, Placed, QP_BASE, residual};

/// A picture as the content of a slice.
pub(super) fn code(placed: &Placed, levels: &[i16]) -> Vec<u8> {
    let mut bits = BitWriter::default();
    header(&mut bits, placed);
    let mut slice = Slice {
        bits,
        columns: placed.size.columns,
        column: 0,
        is_intra: placed.coding.intra,
        counts: vec![[0; 24]; placed.size.count()],
        skipped: 0,
    };
    for (at, record) in levels.as_chunks::<RECORD>().0.iter().enumerate() {
        slice.macroblock(at, Record(record));
        slice.column = (slice.column + 1) % slice.columns;
    }
    if !slice.is_intra && slice.skipped > 0 {
        slice.bits.unsigned(slice.skipped);
    }
    slice.bits.close()
}

fn header(bits: &mut BitWriter, placed: &Placed) {
    let intra = placed.coding.intra;
    // From the first macroblock on; all slices of a picture are alike; parameter set 0.
    bits.unsigned(0);
    bits.unsigned(if intra { 7 } else { 5 });
    bits.unsigned(0);
    bits.put(placed.since_intra % (1 << NUMBER_BITS), NUMBER_BITS);
    if intra {
        bits.unsigned(placed.intra_count % 2);
        // Earlier pictures are shown; this one is not kept for long.
        bits.put(0, 2);
    } else {
        // As many references as usual, in their order, leaving in their order.
        bits.put(0, 3);
    }
    bits.signed(placed.coding.qp as i32 - QP_BASE);
    bits.unsigned(u32::from(!placed.coding.deblock));
    if placed.coding.deblock {
        bits.signed(0);
        bits.signed(0);
    }
}

/// A level record.
#[derive(Clone, Copy)]
struct Record<'a>(&'a [i16; RECORD]);

impl Record<'_> {
    #[inline]
    fn word(&self, at: usize) -> i16 {
        self.0[at]
    }

    #[inline]
    fn mask(&self, at: usize) -> u32 {
        u32::from(self.word(at) as u16)
    }

    /// Levels, where bit `bit` of a mask tells of them.
    #[inline]
    fn levels(&self, mask: usize, bit: usize, at: usize, count: usize) -> Option<&[i16]> {
        (self.mask(mask) >> bit & 1 == 1).then(|| &self.0[at..at + count])
    }

    /// What the pattern says of chroma: nothing, first levels alone, all.
    #[inline]
    fn chroma(&self) -> u32 {
        match (self.mask(CHROMA_MASK), self.mask(FIRST_MASK) >> 1 & 3) {
            (0, 0) => 0,
            (0, _) => 1,
            _ => 2,
        }
    }
}

const _: () = assert!(RECORD >= CHROMA + 8 * 16);

struct Slice {
    bits: BitWriter,
    columns: usize,
    /// That of the macroblock at hand.
    column: usize,
    is_intra: bool,
    /// Levels of each block: luma row by row, Cb, Cr.
    counts: Vec<[u8; 24]>,
    /// Macroblocks just before that were skipped.
    skipped: u32,
}

impl Slice {
    #[inline]
    fn macroblock(&mut self, at: usize, record: Record<'_>) {
        match record.word(KIND) {
            SKIPPED => self.skipped += 1,
            INTRA => self.intra(at, record),
            _ => self.moved(at, record),
        }
    }

    #[inline]
    fn moved(&mut self, at: usize, record: Record<'_>) {
        let luma = record.mask(LUMA_MASK);
        let quarters = (0..4).filter(|i| luma >> (4 * i) & 15 != 0).map(|i| 1 << i).sum::<u32>();
        let pattern = quarters | record.chroma() << 4;
        self.bits.unsigned(std::mem::take(&mut self.skipped));
        self.bits.unsigned(0);
        self.bits.signed(record.word(MOVED_X).into());
        self.bits.signed(record.word(MOVED_Y).into());
        self.bits.unsigned(PATTERNS[pattern as usize].into());
        if pattern == 0 {
            return;
        }
        self.bits.signed(0);
        self.luma(at, record, quarters);
        self.chroma(at, record);
    }

    fn intra(&mut self, at: usize, record: Record<'_>) {
        if !self.is_intra {
            self.bits.unsigned(std::mem::take(&mut self.skipped));
        }
        let luma = record.mask(LUMA_MASK) != 0;
        let mode = (record.word(LUMA_MODE) as u32).min(3);
        let kind = 1 + mode + 4 * record.chroma() + if luma { 12 } else { 0 };
        self.bits.unsigned(if self.is_intra { kind } else { 5 + kind });
        self.bits.unsigned((record.word(CHROMA_MODE) as u32).min(3));
        self.bits.signed(0);
        let near = self.near(at, 0, 0, 4);
        self.levels(record.levels(FIRST_MASK, 0, LUMA_FIRST, 16), Some(near));
        if luma {
            for (coded, block) in BLOCKS.into_iter().enumerate() {
                let levels = record.levels(LUMA_MASK, coded, LUMA + 16 * coded + 1, 15);
                self.block(at, 0, block.into(), 4, levels);
            }
        }
        self.chroma(at, record);
    }

    #[inline]
    fn luma(&mut self, at: usize, record: Record<'_>, quarters: u32) {
        for coded in (0..16).filter(|coded| quarters >> (coded / 4) & 1 == 1) {
            let levels = record.levels(LUMA_MASK, coded, LUMA + 16 * coded, 16);
            self.block(at, 0, BLOCKS[coded].into(), 4, levels);
        }
    }

    #[inline]
    fn chroma(&mut self, at: usize, record: Record<'_>) {
        let pattern = record.chroma();
        if pattern == 0 {
            return;
        }
        for plane in 0..2 {
            self.levels(record.levels(FIRST_MASK, 1 + plane, CHROMA_FIRST + 4 * plane, 4), None);
        }
        if pattern < 2 {
            return;
        }
        for coded in 0..8 {
            let levels = record.levels(CHROMA_MASK, coded, CHROMA + 16 * coded + 1, 15);
            self.block(at, 16 + coded / 4 * 4, coded % 4, 2, levels);
        }
    }

    #[inline]
    fn levels(&mut self, levels: Option<&[i16]>, near: Option<u32>) -> u32 {
        match levels {
            Some(levels) => residual::block(&mut self.bits, levels, near),
            None => {
                residual::empty(&mut self.bits, near);
                0
            }
        }
    }

    /// A block of a plane that has `wide` blocks in a row of a macroblock and whose counts begin at
    /// `from`.
    #[inline]
    fn block(&mut self, at: usize, from: usize, block: usize, wide: usize, levels: Option<&[i16]>) {
        let near = self.near(at, from, block, wide);
        let count = self.levels(levels, Some(near));
        self.counts[at][from + block] = count as u8;
    }

    /// How many levels a block is expected to have: the mean of the blocks to its left and above.
    #[inline]
    fn near(&self, at: usize, from: usize, block: usize, wide: usize) -> u32 {
        let (x, y) = (block % wide, block / wide);
        let count = |at: usize, block: usize| u32::from(self.counts[at][from + block]);
        let left = match x {
            0 => (self.column > 0).then(|| count(at - 1, block + wide - 1)),
            _ => Some(count(at, block - 1)),
        };
        let above = match y {
            0 => (at >= self.columns).then(|| count(at - self.columns, block + wide * (wide - 1))),
            _ => Some(count(at, block - wide)),
        };
        match (left, above) {
            (Some(left), Some(above)) => (left + above + 1) >> 1,
            (Some(count), None) | (None, Some(count)) => count,
            (None, None) => 0,
        }
    }
}

/// Where a pattern of macroblocks predicted from other pictures stands in table 9-4.
const PATTERNS: [u8; 48] = patterns();

const fn patterns() -> [u8; 48] {
    const ORDER: [u8; 48] = [
        0, 16, 1, 2, 4, 8, 32, 3, 5, 10, 12, 15, 47, 7, 11, 13, 14, 6, 9, 31, 35, 37, 42, 44, 33,
        34, 36, 40, 39, 43, 45, 46, 17, 18, 20, 24, 19, 21, 26, 28, 23, 27, 29, 30, 22, 25, 38, 41,
    ];
    let (mut at, mut patterns) = (0, [0; 48]);
    while at < 48 {
        patterns[ORDER[at] as usize] = at as u8;
        at += 1;
    }
    patterns
}
