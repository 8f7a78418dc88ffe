//! Means of 32 samples at once.
//!
//! With `m` the sample in the middle, the result is `m + floor((N + T / 2) / T)`, where `N` is the
//! sum of weights times differences to `m` and `T` that of weights. Weights of differences are
//! found by shuffles of sixteen, as many as the largest difference of a block needs. Places that
//! lie opposite each other have the same weight: they are summed before they are weighed.

use std::arch::x86_64::*;

use crate::avx2::{bytes, load16, load32, pairs, store32};
use crate::native::long;

const BLOCK: usize = 32;
/// Bytes after a row that may be read.
const ROOM: usize = BLOCK;
/// Tables of sixteen weights of differences.
const TABLES: usize = 8;
/// Pairs of a square of nine.
const PAIRS_MAX: usize = 40;

/// Two places opposite each other.
#[derive(Clone, Copy)]
struct Pair {
    near: i32,
    /// Row and column of each.
    at: [[usize; 2]; 2],
}

pub(super) struct Weights {
    /// An even number, of which the last may have no weight.
    pairs: Vec<Pair>,
    /// The weight of the sample in the middle.
    middle: i32,
    alike: [[u8; 16]; TABLES],
}

impl Weights {
    /// Where sums of such weights fit the lanes and samples that differ by 127 or more do not
    /// count.
    pub fn new(weights: &[u8], side: usize) -> Option<Self> {
        let alike: Vec<u32> = (0..256).map(|d| long(weights, d) & 255).collect();
        let near = |place: usize| (long(weights, 256 + place) & 255) as i32;
        let places = side * side;
        let opposite = (0..places).all(|place| near(place) == near(places - 1 - place));
        // Two products are summed in 16 bits.
        let narrow = alike.iter().zip(0..).all(|(weight, d)| 2 * weight * d <= i16::MAX as u32);
        let middle = near(places / 2) * alike[0] as i32;
        let are_few = alike[127..].iter().all(|weight| *weight == 0);
        if !opposite || !narrow || !are_few || middle == 0 {
            return None;
        }
        let pair = |place: usize| Pair {
            near: near(place),
            at: [place, places - 1 - place].map(|place| [place / side, place % side]),
        };
        let mut pairs: Vec<Pair> = (0..places / 2).map(pair).filter(|pair| pair.near > 0).collect();
        if pairs.len() % 2 == 1 {
            pairs.push(Pair { near: 0, ..pairs[0] });
        }
        let mut tables = [[0; 16]; TABLES];
        for (to, weight) in tables.as_flattened_mut().iter_mut().zip(alike) {
            *to = weight as u8;
        }
        Some(Self { pairs, middle, alike: tables })
    }
}

/// Samples get a sign, and room after them.
pub(super) fn prepare(row: &mut Vec<u8>) {
    row.iter_mut().for_each(|sample| *sample ^= 0x80);
    row.resize(row.len() + ROOM, 0);
}

/// Weights of differences, to be looked up.
struct Tables {
    own: [__m256i; TABLES],
    /// Each with the next one's bits taken away: see [`weights_of`].
    steps: [__m256i; TABLES],
}

