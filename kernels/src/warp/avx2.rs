//! Eight pixels of a row at a time, two in a register with the four each comes from: a shuffle
//! brings those of a channel together, products of pairs weigh them across, then down.

use std::arch::x86_64::*;

use super::pixels_from;
use crate::avx2::{NONE, load32, mask, narrows, store16};
use crate::native::long;

/// Pixels that are done together.
const TOGETHER: usize = 8;

/// Of two pixels of a row in the first eight bytes, and two of the next row in the others: for each
/// channel the four samples.
const fn joins(channels: usize) -> [i8; 16] {
    let mut shuffle = [NONE; 16];
    let mut channel = 0;
    while channel < channels {
        let at = 4 * channel;
        shuffle[at] = channel as i8;
        shuffle[at + 1] = (channels + channel) as i8;
        shuffle[at + 2] = (8 + channel) as i8;
        shuffle[at + 3] = (8 + channels + channel) as i8;
        channel += 1;
    }
    shuffle
}

/// Two bytes of each half, eight times.
const fn repeats(pixel: usize) -> [i8; 16] {
    let mut shuffle = [0; 16];
    let mut at = 0;
    while at < 16 {
        shuffle[at] = (4 * pixel + at % 2) as i8;
        at += 1;
    }
    shuffle
}

static REPEATS: [[i8; 16]; 4] = [repeats(0), repeats(1), repeats(2), repeats(3)];

/// Where eight pixels come from that lie inside.
struct Places {
    /// The first byte of each.
    at: [i32; TOGETHER],
    /// `32 - d` and `d`, across in bytes and down in 16 bits.
    across: __m256i,
    down: __m256i,
}

/// What is the same for a row: sizes of the source, and the last place that eight bytes of a row
/// and of the next can be read from.
struct Source {
    row: [__m256i; 2],
    /// How far from a place the next row of it is read in the row of the result below.
    ahead: isize,
    left_max: __m256i,
    top_max: __m256i,
    stride: __m256i,
    offset: __m256i,
    at_max: __m256i,
}

/// A row of a result, of a source of less than 2^31 bytes.
#[target_feature(enable = "avx2")]
pub(super) fn row<const CHANNELS: usize>(
    inputs: &[&[u8]],
    s: &[usize; 10],
    y: usize,
    to: &mut [u8],
) {
    let [width, _, _, src_width, src_height, src_offset, src_stride, ..] = *s;
    let (table, src) = (inputs[0], inputs[1]);
    let set = |value: i32| _mm256_set1_epi32(value);
    let source = Source {
        ahead: ahead(inputs[0], s, y),
        row: [
            set(long(table, 2 * (width + y)) as i32),
            set(long(table, 2 * (width + y) + 1) as i32),
        ],
        left_max: set(src_width as i32 - 2),
        top_max: set(src_height as i32 - 2),
        stride: set(src_stride as i32),
        offset: set(src_offset as i32),
        at_max: set(src.len() as i32 - src_stride as i32 - 8),
    };
    let fill: [u8; 4 * TOGETHER] = std::array::from_fn(|i| (s[9] >> (8 * (i % CHANNELS))) as u8);
    let fill = &fill[..TOGETHER * CHANNELS];
    let are_two = src_width > 1 && src_height > 1;
    let mut x = 0;
    while x < width {
        let count = TOGETHER.min(width - x);
        let found = match are_two && count == TOGETHER {
            true => places::<CHANNELS>(&table[8 * x..], &source),
            false => Found::Mixed,
        };
        match found {
            Found::Inside(places) => {
                let next = src.as_ptr().wrapping_offset(places.at[0] as isize + source.ahead);
                _mm_prefetch::<_MM_HINT_T0>(next.cast());
                // SAFETY: `places` lie within the source, with what is read from them on.
                let made = unsafe { weighed::<CHANNELS>(src, src_stride, &places) };
                put::<CHANNELS>(made, &mut to[x * CHANNELS..]);
            }
            Found::Outside => to[x * CHANNELS..][..fill.len()].copy_from_slice(fill),
            Found::Mixed => {
                let to = &mut to[x * CHANNELS..][..count * CHANNELS];
                pixels_from::<CHANNELS>(inputs, s, [x, y], to);
            }
        }
        x += count;
    }
}

/// From the place of a pixel of row `y` to where the one below it reads what no pixel of row `y`
/// does: the lower row of its place, or the upper one where the source is walked upwards.
fn ahead(table: &[u8], s: &[usize; 10], y: usize) -> isize {
    let [width, height, channels, _, _, _, stride, ..] = *s;
    let entry = |y: usize, i: usize| i64::from(long(table, 2 * (width + y) + i) as i32);
    let next = (y + 1).min(height - 1);
    let [x, y] = [0, 1].map(|i| (entry(next, i) - entry(y, i)) as isize);
    let rows = if y < 0 { y >> 10 } else { ((y + 1023) >> 10) + 1 };
    rows * stride as isize + (x >> 10) * channels as isize
}

/// Where eight pixels come from.
enum Found {
    Inside(Places),
    /// All from outside, with no sample of the source beside them.
    Outside,
    Mixed,
}

