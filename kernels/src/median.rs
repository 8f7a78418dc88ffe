//! The median of 3 x 3 or 5 x 5 samples; past the edges the last sample is repeated.
//!
//! The native form sorts the samples of each column once, into rows of the least, the next, … of
//! their columns, and then compares these rows, moved across.

use hw::{BufferId, CpuArgs, Grid, Kernel};

use crate::dice::Dice;
use crate::lanes::Between;
use crate::native::{Band, Rows, Unit, bands, pixels, sizes, threads_for, unit};
use crate::plane::Part;
use crate::stem::{
    Entry, Given, Op, Sample, Setting, SettingKind, Stage, Stem, Takes, Values, launch, params,
    portable,
};

pub static STEM: Stem = Stem {
    entries: &[Entry { kernel: &KERNEL, reference, sample }],
    ops: &[Op {
        name: "median",
        about: "The median of a square around each sample",
        inputs: &[Takes::PLANES],
        settings: &[Setting {
            name: "size",
            about: "Samples of a side",
            kind: SettingKind::Choice(&["3", "5"]),
        }],
        plan: Some(median_op),
    }],
};

pub static KERNEL: Kernel = portable(
    "median",
    params!(In src, Out dst; width, height, channels, offset, src_stride, dst_stride, side),
    include_str!("median.cl"),
    native,
    |scalars| {
        let &[width, height, bytes, offset, src_stride, dst_stride, side] = scalars else {
            return None;
        };
        let end = |stride| Part { offset, stride, width, height, bytes }.end();
        ([3, 5].contains(&side) && bytes <= 4).then_some(vec![end(src_stride)?, end(dst_stride)?])
    },
);

fn area(s: &[usize; 7]) -> Rows {
    let [width, height, channels, offset, _, dst_stride, _] = *s;
    Rows::of(offset, dst_stride, width * channels, height)
}

fn reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 7] = sizes(args);
    pixels(args, area(&s), 1, |inputs, s: &[usize; 7], x, y, to| {
        let [width, height, channels, offset, stride, _, side] = *s;
        let near = |i: usize, d: usize, n: usize| (i + d).saturating_sub(side / 2).min(n - 1);
        let mut samples: Vec<u8> = (0..side * side)
            .map(|i| {
                let from_x = near(x / channels, i % side, width) * channels + x % channels;
                inputs[0][offset + near(y, i / side, height) * stride + from_x]
            })
            .collect();
        samples.sort_unstable();
        to[0] = samples[side * side / 2];
    });
}

fn native(args: &mut CpuArgs<'_>) {
    let s: [usize; 7] = sizes(args);
    let area = area(&s);
    let weight = if s[6] == 3 { 6 } else { 40 };
    let threads = threads_for(args, area.count * area.bytes * weight);
    let (src, dst) = (args.inputs[0], &mut args.outputs[0][area.range()]);
    bands(dst, area.stride, threads, Medians { src, s });
}

/// Samples that are compared at once.
const BLOCK: usize = 64;
type Block = [u8; BLOCK];

struct Medians<'a> {
    src: &'a [u8],
    s: [usize; 7],
}

impl Band for Medians<'_> {
    #[inline(always)]
    fn fill(&self, first: usize, band: &mut [u8]) {
        #[cfg(target_arch = "x86_64")]
        if unit() >= Unit::Avx2 {
            // SAFETY: the feature was just found on this machine.
            return unsafe { avx2::fill(self, first, band) };
        }
        if self.s[6] == 3 {
            self.rows::<3>(first, band, sort3, middle_of_9);
        } else {
            self.rows::<5>(first, band, sort5, middle_of_25);
        }
    }
}

impl<'a> Medians<'a> {
    /// A row of the source; past the last row that one.
    #[inline(always)]
    fn near(&self, y: usize) -> &'a [u8] {
        let [width, height, channels, offset, stride, ..] = self.s;
        &self.src[offset + y.min(height - 1) * stride..][..width * channels]
    }

    /// `sort` sorts a column; `middle` finds the median of `SIDE` sorted columns, given as `SIDE`
    /// rows.
    #[inline(always)]
    fn rows<const SIDE: usize>(
        &self,
        first: usize,
        band: &mut [u8],
        sort: impl Fn([u8; SIDE]) -> [u8; SIDE],
        middle: impl Fn([[u8; SIDE]; SIDE]) -> u8,
    ) {
        let [width, _, channels, _, _, dst_stride, _] = self.s;
        let len = width * channels;
        let mut sorted: [Between<u8>; SIDE] = std::array::from_fn(|_| Between::new(len, 0));
        for (y, to) in band.chunks_mut(dst_stride).enumerate() {
            let rows: [&[u8]; SIDE] =
                std::array::from_fn(|n| self.near((first + y + n).saturating_sub(SIDE / 2)));
            sort_columns(rows, &mut sorted, &sort);
            for row in &mut sorted {
                repeat_ends(row, len, channels, SIDE / 2);
            }
            for (number, to) in to[..len].chunks_mut(BLOCK).enumerate() {
                let windows: [[&Block; SIDE]; SIDE] = std::array::from_fn(|row| {
                    std::array::from_fn(|n| {
                        let moved = n as isize - (SIDE / 2) as isize;
                        let at = (number * BLOCK) as isize + moved * channels as isize;
                        sorted[row].from(at, BLOCK).first_chunk().expect("a block")
                    })
                });
                let mut found = [0u8; BLOCK];
                for (i, found) in found.iter_mut().enumerate() {
                    *found = middle(windows.map(|row| row.map(|block| block[i])));
                }
                to.copy_from_slice(&found[..to.len()]);
            }
        }
    }
}