impl Tables {
    #[target_feature(enable = "avx2")]
    fn new(alike: &[[u8; 16]; TABLES]) -> Self {
        let [mut own, mut steps] = [[_mm256_setzero_si256(); TABLES]; 2];
        for (own, table) in own.iter_mut().zip(alike) {
            *own = _mm256_broadcastsi128_si256(load16(table));
        }
        for (n, step) in steps.iter_mut().enumerate() {
            *step = _mm256_xor_si256(own[n], own[(n + 1) % TABLES]);
        }
        Self { own, steps }
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn row(weights: &Weights, rows: &[&[u8]], channels: usize, to: &mut [u8]) {
    let tables = Tables::new(&weights.alike);
    let radius = rows.len() / 2;
    let mut found = [[_mm256_setzero_si256(); 2]; PAIRS_MAX];
    for (number, to) in to.chunks_mut(BLOCK).enumerate() {
        let x = number * BLOCK;
        let middle = load32(&rows[radius][x + radius * channels..]);
        let mut widest = _mm256_setzero_si256();
        for (pair, found) in weights.pairs.iter().zip(&mut found) {
            for (found, [row, column]) in found.iter_mut().zip(pair.at) {
                let samples = load32(&rows[row][x + column * channels..]);
                *found = _mm256_subs_epi8(samples, middle);
                widest = _mm256_max_epu8(widest, _mm256_abs_epi8(*found));
            }
        }
        let is_below = |bits: u8| _mm256_testz_si256(widest, _mm256_set1_epi8(bits as i8)) == 1;
        let differences = &found[..weights.pairs.len()];
        let changes = if is_below(0xF0) {
            changes::<1>(weights, &tables, differences)
        } else if is_below(0xE0) {
            changes::<2>(weights, &tables, differences)
        } else if is_below(0xC0) {
            changes::<4>(weights, &tables, differences)
        } else {
            changes::<TABLES>(weights, &tables, differences)
        };
        let sample = _mm256_xor_si256(middle, _mm256_set1_epi8(i8::MIN));
        let made = _mm256_add_epi8(sample, changes);
        if to.len() == BLOCK {
            store32(to, made);
        } else {
            to.copy_from_slice(&bytes(made)[..to.len()]);
        }
    }
}

/// Weights of differences, which are below 16 x `COUNT`, or 128 and have none.
///
/// A shuffle gives nothing where the highest bit is set: differences are moved up by 0x70, and down
/// again by sixteen for each table. A table gives its own for its differences, nothing for larger
/// ones, and for smaller ones what the tables before it took away.
#[inline]
#[target_feature(enable = "avx2")]
fn weights_of<const COUNT: usize>(tables: &Tables, differences: __m256i) -> __m256i {
    let mut place = _mm256_add_epi8(differences, _mm256_set1_epi8(0x70));
    let mut weights = _mm256_setzero_si256();
    for n in 0..COUNT - 1 {
        weights = _mm256_xor_si256(weights, _mm256_shuffle_epi8(tables.steps[n], place));
        place = _mm256_sub_epi8(place, _mm256_set1_epi8(16));
    }
    _mm256_xor_si256(weights, _mm256_shuffle_epi8(tables.own[COUNT - 1], place))
}

/// What is added to the samples in the middle.
#[inline]
#[target_feature(enable = "avx2")]
fn changes<const COUNT: usize>(
    weights: &Weights,
    tables: &Tables,
    differences: &[[__m256i; 2]],
) -> __m256i {
    let mut sums = [_mm256_setzero_si256(); 4];
    let mut totals = [_mm256_set1_epi32(weights.middle); 4];
    for (two, differences) in weights.pairs.as_chunks::<2>().0.iter().zip(differences.chunks(2)) {
        let near = pairs(two[0].near, two[1].near);
        let (a_sums, a_totals) = opposite::<COUNT>(tables, differences[0]);
        let (b_sums, b_totals) = opposite::<COUNT>(tables, differences[1]);
        for half in 0..2 {
            let (a, b) = (a_sums[half], b_sums[half]);
            let low = _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), near);
            let high = _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), near);
            sums[2 * half] = _mm256_add_epi32(sums[2 * half], low);
            sums[2 * half + 1] = _mm256_add_epi32(sums[2 * half + 1], high);
            let (a, b) = (a_totals[half], b_totals[half]);
            let low = _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), near);
            let high = _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), near);
            totals[2 * half] = _mm256_add_epi32(totals[2 * half], low);
            totals[2 * half + 1] = _mm256_add_epi32(totals[2 * half + 1], high);
        }
    }
    let changed = |n: usize| quotient(sums[n], totals[n]);
    let low = _mm256_packs_epi32(changed(0), changed(1));
    _mm256_packs_epi16(low, _mm256_packs_epi32(changed(2), changed(3)))
}

/// Of two opposite places, the sums of weights times differences and of weights, in 16 bits: the
/// first eight of each half, then the others.
#[inline]
#[target_feature(enable = "avx2")]
fn opposite<const COUNT: usize>(
    tables: &Tables,
    differences: [__m256i; 2],
) -> ([__m256i; 2], [__m256i; 2]) {
    let [c, d] = differences;
    let a = weights_of::<COUNT>(tables, _mm256_abs_epi8(c));
    let b = weights_of::<COUNT>(tables, _mm256_abs_epi8(d));
    let weights = [_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)];
    let differences = [_mm256_unpacklo_epi8(c, d), _mm256_unpackhi_epi8(c, d)];
    let sum = |n: usize| _mm256_maddubs_epi16(weights[n], differences[n]);
    let total = |n: usize| _mm256_maddubs_epi16(weights[n], _mm256_set1_epi8(1));
    ([sum(0), sum(1)], [total(0), total(1)])
}

/// `floor((sum + total / 2) / total)`. Floats are right but for one at most, and by what is added
/// to them never too small; the remainder says where they are too large.
#[inline]
#[target_feature(enable = "avx2")]
fn quotient(sum: __m256i, total: __m256i) -> __m256i {
    let sum = _mm256_add_epi32(sum, _mm256_srli_epi32(total, 1));
    let close = _mm256_div_ps(_mm256_cvtepi32_ps(sum), _mm256_cvtepi32_ps(total));
    let found = _mm256_cvtps_epi32(_mm256_sub_ps(close, _mm256_set1_ps(0.499)));
    let rest = _mm256_sub_epi32(sum, _mm256_mullo_epi32(found, total));
    _mm256_add_epi32(found, _mm256_srai_epi32(rest, 31))
}
