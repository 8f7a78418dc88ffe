//! Both passes of a blur in one, where its sums fit 16 bits: down first, into a row that stays in
//! the nearest cache.
//!
//! Bytes at even and at odd places of a row are summed apart, each in the 16 bits that two bytes
//! take together, so that nothing is unpacked and packed again.

use hw::CpuArgs;

use super::{TAPS_MAX, down_rows, narrow_inverse, weights_of};
use crate::lanes::{Between, EDGE};
use crate::native::{Band, bands, mirrored, sizes, threads_for};

/// A pass over both; `false` where it has no form for these weights.
pub(super) fn native(first: &CpuArgs<'_>, second: &mut CpuArgs<'_>) -> bool {
    let (a, b): ([usize; 7], [usize; 7]) = (sizes(first), sizes(second));
    let [width, height, channels, offset, stride, taps, step] = a;
    let fits =
        [width.div_ceil(step), height, channels, taps, step] == [b[0], b[1], b[2], b[5], b[6]];
    let weights = weights_of(first.inputs[0], taps);
    let total: u32 = weights.iter().sum();
    let is_plain = weights[..taps].iter().all(|weight| *weight == 1);
    let has_form = if is_plain { matches!(taps, 3 | 5 | 7 | 9) } else { matches!(taps, 3 | 5) };
    let has_step = step == 1 || channels == 1;
    let Some((factor, shift)) = total.checked_mul(total).and_then(narrow_inverse) else {
        return false;
    };
    if !fits || !has_form || !has_step || weights != weights_of(second.inputs[0], taps) {
        return false;
    }
    let area = down_rows(&b);
    let threads = threads_for(second, 4 * area.count * area.bytes);
    let both = Both {
        src: &first.inputs[1][offset..],
        sides: [width, height, channels, stride],
        step,
        taps,
        is_plain,
        weights: weights.map(|weight| weight as u16),
        half: (total * total / 2) as u16,
        factor,
        shift,
        row_bytes: area.bytes,
        dst_stride: area.stride,
    };
    bands(&mut second.outputs[0][area.range()], area.stride, threads, both);
    true
}

struct Both<'a> {
    src: &'a [u8],
    sides: [usize; 4],
    step: usize,
    taps: usize,
    is_plain: bool,
    weights: [u16; TAPS_MAX],
    half: u16,
    factor: u16,
    shift: u32,
    row_bytes: usize,
    dst_stride: usize,
}

/// Pairs of bytes that are summed without a question in between.
const BLOCK: usize = 32;

impl Band for Both<'_> {
    #[inline(always)]
    fn fill(&self, first: usize, band: &mut [u8]) {
        match (self.is_plain, self.taps) {
            (true, 3) => self.rows::<3, true>(first, band),
            (true, 5) => self.rows::<5, true>(first, band),
            (true, 7) => self.rows::<7, true>(first, band),
            (true, 9) => self.rows::<9, true>(first, band),
            (false, 3) => self.rows::<3, false>(first, band),
            _ => self.rows::<5, false>(first, band),
        }
    }
}