/// Rows of the least, the next, … of each column.
#[inline(always)]
fn sort_columns<const SIDE: usize>(
    rows: [&[u8]; SIDE],
    sorted: &mut [Between<u8>; SIDE],
    sort: impl Fn([u8; SIDE]) -> [u8; SIDE],
) {
    let len = rows[0].len();
    for first in (0..len).step_by(BLOCK) {
        let mut ends = [[0; BLOCK]; SIDE];
        let mut ends = ends.iter_mut();
        let columns = rows.map(|row| block(&row[first..], ends.next().expect("one each")));
        let mut blocks = [[0; BLOCK]; SIDE];
        for i in 0..BLOCK {
            let column = sort(std::array::from_fn(|n| columns[n][i]));
            (0..SIDE).for_each(|n| blocks[n][i] = column[n]);
        }
        for (row, block) in sorted.iter_mut().zip(&blocks) {
            let room = BLOCK.min(len - first);
            row.row()[first..][..room].copy_from_slice(&block[..room]);
        }
    }
}

/// The first samples of a row; where it is shorter, `end` with what there is.
#[inline(always)]
fn block<'a>(row: &'a [u8], end: &'a mut Block) -> &'a Block {
    match row.first_chunk() {
        Some(block) => block,
        None => {
            end[..row.len()].copy_from_slice(row);
            end
        }
    }
}

/// The first and the last pixel stand `radius` times more past the ends.
#[inline(always)]
fn repeat_ends(row: &mut Between<u8>, len: usize, channels: usize, radius: usize) {
    for at in 0..radius * channels {
        let (first, last) = (row.row()[at % channels], row.row()[len - channels + at % channels]);
        row.set(at as isize - (radius * channels) as isize, first);
        row.set((len + at) as isize, last);
    }
}

/// What medians are found among: a sample, or a register of them.
trait Ordered: Copy {
    fn least(self, other: Self) -> Self;
    fn largest(self, other: Self) -> Self;
}

impl Ordered for u8 {
    #[inline(always)]
    fn least(self, other: u8) -> u8 {
        self.min(other)
    }
    #[inline(always)]
    fn largest(self, other: u8) -> u8 {
        self.max(other)
    }
}

#[inline(always)]
fn sort2<T: Ordered>(a: T, b: T) -> (T, T) {
    (a.least(b), a.largest(b))
}

#[inline(always)]
fn middle_of_3<T: Ordered>(a: T, b: T, c: T) -> T {
    let (a, b) = sort2(a, b);
    a.largest(b.least(c))
}

#[inline(always)]
fn sort3<T: Ordered>([a, b, c]: [T; 3]) -> [T; 3] {
    let (b, c) = sort2(b, c);
    put3(a, [b, c])
}

/// Two that are sorted, and one more.
#[inline(always)]
fn put3<T: Ordered>(more: T, [a, b]: [T; 2]) -> [T; 3] {
    let (a, more) = sort2(a, more);
    let (b, c) = sort2(b, more);
    [a, b, c]
}

#[inline(always)]
fn sort4<T: Ordered>([a, b, c, d]: [T; 4]) -> [T; 4] {
    let ((a, b), (c, d)) = (sort2(a, b), sort2(c, d));
    let ((a, c), (b, d)) = (sort2(a, c), sort2(b, d));
    let (b, c) = sort2(b, c);
    [a, b, c, d]
}

/// Four that are sorted, and one more.
#[inline(always)]
fn put5<T: Ordered>(more: T, [a, b, c, d]: [T; 4]) -> [T; 5] {
    let (a, more) = sort2(a, more);
    let (b, more) = sort2(b, more);
    let (c, more) = sort2(c, more);
    let (d, e) = sort2(d, more);
    [a, b, c, d, e]
}

/// The second largest of five, and the largest.
#[inline(always)]
fn largest_two<T: Ordered>([a, b, c, d, e]: [T; 5]) -> (T, T) {
    let ((a, b), (c, d)) = (sort2(a, b), sort2(c, d));
    let (b, d) = sort2(b, d);
    let (e, largest) = sort2(d, e);
    (a.largest(c).largest(b).largest(e), largest)
}

/// The least of five, and the next.
#[inline(always)]
fn least_two<T: Ordered>([a, b, c, d, e]: [T; 5]) -> (T, T) {
    let ((a, b), (c, d)) = (sort2(a, b), sort2(c, d));
    let (a, c) = sort2(a, c);
    let (least, e) = sort2(a, e);
    (least, b.least(d).least(c).least(e))
}

