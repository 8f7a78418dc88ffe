//! Both directions in one, down first, into a row that stays in the nearest cache.
//!
//! Vector units that multiply pairs of 16 bits and add them (AVX2) take two weights at once: down,
//! of two rows; across, of two neighbouring pixels, whose samples a shuffle brings together.

use hw::CpuArgs;

use super::{across_area, near};
use crate::lanes::{Between, EDGE};
use crate::native::{Band, Unit, bands, long, sizes, threads_for, unit};

/// Weights of a row, most that are weighed here.
const TAPS_MAX: usize = 16;

/// Both passes; `false` where there is no form for these sizes, or no such vector unit.
pub(super) fn native(first: &CpuArgs<'_>, second: &mut CpuArgs<'_>) -> bool {
    let (a, b): ([usize; 7], [usize; 7]) = (sizes(first), sizes(second));
    let [width, height, channels, offset, stride, dst_height, taps] = a;
    let fits = [width, dst_height, channels] == [b[0], b[1], b[2]] && taps <= TAPS_MAX;
    if !fits || unit() < Unit::Avx2 {
        return false;
    }
    let rows = Table { data: first.inputs[0], taps };
    // The buffer may be longer than the table.
    let columns = &second.inputs[0][..super::table_bytes(b[5] as u32, b[6] as u32)];
    let Some(across) = Across::new(columns, b[6], width, channels) else { return false };
    if !(0..dst_height).all(|y| rows.weights(y).all(is_narrow)) {
        return false;
    }
    let area = across_area(&b);
    let threads = threads_for(second, 6 * area.count * area.bytes);
    let is_half = across.is_half(width) && rows.is_half(dst_height, height);
    let src = &first.inputs[1][offset..];
    let (len, dst_stride) = (width * channels, area.stride);
    let both =
        Both { src, stride, height, len, rows, across, is_half, dst_stride, row: area.bytes };
    bands(&mut second.outputs[0][area.range()], dst_stride, threads, both);
    true
}

fn is_narrow(weight: i32) -> bool {
    i16::try_from(weight).is_ok()
}

/// First sample and weights of each place.
struct Table<'a> {
    data: &'a [u8],
    taps: usize,
}

impl Table<'_> {
    #[inline(always)]
    fn first(&self, place: usize) -> i32 {
        long(self.data, place * (self.taps + 1)) as i32
    }

    #[inline(always)]
    fn weights(&self, place: usize) -> impl Iterator<Item = i32> {
        (0..self.taps).map(move |i| long(self.data, place * (self.taps + 1) + 1 + i) as i32)
    }

    /// Whether each place is the mean of the two that it stands for.
    fn is_half(&self, places: usize, samples: usize) -> bool {
        let is_mean = |n: usize| self.weights(n).all(|weight| weight == 1 << 13);
        let own = |n: usize| self.first(n) == 2 * n as i32 && is_mean(n);
        self.taps == 2 && 2 * places == samples && (0..places).all(own)
    }
}

/// How a row is weighed across.
struct Across {
    channels: usize,
    /// Where in the row between, which has edges before and after it, each place begins. A sample
    /// from there on for each weight, and eight more, are within it.
    at: Vec<u32>,
    /// For each two weights, those of each place: the first in the lower half.
    pairs: Vec<Vec<i32>>,
    /// Pixels that stand at either end once more.
    edge: usize,
    is_mean: bool,
}

impl Across {
    fn new(data: &[u8], taps: usize, width: usize, channels: usize) -> Option<Self> {
        let places = data.len() / 4 / (taps + 1);
        let table = Table { data, taps };
        let fits = (taps + 2) * channels + 8 <= EDGE;
        if !fits || !(0..places).all(|place| table.weights(place).all(is_narrow)) {
            return None;
        }
        // Further out, all samples are those at the edge.
        let first = |place| table.first(place).clamp(-(taps as i32), width as i32);
        let at = |place| (first(place) * channels as i32 + EDGE as i32) as u32;
        let pair = |k: usize, place: usize| {
            let mut two = table.weights(place).skip(2 * k);
            let [low, high] = [two.next(), two.next()].map(|w| w.unwrap_or(0) & 0xFFFF);
            low | high << 16
        };
        let pairs = (0..taps.div_ceil(2)).map(|k| (0..places).map(|n| pair(k, n)).collect());
        Some(Self {
            channels,
            at: (0..places).map(at).collect(),
            pairs: pairs.collect(),
            edge: taps + 1,
            is_mean: table.is_half(places, 2 * places),
        })
    }

    fn is_half(&self, width: usize) -> bool {
        self.is_mean && 2 * self.at.len() == width && matches!(self.channels, 1 | 3)
    }
}

struct Both<'a> {
    src: &'a [u8],
    stride: usize,
    height: usize,
    /// Samples of a row of the source, and bytes of one of the result.
    len: usize,
    row: usize,
    rows: Table<'a>,
    across: Across,
    is_half: bool,
    dst_stride: usize,
}

impl Both<'_> {
    #[inline(always)]
    fn source(&self, y: usize) -> &[u8] {
        &self.src[y * self.stride..][..self.len]
    }

    /// The mean of two by two.
    #[inline(always)]
    fn halve(&self, y: usize, means: &mut [u8], to: &mut [u8]) {
        let (a, b) = (self.source(2 * y), self.source(2 * y + 1));
        let (n, sum) = (self.across.channels, |a: u8, b: u8| u16::from(a) + u16::from(b));
        let means = &mut means[..self.len - n];
        let right = a[n..].iter().zip(&b[n..]);
        for ((mean, (a, b)), (c, d)) in means.iter_mut().zip(a.iter().zip(b)).zip(right) {
            *mean = ((sum(*a, *b) + sum(*c, *d) + 2) >> 2) as u8;
        }
        if n == 1 {
            to.iter_mut().zip(means.chunks(2)).for_each(|(to, two)| *to = two[0]);
        } else {
            crate::interleave::every_other3(means, to);
        }
    }
}

impl Band for Both<'_> {
    #[inline(always)]
    fn fill(&self, first: usize, band: &mut [u8]) {
        if self.is_half {
            let mut means = vec![0; self.len];
            for (y, to) in band.chunks_mut(self.dst_stride).enumerate() {
                self.halve(first + y, &mut means, &mut to[..self.row]);
            }
            return;
        }
        #[cfg(target_arch = "x86_64")]
        {
            let mut between = Between::new(self.len, 0i16);
            for (y, to) in band.chunks_mut(self.dst_stride).enumerate() {
                let to = &mut to[..self.row];
                // SAFETY: there is such a unit, or `native` would have said that there is no form.
                unsafe { avx2::row(self, first + y, &mut between, to) };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2;
