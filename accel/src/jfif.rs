//! Baseline JPEG files (ITU-T T.81, JFIF 1.02) from the quantised levels that
//! [`kernels::jpeg`] makes: the headers and the Huffman coding.
//!
//! Each row of MCUs is coded by itself and ends with a restart marker, so that rows are coded on
//! several threads. The tables are the examples of T.81 annex K, written into each file.

use std::sync::LazyLock;

use kernels::jpeg::{MCU_BYTES, Steps, ZIGZAG, mcu_sides};
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSlice;

/// A whole file. `levels` are those of a frame of `width` x `height`, each at most 16384.
pub(crate) fn encode(levels: &[u8], width: u32, height: u32, steps: &Steps) -> Vec<u8> {
    let mut file = Vec::with_capacity(levels.len() / 12 + 1024);
    let columns = mcu_sides(width, height).0;
    let row_bytes = columns as usize * MCU_BYTES;
    let threads = (levels.len() / THREAD_BYTES_MIN).clamp(1, THREADS_MAX);
    let threads = threads.min(std::thread::available_parallelism().map_or(1, |n| n.get()));
    headers(&mut file, width as u16, height as u16, steps);
    interval(&mut file, columns as u16);
    scan(&mut file);
    code_scan(&mut file, levels, row_bytes, threads);
    file.extend(END_OF_IMAGE);
    file
}

/// Codes the rows of MCUs, each by itself, on as many threads. Between two rows stands a restart
/// marker, so that none needs to know where the one before it ended.
fn code_scan(file: &mut Vec<u8>, levels: &[u8], row_bytes: usize, threads: usize) {
    let rows = levels.len().div_ceil(row_bytes);
    let share = rows.div_ceil(threads).max(1);
    if share >= rows {
        return code_rows(file, levels, row_bytes, 0);
    }
    let code = |(i, levels): (usize, &[u8])| {
        let mut part = Vec::with_capacity(levels.len() / 12 + 64);
        code_rows(&mut part, levels, row_bytes, i * share);
        part
    };
    let parts: Vec<_> = levels.par_chunks(share * row_bytes).enumerate().map(code).collect();
    parts.iter().for_each(|part| file.extend_from_slice(part));
}

/// Codes rows from number `first` on, each but the picture's first behind a restart marker.
fn code_rows(file: &mut Vec<u8>, levels: &[u8], row_bytes: usize, first: usize) {
    kernels::wide(Rows { file, levels, row_bytes, first });
}

struct Rows<'a> {
    file: &'a mut Vec<u8>,
    levels: &'a [u8],
    row_bytes: usize,
    first: usize,
}

impl kernels::Job for Rows<'_> {
    #[inline(always)]
    fn run(self) {
        let mut bits = BitWriter::new(self.file);
        for (number, row) in (self.first..).zip(self.levels.chunks(self.row_bytes)) {
            if number > 0 {
                bits.marker(RESTART + ((number - 1) % 8) as u8);
            }
            code_row(&mut bits, row);
        }
        bits.finish();
    }
}

#[inline(always)]
fn code_row(bits: &mut BitWriter<'_>, levels: &[u8]) {
    let (tables, mut before) = (&*TABLES, [0i32; 3]);
    for mcu in levels.chunks_exact(MCU_BYTES) {
        bits.reserve(MCU_BYTES_MAX);
        let (blocks, _) = mcu.as_chunks::<128>();
        for (block, levels) in blocks.iter().enumerate() {
            let component = block.saturating_sub(3);
            let tables = if component == 0 { &tables.luma } else { &tables.chroma };
            before[component] = code_block(bits, levels, before[component], tables);
        }
    }
    bits.close();
}

const START_OF_IMAGE: [u8; 2] = [0xFF, 0xD8];
const END_OF_IMAGE: [u8; 2] = [0xFF, 0xD9];
const APP0: u8 = 0xE0;
const QUANTISERS: u8 = 0xDB;
const BASELINE_FRAME: u8 = 0xC0;
const HUFFMAN_TABLES: u8 = 0xC4;
const SCAN: u8 = 0xDA;
const RESTART_INTERVAL: u8 = 0xDD;
/// The first of eight restart markers, which take turns.
const RESTART: u8 = 0xD0;
/// Levels that are worth a thread: half of a frame of 720p.
const THREAD_BYTES_MIN: usize = 1 << 20;
/// More than the code of an MCU can have, whatever its levels are: 32 bits a level, and a zero
/// after each byte.
const MCU_BYTES_MAX: usize = 4 * MCU_BYTES + 64;
/// Most threads for one picture.
const THREADS_MAX: usize = 8;

