//! Levels as bits (clause 9.2, CAVLC).

use super::bits::BitWriter;

const LEVEL_MAX: i16 = kernels::h264::block::LEVEL_MAX as i16;

/// The levels of a block in zigzag order.
#[derive(Clone, Copy)]
pub struct Levels<'a> {
    pub words: &'a [i16; 16],
    /// The first word that counts, and how many do.
    pub first: u32,
    pub places: u32,
}

impl Levels<'_> {
    /// Which there are, a bit each.
    #[inline(always)]
    fn set(&self) -> u32 {
        let mut is_set = [0u8; 16];
        for (is_set, word) in is_set.iter_mut().zip(self.words) {
            *is_set = u8::from(*word != 0);
        }
        let mut set = 0;
        for (half, eight) in is_set.as_chunks::<8>().0.iter().enumerate() {
            // The lowest bits of eight bytes come together in the highest byte of the product.
            let packed = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
            set |= (packed as u32) << (8 * half);
        }
        set >> self.first & ((1 << self.places) - 1)
    }

    /// One of them, cut to what a code holds.
    #[inline(always)]
    fn at(&self, place: u32) -> i32 {
        let word = self.words[((place + self.first) & 15) as usize];
        i32::from(word.clamp(-LEVEL_MAX, LEVEL_MAX))
    }
}

/// Writes the levels of a block. `near` is how many of them the blocks around are expected to have;
/// `None` for the four first levels of chroma. Returns how many levels there are.
#[inline(always)]
pub fn block(bits: &mut BitWriter, levels: Levels<'_>, near: Option<u32>) -> u32 {
    let set = levels.set();
    if set == 0 {
        empty(bits, near);
        return 0;
    }
    let count = set.count_ones() as usize;
    // The last one first, as they are written.
    let (mut found, mut left) = ([0i32; 16], set);
    for found in &mut found[..count] {
        let at = left.ilog2();
        left ^= 1 << at;
        *found = levels.at(at);
    }
    let found = &found[..count];
    let (mut ones, mut signs) = (0, 0);
    while ones < count.min(3) && found[ones].abs() == 1 {
        signs = signs << 1 | u32::from(found[ones] < 0);
        ones += 1;
    }
    let (len, code) = token(count, ones, near);
    bits.put(u32::from(code) << ones | signs, u32::from(len) + ones as u32);
    code_levels(bits, &found[ones..], count, ones);
    let zeros = set.ilog2() + 1 - count as u32;
    if (count as u32) < levels.places {
        let (len, code) = match levels.places {
            4 => CHROMA_ZEROS[count - 1][zeros as usize],
            _ => ZEROS[count - 1][zeros as usize],
        };
        bits.put(code.into(), len.into());
    }
    code_runs(bits, set, zeros);
    count as u32
}

/// Writes a block without levels.
#[inline(always)]
pub fn empty(bits: &mut BitWriter, near: Option<u32>) {
    let (len, code) = token(0, 0, near);
    bits.put(code.into(), len.into());
}

#[inline(always)]
fn token(count: usize, ones: usize, near: Option<u32>) -> Code {
    match near {
        None => CHROMA_TOKENS[count][ones],
        Some(0..2) => TOKENS[0][count][ones],
        Some(2..4) => TOKENS[1][count][ones],
        Some(4..8) => TOKENS[2][count][ones],
        Some(_) if count == 0 => (6, 3),
        Some(_) => (6, (4 * (count - 1) + ones) as u8),
    }
}

/// Levels but the trailing ones, last first, as they are given (clause 9.2.2.1).
#[inline(always)]
fn code_levels(bits: &mut BitWriter, levels: &[i32], count: usize, ones: usize) {
    let mut suffix_len = u32::from(count > 10 && ones < 3);
    for (at, level) in levels.iter().enumerate() {
        let mut code = 2 * level.unsigned_abs() - 2 + u32::from(*level < 0);
        if at == 0 && ones < 3 {
            code -= 2;
        }
        code_level(bits, code, suffix_len);
        suffix_len = suffix_len.max(1);
        if level.unsigned_abs() > 3 << (suffix_len - 1) && suffix_len < 6 {
            suffix_len += 1;
        }
    }
}

/// Zeros, a one, and what comes behind it.
#[inline(always)]
fn code_level(bits: &mut BitWriter, code: u32, suffix_len: u32) {
    let escape = 15 << suffix_len;
    match suffix_len {
        0 if code < 14 => bits.put(1, code + 1),
        0 if code < 30 => bits.put(1 << 4 | (code - 14), 19),
        0 => bits.put(1 << 12 | (code - 30), 28),
        len if code < escape => {
            bits.put(1 << len | (code & ((1 << len) - 1)), (code >> len) + 1 + len);
        }
        _ => bits.put(1 << 12 | (code - escape), 28),
    }
}

