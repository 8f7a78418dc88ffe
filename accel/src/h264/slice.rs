//! Slices: a header, then the macroblocks (clauses 7.3.3 to 7.3.5).

use kernels::h264::block::BLOCKS as ROWS_OF_LUMA;
use kernels::h264::{
    CHROMA, CHROMA_FIRST, CHROMA_MASK, CHROMA_MODE, FIRST_MASK, INTRA, KIND, LUMA, LUMA_FIRST,
    LUMA_MASK, LUMA_MODE, MOVED_X, MOVED_Y, RECORD, SKIPPED,
};

use super::bits::BitWriter;
use super::{NUMBER_BITS, Placed, QP_BASE, residual};

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
    #[inline(always)]
    fn word(&self, at: usize) -> i16 {
        self.0[at]
    }

    #[inline(always)]
    fn mask(&self, at: usize) -> u32 {
        u32::from(self.word(at) as u16)
    }

    /// What the pattern says of chroma: nothing, first levels alone, all.
    #[inline(always)]
    fn chroma(&self) -> u32 {
        match (self.mask(CHROMA_MASK), self.mask(FIRST_MASK) >> 1 & 3) {
            (0, 0) => 0,
            (0, _) => 1,
            _ => 2,
        }
    }
}

/// A block of levels of a macroblock.
struct Block {
    /// The mask that tells of it, and its bit there.
    mask: usize,
    bit: usize,
    /// Where its levels begin.
    at: usize,
    /// How many places for levels there are, behind a first one that is coded elsewhere or not.
    first: u32,
    places: u32,
    /// Its count, among those of the macroblock; none where no other block looks at it.
    count: Option<u8>,
}

/// The first levels of intra luma, luma, the first levels of Cb and of Cr, Cb and Cr: in the order
/// of coding.
const BLOCKS: [Block; 27] = blocks();
const FIRST_LUMA: u32 = 1;
const ALL_LUMA: u32 = 0xFFFF << 1;
const FIRST_CHROMA: u32 = 3 << 17;
const ALL_CHROMA: u32 = 0xFF << 19;

const fn blocks() -> [Block; 27] {
    const fn first(bit: usize, at: usize, places: u32) -> Block {
        Block { mask: FIRST_MASK, bit, at, first: 0, places, count: None }
    }
    let mut blocks = [const { first(0, LUMA_FIRST, 16) }; 27];
    let mut coded = 0;
    while coded < 16 {
        let (at, count) = (LUMA + 16 * coded, Some(ROWS_OF_LUMA[coded]));
        blocks[1 + coded] = Block { mask: LUMA_MASK, bit: coded, at, first: 0, places: 16, count };
        coded += 1;
    }
    blocks[17] = first(1, CHROMA_FIRST, 4);
    blocks[18] = first(2, CHROMA_FIRST + 4, 4);
    coded = 0;
    while coded < 8 {
        let (at, count) = (CHROMA + 16 * coded, Some(16 + coded as u8));
        blocks[19 + coded] =
            Block { mask: CHROMA_MASK, bit: coded, at, first: 1, places: 15, count };
        coded += 1;
    }
    blocks
}

const _: () = assert!(RECORD >= CHROMA + 8 * 16);

/// Counts of a macroblock: blocks of luma row by row, of Cb, of Cr.
type Counts = [u8; 24];

/// Where a block's neighbour stands among the counts.
#[derive(Clone, Copy)]
struct Near {
    /// In the macroblock itself, or in that to the left or above.
    is_own: bool,
    count: u8,
}

/// The blocks to the left, and above.
const NEAR: [[Near; 24]; 2] = near();

const fn near() -> [[Near; 24]; 2] {
    let mut near = [[Near { is_own: true, count: 0 }; 24]; 2];
    let mut block = 0;
    while block < 24 {
        let (from, wide) = if block < 16 { (0, 4) } else { (block / 4 * 4, 2) };
        let (x, y) = ((block - from) % wide, (block - from) / wide);
        let (left, above) =
            (if x > 0 { x - 1 } else { wide - 1 }, if y > 0 { y } else { wide } - 1);
        near[0][block] = Near { is_own: x > 0, count: (from + wide * y + left) as u8 };
        near[1][block] = Near { is_own: y > 0, count: (from + wide * above + x) as u8 };
        block += 1;
    }
    near
}

/// A picture as the content of a slice.
pub(super) struct Slice {
    bits: BitWriter,
    columns: usize,
    /// The macroblock at hand, and its column.
    at: usize,
    column: usize,
    is_intra: bool,
    /// Levels of each block.
    counts: Vec<Counts>,
    /// Macroblocks just before that were skipped.
    skipped: u32,
}

impl Slice {
    pub fn new(placed: &Placed) -> Self {
        let mut bits = BitWriter::default();
        header(&mut bits, placed);
        Self {
            bits,
            columns: placed.size.columns,
            at: 0,
            column: 0,
            is_intra: placed.coding.intra,
            counts: vec![[0; 24]; placed.size.count()],
            skipped: 0,
        }
    }

