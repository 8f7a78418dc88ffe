//! Levels as bits (clause 9.2, CAVLC).

use super::bits::BitWriter;

const LEVEL_MAX: i16 = kernels::h264::block::LEVEL_MAX as i16;

/// Writes the levels of a block in zigzag order, cut to what a code holds. `near` is how many
/// levels the blocks around are expected to have; `None` for the four first levels of chroma.
/// Returns how many levels there are.
#[inline]
pub fn block(bits: &mut BitWriter, levels: &[i16], near: Option<u32>) -> u32 {
    let mut set = 0u32;
    for (at, level) in levels.iter().enumerate() {
        set |= u32::from(*level != 0) << at;
    }
    if set == 0 {
        token(bits, 0, 0, near);
        return 0;
    }
    // The last one first, as they are written.
    let (mut found, mut places) = ([0i32; 16], [0u32; 16]);
    let (mut count, mut ones, mut signs, mut is_tail) = (0, 0, 0, true);
    while set != 0 && count < 16 {
        let at = set.ilog2();
        set ^= 1 << at;
        let level = i32::from(levels[at as usize].clamp(-LEVEL_MAX, LEVEL_MAX));
        is_tail &= ones < 3 && level.abs() == 1;
        if is_tail {
            signs = signs << 1 | u32::from(level < 0);
            ones += 1;
        }
        (found[count], places[count]) = (level, at);
        count += 1;
    }
    token(bits, count, ones, near);
    bits.put(signs, ones as u32);
    code_levels(bits, &found[ones..count], count, ones);
    let zeros = places[0] + 1 - count as u32;
    if count < levels.len() {
        let (len, code) = match levels.len() {
            4 => CHROMA_ZEROS[count - 1][zeros as usize],
            _ => ZEROS[count - 1][zeros as usize],
        };
        bits.put(code.into(), len.into());
    }
    code_runs(bits, &places[..count], zeros);
    count as u32
}

/// Writes a block without levels.
#[inline]
pub fn empty(bits: &mut BitWriter, near: Option<u32>) {
    token(bits, 0, 0, near);
}

#[inline]
fn token(bits: &mut BitWriter, count: usize, ones: usize, near: Option<u32>) {
    let (len, code) = match near {
        None => CHROMA_TOKENS[count][ones],
        Some(0..2) => TOKENS[0][count][ones],
        Some(2..4) => TOKENS[1][count][ones],
        Some(4..8) => TOKENS[2][count][ones],
        Some(_) if count == 0 => (6, 3),
        Some(_) => (6, (4 * (count - 1) + ones) as u8),
    };
    bits.put(code.into(), len.into());
}

/// Levels but the trailing ones, last first, as they are given (clause 9.2.2.1).
#[inline]
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

#[inline]
fn code_level(bits: &mut BitWriter, code: u32, suffix_len: u32) {
    let escape = 15 << suffix_len;
    match suffix_len {
        0 if code < 14 => bits.put(1, code + 1),
        0 if code < 30 => {
            bits.put(1, 15);
            bits.put(code - 14, 4);
        }
        0 => {
            bits.put(1, 16);
            bits.put(code - 30, 12);
        }
        len if code < escape => {
            bits.put(1, (code >> len) + 1);
            bits.put(code & ((1 << len) - 1), len);
        }
        _ => {
            bits.put(1, 16);
            bits.put(code - escape, 12);
        }
    }
}

/// The zeros before each level, last first, of which the places are given.
#[inline]
fn code_runs(bits: &mut BitWriter, places: &[u32], zeros: u32) {
    let mut left = zeros;
    for pair in places.windows(2) {
        if left == 0 {
            return;
        }
        let run = pair[0] - pair[1] - 1;
        let (len, code) = RUNS[left.min(7) as usize - 1][run as usize];
        bits.put(code.into(), len.into());
        left -= run;
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