/// The zeros before each of the levels in `set`, last first.
#[inline(always)]
fn code_runs(bits: &mut BitWriter, set: u32, zeros: u32) {
    let (mut at, mut left) = (set.ilog2(), zeros);
    let mut set = set ^ 1 << at;
    while left > 0 && set != 0 {
        let next = set.ilog2();
        set ^= 1 << next;
        let run = at - next - 1;
        let (len, code) = RUNS[left.min(7) as usize - 1][run as usize];
        bits.put(code.into(), len.into());
        left -= run;
        at = next;
    }
}

/// Length and value of a code.
type Code = (u8, u8);

/// Table 9-5: by how many levels there are, and how many of the last ones are ones.
const TOKENS: [[[Code; 4]; 17]; 3] = [
    [
        [(1, 1), (0, 0), (0, 0), (0, 0)],
        [(6, 5), (2, 1), (0, 0), (0, 0)],
        [(8, 7), (6, 4), (3, 1), (0, 0)],
        [(9, 7), (8, 6), (7, 5), (5, 3)],
        [(10, 7), (9, 6), (8, 5), (6, 3)],
        [(11, 7), (10, 6), (9, 5), (7, 4)],
        [(13, 15), (11, 6), (10, 5), (8, 4)],
        [(13, 11), (13, 14), (11, 5), (9, 4)],
        [(13, 8), (13, 10), (13, 13), (10, 4)],
        [(14, 15), (14, 14), (13, 9), (11, 4)],
        [(14, 11), (14, 10), (14, 13), (13, 12)],
        [(15, 15), (15, 14), (14, 9), (14, 12)],
        [(15, 11), (15, 10), (15, 13), (14, 8)],
        [(16, 15), (15, 1), (15, 9), (15, 12)],
        [(16, 11), (16, 14), (16, 13), (15, 8)],
        [(16, 7), (16, 10), (16, 9), (16, 12)],
        [(16, 4), (16, 6), (16, 5), (16, 8)],
    ],
    [
        [(2, 3), (0, 0), (0, 0), (0, 0)],
        [(6, 11), (2, 2), (0, 0), (0, 0)],
        [(6, 7), (5, 7), (3, 3), (0, 0)],
        [(7, 7), (6, 10), (6, 9), (4, 5)],
        [(8, 7), (6, 6), (6, 5), (4, 4)],
        [(8, 4), (7, 6), (7, 5), (5, 6)],
        [(9, 7), (8, 6), (8, 5), (6, 8)],
        [(11, 15), (9, 6), (9, 5), (6, 4)],
        [(11, 11), (11, 14), (11, 13), (7, 4)],
        [(12, 15), (11, 10), (11, 9), (9, 4)],
        [(12, 11), (12, 14), (12, 13), (11, 12)],
        [(12, 8), (12, 10), (12, 9), (11, 8)],
        [(13, 15), (13, 14), (13, 13), (12, 12)],
        [(13, 11), (13, 10), (13, 9), (13, 12)],
        [(13, 7), (14, 11), (13, 6), (13, 8)],
        [(14, 9), (14, 8), (14, 10), (13, 1)],
        [(14, 7), (14, 6), (14, 5), (14, 4)],
    ],
    [
        [(4, 15), (0, 0), (0, 0), (0, 0)],
        [(6, 15), (4, 14), (0, 0), (0, 0)],
        [(6, 11), (5, 15), (4, 13), (0, 0)],
        [(6, 8), (5, 12), (5, 14), (4, 12)],
        [(7, 15), (5, 10), (5, 11), (4, 11)],
        [(7, 11), (5, 8), (5, 9), (4, 10)],
        [(7, 9), (6, 14), (6, 13), (4, 9)],
        [(7, 8), (6, 10), (6, 9), (4, 8)],
        [(8, 15), (7, 14), (7, 13), (5, 13)],
        [(8, 11), (8, 14), (7, 10), (6, 12)],
        [(9, 15), (8, 10), (8, 13), (7, 12)],
        [(9, 11), (9, 14), (8, 9), (8, 12)],
        [(9, 8), (9, 10), (9, 13), (8, 8)],
        [(10, 13), (9, 7), (9, 9), (9, 12)],
        [(10, 9), (10, 12), (10, 11), (10, 10)],
        [(10, 5), (10, 8), (10, 7), (10, 6)],
        [(10, 1), (10, 4), (10, 3), (10, 2)],
    ],
];