    /// Writes a row of macroblocks by their records.
    pub fn row(&mut self, records: &[i16]) {
        kernels::wide(Row { slice: self, records });
    }

    /// The content, after the last row.
    pub fn close(mut self) -> Vec<u8> {
        if !self.is_intra && self.skipped > 0 {
            self.bits.unsigned(self.skipped);
        }
        self.bits.close()
    }

    #[inline(always)]
    fn macroblock(&mut self, record: Record<'_>) {
        let coded = match record.word(KIND) {
            SKIPPED => {
                self.skipped += 1;
                return;
            }
            INTRA => self.intra(record),
            _ => self.moved(record),
        };
        let mut left = coded;
        while left != 0 {
            let block = &BLOCKS[left.trailing_zeros() as usize % BLOCKS.len()];
            left &= left - 1;
            self.block(record, block, coded & FIRST_LUMA != 0);
        }
    }

    /// Writes what comes before the levels, and says which blocks there are, by bits.
    #[inline(always)]
    fn moved(&mut self, record: Record<'_>) -> u32 {
        let luma = record.mask(LUMA_MASK);
        let quarters = (0..4).filter(|i| luma >> (4 * i) & 15 != 0).map(|i| 1 << i).sum::<u32>();
        let pattern = quarters | record.chroma() << 4;
        self.bits.unsigned(std::mem::take(&mut self.skipped));
        self.bits.unsigned(0);
        self.bits.signed(record.word(MOVED_X).into());
        self.bits.signed(record.word(MOVED_Y).into());
        self.bits.unsigned(PATTERNS[pattern as usize].into());
        if pattern == 0 {
            return 0;
        }
        self.bits.signed(0);
        let all = (0..4).filter(|i| quarters >> i & 1 == 1).map(|i| 15 << (4 * i + 1)).sum::<u32>();
        all | chroma_blocks(record)
    }

    #[inline(always)]
    fn intra(&mut self, record: Record<'_>) -> u32 {
        if !self.is_intra {
            self.bits.unsigned(std::mem::take(&mut self.skipped));
        }
        let luma = record.mask(LUMA_MASK) != 0;
        let mode = (record.word(LUMA_MODE) as u32).min(3);
        let kind = 1 + mode + 4 * record.chroma() + if luma { 12 } else { 0 };
        self.bits.unsigned(if self.is_intra { kind } else { 5 + kind });
        self.bits.unsigned((record.word(CHROMA_MODE) as u32).min(3));
        self.bits.signed(0);
        FIRST_LUMA | if luma { ALL_LUMA } else { 0 } | chroma_blocks(record)
    }

    /// Writes a block. Luma of intra macroblocks is without its first levels, but those of all
    /// blocks together are counted as the first block's neighbours are.
    #[inline(always)]
    fn block(&mut self, record: Record<'_>, block: &Block, is_intra: bool) {
        let near = match block.count {
            Some(count) => Some(self.near(count)),
            None if block.places == 16 => Some(self.near(0)),
            None => None,
        };
        if record.mask(block.mask) >> block.bit & 1 == 0 {
            residual::empty(&mut self.bits, near);
            return;
        }
        let words = record.0[block.at..].first_chunk().expect("a record has all levels");
        let is_short = is_intra && block.mask == LUMA_MASK;
        let (first, places) = if is_short { (1, 15) } else { (block.first, block.places) };
        let levels = residual::Levels { words, first, places };
        let count = residual::block(&mut self.bits, levels, near);
        if let Some(of) = block.count {
            self.counts[self.at][usize::from(of)] = count as u8;
        }
    }

    /// How many levels a block is expected to have: the mean of the blocks to its left and above.
    #[inline(always)]
    fn near(&self, block: u8) -> u32 {
        let at = self.at;
        let [left, above] = [NEAR[0][usize::from(block)], NEAR[1][usize::from(block)]];
        let count = |at: usize, near: Near| u32::from(self.counts[at][usize::from(near.count)]);
        let left = match left.is_own {
            true => Some(count(at, left)),
            false => (self.column > 0).then(|| count(at - 1, left)),
        };
        let above = match above.is_own {
            true => Some(count(at, above)),
            false => (at >= self.columns).then(|| count(at - self.columns, above)),
        };
        match (left, above) {
            (Some(left), Some(above)) => (left + above + 1) >> 1,
            (Some(count), None) | (None, Some(count)) => count,
            (None, None) => 0,
        }
    }
}

struct Row<'a> {
    slice: &'a mut Slice,
    records: &'a [i16],
}

impl kernels::Job for Row<'_> {
    #[inline(always)]
    fn run(self) {
        let slice = self.slice;
        slice.column = 0;
        for record in self.records.as_chunks().0 {
            slice.macroblock(Record(record));
            slice.column += 1;
            slice.at += 1;
        }
    }
}

#[inline(always)]
fn chroma_blocks(record: Record<'_>) -> u32 {
    match record.chroma() {
        0 => 0,
        1 => FIRST_CHROMA,
        _ => FIRST_CHROMA | ALL_CHROMA,
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