/// The places of eight columns.
#[inline]
#[target_feature(enable = "avx2")]
fn places<const CHANNELS: usize>(columns: &[u8], source: &Source) -> Found {
    let a = _mm256_castsi256_ps(load32(columns));
    let b = _mm256_castsi256_ps(load32(&columns[32..]));
    let place = |columns: __m256, row: __m256i| {
        let columns = _mm256_permute4x64_epi64(_mm256_castps_si256(columns), 0b11_01_10_00);
        _mm256_srai_epi32(_mm256_add_epi32(columns, row), 5)
    };
    let at_x = place(_mm256_shuffle_ps(a, b, 0x88), source.row[0]);
    let at_y = place(_mm256_shuffle_ps(a, b, 0xDD), source.row[1]);
    let (left, top) = (_mm256_srai_epi32(at_x, 5), _mm256_srai_epi32(at_y, 5));
    let within = |at, max| _mm256_cmpeq_epi32(_mm256_min_epu32(at, max), at);
    let inside = _mm256_and_si256(within(left, source.left_max), within(top, source.top_max));
    let along = _mm256_mullo_epi32(left, _mm256_set1_epi32(CHANNELS as i32));
    let at = _mm256_add_epi32(_mm256_mullo_epi32(top, source.stride), along);
    let at = _mm256_add_epi32(at, source.offset);
    let beyond = _mm256_cmpgt_epi32(at, source.at_max);
    let inside = _mm256_andnot_si256(beyond, inside);
    if _mm256_movemask_epi8(inside) != -1 {
        let next = |at| _mm256_add_epi32(at, _mm256_set1_epi32(1));
        let beside = |at, max| within(next(at), next(next(max)));
        let beside = _mm256_and_si256(beside(left, source.left_max), beside(top, source.top_max));
        let is_outside = _mm256_testz_si256(beside, beside) == 1;
        return if is_outside { Found::Outside } else { Found::Mixed };
    }
    let part = |at| _mm256_and_si256(at, _mm256_set1_epi32(31));
    let (dx, dy) = (part(at_x), part(at_y));
    let rest = |d| _mm256_sub_epi32(_mm256_set1_epi32(32), d);
    let mut places = [0; TOGETHER];
    // SAFETY: there is room for eight numbers, and an unaligned store may write them.
    unsafe { _mm256_storeu_si256(places.as_mut_ptr().cast(), at) };
    Found::Inside(Places {
        at: places,
        across: _mm256_or_si256(rest(dx), _mm256_slli_epi32(dx, 8)),
        down: _mm256_or_si256(rest(dy), _mm256_slli_epi32(dy, 16)),
    })
}

/// Eight pixels, of `CHANNELS` bytes each from the first byte of each half on.
///
/// # Safety
///
/// From each place on, and from there on in the next row, eight bytes must be in the source.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn weighed<const CHANNELS: usize>(src: &[u8], stride: usize, places: &Places) -> __m256i {
    let four = |pixel: usize| {
        let at = places.at[pixel] as usize;
        debug_assert!(at + stride + 8 <= src.len());
        // SAFETY: the caller promises that these eight bytes are there.
        let upper = unsafe { _mm_loadl_epi64(src.as_ptr().add(at).cast()) };
        // SAFETY: and these.
        let lower = unsafe { _mm_loadl_epi64(src.as_ptr().add(at + stride).cast()) };
        _mm_unpacklo_epi64(upper, lower)
    };
    let join = mask(const { &joins(CHANNELS) });
    let round = _mm256_set1_epi32(512);
    // Pixels n and n + 4, of which each has a half.
    let two = |n: usize, down: __m256i| {
        let samples = _mm256_inserti128_si256(_mm256_castsi128_si256(four(n)), four(n + 4), 1);
        let across = _mm256_shuffle_epi8(places.across, mask(&REPEATS[n]));
        let sums = _mm256_maddubs_epi16(_mm256_shuffle_epi8(samples, join), across);
        _mm256_srai_epi32(_mm256_add_epi32(_mm256_madd_epi16(sums, down), round), 10)
    };
    let a = two(0, _mm256_shuffle_epi32(places.down, 0x00));
    let b = two(1, _mm256_shuffle_epi32(places.down, 0x55));
    let c = two(2, _mm256_shuffle_epi32(places.down, 0xAA));
    let d = two(3, _mm256_shuffle_epi32(places.down, 0xFF));
    let bytes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    _mm256_shuffle_epi8(bytes, mask(const { &narrows(CHANNELS) }))
}

/// The first bytes of each half, one after the other.
#[inline]
#[target_feature(enable = "avx2")]
fn put<const CHANNELS: usize>(made: __m256i, to: &mut [u8]) {
    let half = 4 * CHANNELS;
    let [low, high] = [_mm256_castsi256_si128(made), _mm256_extracti128_si256(made, 1)];
    if to.len() >= half + 16 {
        // What is written past eight pixels is overwritten by the next ones.
        store16(to, low);
        store16(&mut to[half..], high);
        return;
    }
    let mut bytes = [0; 32];
    store16(&mut bytes, low);
    store16(&mut bytes[half..], high);
    to[..2 * half].copy_from_slice(&bytes[..2 * half]);
}