#[inline(always)]
fn sort5<T: Ordered>([a, b, c, d, e]: [T; 5]) -> [T; 5] {
    let ((a, d), (b, e)) = (sort2(a, d), sort2(b, e));
    let ((a, c), (b, d)) = (sort2(a, c), sort2(b, d));
    let ((a, b), (c, e)) = (sort2(a, b), sort2(c, e));
    let ((b, c), (d, e)) = (sort2(b, c), sort2(d, e));
    let (c, d) = sort2(c, d);
    [a, b, c, d, e]
}

/// The largest of the least, the middle of the middle ones, and the least of the largest have the
/// median between them.
#[inline(always)]
fn middle_of_9<T: Ordered>([[a, b, c], [d, e, f], [g, h, i]]: [[T; 3]; 3]) -> T {
    let (least, largest) = (a.largest(b).largest(c), g.least(h).least(i));
    middle_of_3(least, middle_of_3(d, e, f), largest)
}

/// With the rows sorted as well, sample `(i, j)` is at least as large as all above and to the left
/// of it: only thirteen in a band from corner to corner can be the median. Four of them are below
/// all others and four above all others; the least of the first and the largest of the last go,
/// one is added, and so on until three are left.
#[inline(always)]
fn middle_of_25<T: Ordered>([a, b, c, d, e]: [[T; 5]; 5]) -> T {
    let (a4, a5) = largest_two(a);
    let [_, _, b3, b4, b5] = sort5(b);
    let [_, c2, c3, c4, _] = sort5(c);
    let [d1, d2, d3, _, _] = sort5(d);
    let (e1, e2) = least_two(e);
    let (least, a) = sort2(a4, b3);
    let (least, b) = sort2(least, c2);
    let (_, c) = sort2(least, d1);
    let (d, largest) = sort2(b5, c4);
    let (e, largest) = sort2(largest, d3);
    let (f, _) = sort2(largest, e2);
    let [a, b, c, d, e] = inner_of_7([a, b, c, d, e, f, a5]);
    let [a, b, c, d] = inner_of_6([a, b, c, d, e, b4]);
    let [a, b, c] = inner_of_5([a, b, c, d, c3]);
    let [a, b] = inner_of_4([a, b, c, d2]);
    middle_of_3(a, b, e1)
}

/// All but the least and the largest.
#[inline(always)]
fn inner_of_4<T: Ordered>([a, b, c, d]: [T; 4]) -> [T; 2] {
    let ((a, b), (c, d)) = (sort2(a, b), sort2(c, d));
    [a.largest(c), b.least(d)]
}

#[inline(always)]
fn inner_of_5<T: Ordered>([a, b, c, d, e]: [T; 5]) -> [T; 3] {
    let ((a, b), (c, d)) = (sort2(a, b), sort2(c, d));
    let ((least, c), (b, largest)) = (sort2(a, c), sort2(b, d));
    let e = sort2(least, e).1;
    [b, c, sort2(e, largest).0]
}

#[inline(always)]
fn inner_of_6<T: Ordered>([a, b, c, d, e, f]: [T; 6]) -> [T; 4] {
    let ((a, b), (c, d), (e, f)) = (sort2(a, b), sort2(c, d), sort2(e, f));
    let ((least, c), (b, largest)) = (sort2(a, c), sort2(b, d));
    [b, c, sort2(least, e).1, sort2(largest, f).0]
}

#[inline(always)]
fn inner_of_7<T: Ordered>([a, b, c, d, e, f, g]: [T; 7]) -> [T; 5] {
    let ((a, b), (c, d), (e, f)) = (sort2(a, b), sort2(c, d), sort2(e, f));
    let ((least, c), (b, largest)) = (sort2(a, c), sort2(b, d));
    let ((least, e), (f, largest)) = (sort2(least, e), sort2(f, largest));
    let g = sort2(least, g).1;
    [b, c, e, f, sort2(g, largest).0]
}

fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let bytes = dice.pick(&[1, 3, 2]);
    let (stride, dst_stride) = (width * bytes + dice.below(9), width * bytes + dice.below(9));
    let offset = dice.below(70);
    let scalars = [width, height, bytes, offset, stride, dst_stride, dice.pick(&[5, 3])];
    let rows = Grid::Rows(height as usize);
    let command = launch(&KERNEL, &[BufferId(0), BufferId(1)], &scalars, rows);
    Sample { command, inputs: vec![dice.bytes((offset + stride * height) as usize, width)] }
}

fn median_op(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    let from = given[0].picture()?;
    let to = stage.picture(from.shape)?;
    let side = if values.text("size") == "5" { 5 } else { 3 };
    for Part { offset, stride, width, height, bytes } in from.shape.planes() {
        let scalars = [width, height, bytes, offset, stride, stride, side];
        let rows = Grid::Rows(height as usize);
        stage.run(launch(&KERNEL, &[from.buffer, to.buffer], &scalars, rows));
    }
    Ok(Given::Picture(to))
}

#[cfg(target_arch = "x86_64")]
mod avx2;

#[cfg(test)]
mod tests;