impl Both<'_> {
    #[inline(always)]
    fn rows<const TAPS: usize, const PLAIN: bool>(&self, first: usize, band: &mut [u8]) {
        let [width, _, channels, _] = self.sides;
        let pairs = (width * channels).div_ceil(2);
        let mut sums = [Between::new(pairs + BLOCK, 0u16), Between::new(pairs + BLOCK, 0u16)];
        for (y, to) in band.chunks_mut(self.dst_stride).enumerate() {
            let rows = std::array::from_fn(|n| self.row((first + y) * self.step + n));
            let is_next = PLAIN && self.step == 1 && y > 0;
            if is_next {
                let gone = self.row(first + y - 1);
                self.moved(gone, rows[TAPS - 1], &mut sums);
            } else {
                self.down::<TAPS, PLAIN>(rows, &mut sums);
            }
            self.edges(&mut sums);
            let to = &mut to[..self.row_bytes];
            if self.step == 1 {
                self.across::<TAPS, PLAIN>(&sums, to);
            } else {
                self.every_other::<TAPS, PLAIN>(&sums, to);
            }
        }
    }

    /// The source row that is `n` taps below the first one of row 0 of the result.
    #[inline(always)]
    fn row(&self, n: usize) -> &[u8] {
        let [width, height, channels, stride] = self.sides;
        let from = mirrored(n as isize - (self.taps / 2) as isize, height);
        &self.src[from * stride..][..width * channels]
    }

    #[inline(always)]
    fn sum<const TAPS: usize, const PLAIN: bool>(&self, sample: impl Fn(usize) -> u16) -> u16 {
        (0..TAPS).fold(0u16, |sum, n| match PLAIN {
            true => sum.wrapping_add(sample(n)),
            false => sum.wrapping_add(sample(n).wrapping_mul(self.weights[n])),
        })
    }

    /// Sums of columns, at even and at odd places.
    #[inline(always)]
    fn down<const TAPS: usize, const PLAIN: bool>(
        &self,
        rows: [&[u8]; TAPS],
        [even, odd]: &mut [Between<u16>; 2],
    ) {
        let pairs: [&[[u8; 2]]; TAPS] = rows.map(|row| row.as_chunks().0);
        let count = pairs[0].len();
        let pairs: [&[[u8; 2]]; TAPS] = pairs.map(|row| &row[..count]);
        let (even, odd) = (even.row(), odd.row());
        let (evens, odds) = (&mut even[..count], &mut odd[..count]);
        for k in 0..count {
            let both: [u16; TAPS] = std::array::from_fn(|n| u16::from_le_bytes(pairs[n][k]));
            evens[k] = self.sum::<TAPS, PLAIN>(|n| both[n] & 255);
            odds[k] = self.sum::<TAPS, PLAIN>(|n| both[n] >> 8);
        }
        if rows[0].len() % 2 == 1 {
            even[count] = self.sum::<TAPS, PLAIN>(|n| u16::from(rows[n][2 * count]));
        }
    }

    /// The same for the next row of plain sums: one row goes, one comes.
    #[inline(always)]
    fn moved(&self, gone: &[u8], come: &[u8], [even, odd]: &mut [Between<u16>; 2]) {
        let (gone_pairs, come_pairs) = (gone.as_chunks::<2>().0, come.as_chunks::<2>().0);
        let (even, odd) = (even.row(), odd.row());
        let pairs = gone_pairs.iter().zip(come_pairs);
        for ((even, odd), (gone, come)) in even.iter_mut().zip(odd.iter_mut()).zip(pairs) {
            let (gone, come) = (u16::from_le_bytes(*gone), u16::from_le_bytes(*come));
            *even = even.wrapping_add(come & 255).wrapping_sub(gone & 255);
            *odd = odd.wrapping_add(come >> 8).wrapping_sub(gone >> 8);
        }
        if gone.len() % 2 == 1 {
            let (last, even) = (gone.len() - 1, &mut even[gone_pairs.len()]);
            *even = even.wrapping_add(u16::from(come[last])).wrapping_sub(u16::from(gone[last]));
        }
    }

    /// Pixels past the ends are those mirrored there.
    #[inline(always)]
    fn edges(&self, sums: &mut [Between<u16>; 2]) {
        let [width, _, channels, _] = self.sides;
        let radius = self.taps / 2;
        let mut copy = |to: isize| {
            for channel in 0..channels {
                let from = mirrored(to, width) * channels + channel;
                let at = to * channels as isize + channel as isize;
                let value = sums[from % 2].row()[from / 2];
                sums[at.rem_euclid(2) as usize].set(at.div_euclid(2), value);
            }
        };
        debug_assert!(radius * channels / 2 < EDGE);
        (1..=radius).for_each(|i| copy(-(i as isize)));
        (0..radius).for_each(|i| copy((width + i) as isize));
    }

    /// For bytes of this parity, what each tap reads: sums from the same pair of bytes on.
    #[inline(always)]
    fn taps_of<'a, const TAPS: usize>(
        &self,
        sums: &'a [Between<u16>; 2],
        parity: isize,
        count: usize,
    ) -> [&'a [u16]; TAPS] {
        let channels = self.sides[2] as isize;
        std::array::from_fn(|n| {
            let at = parity + (n as isize - (TAPS / 2) as isize) * channels;
            sums[at.rem_euclid(2) as usize].from(at.div_euclid(2), count)
        })
    }

    #[inline(always)]
    fn divided(&self, sum: u16) -> u16 {
        let sum = sum.wrapping_add(self.half);
        ((u32::from(sum) * u32::from(self.factor)) >> 16) as u16 >> self.shift
    }

    #[inline(always)]
    fn across<const TAPS: usize, const PLAIN: bool>(
        &self,
        sums: &[Between<u16>; 2],
        to: &mut [u8],
    ) {
        let count = to.len().div_ceil(2);
        let even = self.taps_of::<TAPS>(sums, 0, count);
        let odd = self.taps_of::<TAPS>(sums, 1, count);
        let (pairs, last) = to.as_chunks_mut::<2>();
        if PLAIN && self.sides[2] == 1 {
            // All taps of an even byte but the first are those of the odd one but the last.
            for (k, to) in pairs.iter_mut().enumerate() {
                let shared = (1..TAPS).fold(0u16, |sum, n| sum.wrapping_add(even[n][k]));
                let low = self.divided(shared.wrapping_add(even[0][k]));
                let high = self.divided(shared.wrapping_add(odd[TAPS - 1][k]));
                *to = (low & 255 | high << 8).to_le_bytes();
            }
        } else {
            for (k, to) in pairs.iter_mut().enumerate() {
                let low = self.divided(self.sum::<TAPS, PLAIN>(|n| even[n][k]));
                let high = self.divided(self.sum::<TAPS, PLAIN>(|n| odd[n][k]));
                *to = (low & 255 | high << 8).to_le_bytes();
            }
        }
        if let [last] = last {
            *last = self.divided(self.sum::<TAPS, PLAIN>(|n| even[n][count - 1])) as u8;
        }
    }

    #[inline(always)]
    fn every_other<const TAPS: usize, const PLAIN: bool>(
        &self,
        sums: &[Between<u16>; 2],
        to: &mut [u8],
    ) {
        let even = self.taps_of::<TAPS>(sums, 0, to.len());
        for (k, to) in to.iter_mut().enumerate() {
            *to = self.divided(self.sum::<TAPS, PLAIN>(|n| even[n][k])) as u8;
        }
    }
}