fn headers(file: &mut Vec<u8>, width: u16, height: u16, steps: &Steps) {
    file.extend(START_OF_IMAGE);
    // Version 1.02, density 1:1, no thumbnail.
    segment(file, APP0, b"JFIF\0\x01\x02\0\0\x01\0\x01\0\0");
    for (id, steps) in [(0, &steps.luma), (1, &steps.chroma)] {
        let zigzag = ZIGZAG.iter().map(|natural| steps[usize::from(*natural)]);
        segment(file, QUANTISERS, &std::iter::once(id).chain(zigzag).collect::<Vec<u8>>());
    }
    let [h, w] = [height.to_be_bytes(), width.to_be_bytes()];
    // Eight bits; components Y (2 x 2 of an MCU), Cb, Cr with their quantisers.
    let frame = [8, h[0], h[1], w[0], w[1], 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1];
    segment(file, BASELINE_FRAME, &frame);
    for (class_and_id, spec) in
        [(0x00, &DC_LUMA), (0x10, &AC_LUMA), (0x01, &DC_CHROMA), (0x11, &AC_CHROMA)]
    {
        segment(file, HUFFMAN_TABLES, &[&[class_and_id], &spec.lengths[..], spec.symbols].concat());
    }
}

/// A restart after so many MCUs: a row of them.
fn interval(file: &mut Vec<u8>, mcus: u16) {
    segment(file, RESTART_INTERVAL, &mcus.to_be_bytes());
}

fn scan(file: &mut Vec<u8>) {
    // All components in one scan, each with its tables, whole spectrum.
    segment(file, SCAN, &[3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0]);
}

fn segment(file: &mut Vec<u8>, marker: u8, content: &[u8]) {
    let len = (content.len() as u16 + 2).to_be_bytes();
    file.extend([0xFF, marker, len[0], len[1]]);
    file.extend(content);
}

/// Codes one block (T.81 F.1.2); its DC level is returned for the next of its component.
#[inline(always)]
fn code_block(
    bits: &mut BitWriter<'_>,
    levels: &[u8; 128],
    dc_before: i32,
    tables: &Tables,
) -> i32 {
    let level = |at: usize| i32::from(i16::from_le_bytes([levels[2 * at], levels[2 * at + 1]]));
    let dc = level(0);
    let (size, value) = magnitude(dc - dc_before);
    bits.put_with(tables.dc[size as usize], value);
    let (mut left, mut last) = (levels_set(levels) & !1, 0);
    while left != 0 {
        let at = left.trailing_zeros();
        left &= left - 1;
        let mut run = at - last - 1;
        last = at;
        while run > 15 {
            bits.put_with(tables.ac[RUN_OF_16], 0);
            run -= 16;
        }
        let (size, value) = magnitude(level((at & 63) as usize));
        bits.put_with(tables.ac[usize::from((run << 4 | size) as u8)], value);
    }
    if last != 63 {
        bits.put_with(tables.ac[END_OF_BLOCK], 0);
    }
    dc
}

/// A bit for each level that is not zero: most are.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn levels_set(levels: &[u8; 128]) -> u64 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_movemask_epi8, _mm_packs_epi16, _mm_set_epi64x, _mm_setzero_si128,
    };
    let (halves, _) = levels.as_chunks::<8>();
    let mut zeros = 0;
    for at in 0..4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|half| i64::from_le_bytes(halves[4 * at + half]));
        // SAFETY: all processors of this kind have SSE2.
        let mask = unsafe {
            // What is too large for a byte becomes the largest one, never zero.
            let sixteen = _mm_packs_epi16(_mm_set_epi64x(b, a), _mm_set_epi64x(d, c));
            _mm_movemask_epi8(_mm_cmpeq_epi8(sixteen, _mm_setzero_si128()))
        };
        zeros |= u64::from(mask as u16) << (16 * at);
    }
    !zeros
}

/// A bit for each level that is not zero: most are.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn levels_set(levels: &[u8; 128]) -> u64 {
    let mut set = [0u8; 64];
    for (set, level) in set.iter_mut().zip(levels.as_chunks::<2>().0) {
        *set = u8::from(u16::from_le_bytes(*level) != 0);
    }
    let mut mask = 0;
    for (at, eight) in set.as_chunks::<8>().0.iter().enumerate() {
        // The lowest bits of eight bytes come together in the highest byte of the product.
        let packed = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        mask |= packed << (8 * at);
    }
    mask
}

const RUN_OF_16: usize = 0xF0;
const END_OF_BLOCK: usize = 0x00;

/// How many bits a value takes, and those bits (T.81 F.1.2.1).
#[inline(always)]
fn magnitude(value: i32) -> (u32, u32) {
    let size = 32 - value.unsigned_abs().leading_zeros();
    let bits = if value < 0 { value - 1 } else { value } as u32;
    (size, bits & ((1 << size) - 1))
}

/// A Huffman code with room behind it for the bits of its value, and the length of both in bits: at
/// most 16 and 11.
#[derive(Clone, Copy, Default)]
struct Code {
    bits: u32,
    len: u32,
}

struct Tables {
    dc: [Code; 256],
    ac: [Code; 256],
}

struct Both {
    luma: Tables,
    chroma: Tables,
}

static TABLES: LazyLock<Both> = LazyLock::new(|| Both {
    luma: Tables { dc: codes(&DC_LUMA), ac: codes(&AC_LUMA) },
    chroma: Tables { dc: codes(&DC_CHROMA), ac: codes(&AC_CHROMA) },
});