const CHROMA_TOKENS: [[Code; 4]; 5] = [
    [(2, 1), (0, 0), (0, 0), (0, 0)],
    [(6, 7), (1, 1), (0, 0), (0, 0)],
    [(6, 4), (6, 6), (3, 1), (0, 0)],
    [(6, 3), (7, 3), (7, 2), (6, 5)],
    [(6, 2), (8, 3), (8, 2), (7, 0)],
];

/// Tables 9-7 and 9-8: by how many levels there are, and how many zeros before the last.
const ZEROS: [&[Code]; 15] = [
    &[
        (1, 1),
        (3, 3),
        (3, 2),
        (4, 3),
        (4, 2),
        (5, 3),
        (5, 2),
        (6, 3),
        (6, 2),
        (7, 3),
        (7, 2),
        (8, 3),
        (8, 2),
        (9, 3),
        (9, 2),
        (9, 1),
    ],
    &[
        (3, 7),
        (3, 6),
        (3, 5),
        (3, 4),
        (3, 3),
        (4, 5),
        (4, 4),
        (4, 3),
        (4, 2),
        (5, 3),
        (5, 2),
        (6, 3),
        (6, 2),
        (6, 1),
        (6, 0),
    ],
    &[
        (4, 5),
        (3, 7),
        (3, 6),
        (3, 5),
        (4, 4),
        (4, 3),
        (3, 4),
        (3, 3),
        (4, 2),
        (5, 3),
        (5, 2),
        (6, 1),
        (5, 1),
        (6, 0),
    ],
    &[
        (5, 3),
        (3, 7),
        (4, 5),
        (4, 4),
        (3, 6),
        (3, 5),
        (3, 4),
        (4, 3),
        (3, 3),
        (4, 2),
        (5, 2),
        (5, 1),
        (5, 0),
    ],
    &[
        (4, 5),
        (4, 4),
        (4, 3),
        (3, 7),
        (3, 6),
        (3, 5),
        (3, 4),
        (3, 3),
        (4, 2),
        (5, 1),
        (4, 1),
        (5, 0),
    ],
    &[(6, 1), (5, 1), (3, 7), (3, 6), (3, 5), (3, 4), (3, 3), (3, 2), (4, 1), (3, 1), (6, 0)],
    &[(6, 1), (5, 1), (3, 5), (3, 4), (3, 3), (2, 3), (3, 2), (4, 1), (3, 1), (6, 0)],
    &[(6, 1), (4, 1), (5, 1), (3, 3), (2, 3), (2, 2), (3, 2), (3, 1), (6, 0)],
    &[(6, 1), (6, 0), (4, 1), (2, 3), (2, 2), (3, 1), (2, 1), (5, 1)],
    &[(5, 1), (5, 0), (3, 1), (2, 3), (2, 2), (2, 1), (4, 1)],
    &[(4, 0), (4, 1), (3, 1), (3, 2), (1, 1), (3, 3)],
    &[(4, 0), (4, 1), (2, 1), (1, 1), (3, 1)],
    &[(3, 0), (3, 1), (1, 1), (2, 1)],
    &[(2, 0), (2, 1), (1, 1)],
    &[(1, 0), (1, 1)],
];

/// Table 9-9.
const CHROMA_ZEROS: [&[Code]; 3] =
    [&[(1, 1), (2, 1), (3, 1), (3, 0)], &[(1, 1), (2, 1), (2, 0)], &[(1, 1), (1, 0)]];

/// Table 9-10: by how many zeros are left, and how many stand before a level.
const RUNS: [&[Code]; 7] = [
    &[(1, 1), (1, 0)],
    &[(1, 1), (2, 1), (2, 0)],
    &[(2, 3), (2, 2), (2, 1), (2, 0)],
    &[(2, 3), (2, 2), (2, 1), (3, 1), (3, 0)],
    &[(2, 3), (2, 2), (3, 3), (3, 2), (3, 1), (3, 0)],
    &[(2, 3), (3, 0), (3, 1), (3, 3), (3, 2), (3, 5), (3, 4)],
    &[
        (3, 7),
        (3, 6),
        (3, 5),
        (3, 4),
        (3, 3),
        (3, 2),
        (3, 1),
        (4, 1),
        (5, 1),
        (6, 1),
        (7, 1),
        (8, 1),
        (9, 1),
        (10, 1),
        (11, 1),
    ],
];