/// How many codes there are of each length 1 to 16, and what they mean, shortest first.
struct TableSpec {
    lengths: [u8; 16],
    symbols: &'static [u8],
}

/// The code of each symbol (T.81 annex C), whose low half is the size of its value.
fn codes(spec: &TableSpec) -> [Code; 256] {
    let mut table = [Code::default(); 256];
    let mut symbols = spec.symbols.iter();
    let mut next = 0;
    for (len, count) in (1..).zip(spec.lengths) {
        for symbol in symbols.by_ref().take(usize::from(count)) {
            let room = u32::from(*symbol & 15);
            table[usize::from(*symbol)] = Code { bits: next << room, len: len + room };
            next += 1;
        }
        next <<= 1;
    }
    table
}

/// Bits into bytes, the highest first, with a zero after each byte of ones.
struct BitWriter<'a> {
    /// What is written ends at `at`; behind it is room.
    bytes: &'a mut Vec<u8>,
    at: usize,
    /// The lowest `held` bits are still to be written.
    bits: u64,
    held: u32,
}

impl<'a> BitWriter<'a> {
    /// Writes behind what is there already.
    fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { at: bytes.len(), bytes, bits: 0, held: 0 }
    }

    /// Makes room for so many bytes.
    #[inline(always)]
    fn reserve(&mut self, bytes: usize) {
        if self.bytes.len() - self.at < bytes {
            let len = self.bytes.capacity().max(self.at + bytes);
            self.bytes.resize(len, 0);
        }
    }

    /// Writes a code with its value in the room behind it.
    #[inline(always)]
    fn put_with(&mut self, code: Code, value: u32) {
        self.bits = self.bits << code.len | u64::from(code.bits | value);
        self.held += code.len;
        if self.held > 32 {
            self.held -= 32;
            self.write_word((self.bits >> self.held) as u32);
        }
    }

    #[inline(always)]
    fn write_word(&mut self, word: u32) {
        // A byte of ones in the word is a byte of zeros in its complement.
        let inverse = !word;
        let has_ones = inverse.wrapping_sub(0x0101_0101) & word & 0x8080_8080 != 0;
        if has_ones {
            self.write_bytes(word);
        } else {
            self.bytes[self.at..self.at + 4].copy_from_slice(&word.to_be_bytes());
            self.at += 4;
        }
    }

    #[cold]
    fn write_bytes(&mut self, word: u32) {
        word.to_be_bytes().iter().for_each(|byte| self.write_byte(*byte));
    }

    fn write_byte(&mut self, byte: u8) {
        self.bytes[self.at] = byte;
        self.at += 1;
        if byte == 0xFF {
            self.bytes[self.at] = 0;
            self.at += 1;
        }
    }

    /// A marker, between bytes.
    fn marker(&mut self, marker: u8) {
        self.reserve(2);
        self.bytes[self.at..self.at + 2].copy_from_slice(&[0xFF, marker]);
        self.at += 2;
    }

    /// Fills the last byte up with ones.
    fn close(&mut self) {
        self.reserve(16);
        let missing = self.held.next_multiple_of(8) - self.held;
        let bits = self.bits << missing | ((1 << missing) - 1);
        let mut left = self.held + missing;
        while left > 0 {
            left -= 8;
            self.write_byte((bits >> left) as u8);
        }
        (self.bits, self.held) = (0, 0);
    }

    /// Takes the room away that is left.
    fn finish(self) {
        self.bytes.truncate(self.at);
    }
}

// T.81 tables K.3 to K.6.
const DC_LUMA: TableSpec = TableSpec {
    lengths: [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
    symbols: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
};
const DC_CHROMA: TableSpec = TableSpec {
    lengths: [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0],
    symbols: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
};
const AC_LUMA: TableSpec = TableSpec {
    lengths: [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125],
    symbols: &[
        0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61,
        0x07, 0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xA1, 0x08, 0x23, 0x42, 0xB1, 0xC1, 0x15, 0x52,
        0xD1, 0xF0, 0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0A, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x25,
        0x26, 0x27, 0x28, 0x29, 0x2A, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45,
        0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63, 0x64,
        0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x83,
        0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
        0x9A, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6,
        0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3,
        0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA, 0xE1, 0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8,
        0xE9, 0xEA, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA,
    ],
};
const AC_CHROMA: TableSpec = TableSpec {
    lengths: [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119],
    symbols: &[
        0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61,
        0x71, 0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xA1, 0xB1, 0xC1, 0x09, 0x23, 0x33,
        0x52, 0xF0, 0x15, 0x62, 0x72, 0xD1, 0x0A, 0x16, 0x24, 0x34, 0xE1, 0x25, 0xF1, 0x17, 0x18,
        0x19, 0x1A, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44,
        0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63,
        0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A,
        0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97,
        0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4,
        0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA,
        0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA, 0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7,
        0xE8, 0xE9, 0xEA, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA,
    ],
};

#[cfg(test)]
mod tests;
