//! From RGB: to gray, and to planes of luma and of chroma of half the sides, in one pass.

use hw::{BufferId, Command, CpuArgs, Grid, Kernel};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::{Yuv, rgb_factors, yuv};
use crate::dice::Dice;
use crate::interleave::split3;
use crate::native::{Job, Rows, Unit, pixels, row, rows, signed, sizes, threads_for, unit, wide};
use crate::plane::Part;
use crate::shape::{PixelFormat, Range, Shape};
use crate::stem::{Sample, launch, params, portable};

pub static RGB_GRAY: Kernel = portable(
    "rgb_gray",
    params!(In src, Out dst; width, height, src_stride, src_step, red_at, dst_stride),
    include_str!("../convert.cl"),
    |args| rows(args, gray_rows(&sizes(args)), 6, row!(6, gray_row)),
    |scalars| {
        let &[width, height, stride, step, red_at, dst_stride] = scalars else { return None };
        let src = source(width, height, stride, step, red_at)?;
        let dst = Part { offset: 0, stride: dst_stride, width, height, bytes: 1 };
        Some(vec![src, dst.end()?])
    },
);

pub static RGB_YUV: Kernel = portable(
    "rgb_yuv",
    params!(In src, Out dst; width, height, src_stride, src_step, red_at, luma_stride, cb_at,
        cr_at, chroma_stride, chroma_step, yr, yg, yb, ur, ug, ub, vr, vg, vb, black),
    include_str!("../convert.cl"),
    yuv_native,
    yuv_bytes,
);

/// What OpenCV makes gray of, with 15 fractional bits.
const GRAY: [i32; 3] = [9798, 19235, 3735];

/// Bytes of a picture of RGB.
fn source(width: u32, height: u32, stride: u32, step: u32, red_at: u32) -> Option<usize> {
    if ![0, 2].contains(&red_at) || !(3..=4).contains(&step) {
        return None;
    }
    Part { offset: 0, stride, width, height, bytes: step }.end()
}

fn gray_rows(s: &[usize; 6]) -> Rows {
    let [width, height, .., dst_stride] = *s;
    Rows::of(0, dst_stride, width, height)
}

pub(super) fn gray_reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 6] = sizes(args);
    pixels(args, gray_rows(&s), 1, |inputs, s: &[usize; 6], x, y, to| {
        let [_, _, stride, step, red_at, _] = *s;
        let pixel = &inputs[0][y * stride + x * step..];
        let [red, green, blue] = [pixel[red_at], pixel[1], pixel[2 - red_at]].map(i32::from);
        let sum = GRAY[0] * red + GRAY[1] * green + GRAY[2] * blue;
        to[0] = ((sum + (1 << 14)) >> 15) as u8;
    });
}

#[inline(always)]
fn gray_row(inputs: &[&[u8]], s: &[usize; 6], y: usize, to: &mut [u8]) {
    let [_, _, stride, step, red_at, _] = *s;
    let from = &inputs[0][y * stride..];
    #[cfg(target_arch = "x86_64")]
    if unit() >= Unit::Avx2 {
        // SAFETY: the feature was just found on this machine.
        return unsafe { avx2::gray_row(from, step, red_at, to) };
    }
    for (number, to) in to.chunks_mut(BLOCK).enumerate() {
        let planes = split(&from[number * BLOCK * step..], step, red_at, to.len());
        for (i, to) in to.iter_mut().enumerate() {
            let product = |k: usize| GRAY[k] * i32::from(planes[k][i]);
            *to = ((product(0) + product(1) + product(2) + (1 << 14)) >> 15) as u8;
        }
    }
}

/// Pixels of a row that are converted at once.
const BLOCK: usize = 32;

/// Red, green and blue of so many pixels.
#[inline(always)]
fn split(from: &[u8], step: usize, red_at: usize, count: usize) -> [[u8; BLOCK]; 3] {
    let mut planes = [[0u8; BLOCK]; 3];
    let [a, b, c] = &mut planes;
    if step == 3 {
        split3(&from[..3 * count], &mut a[..count], &mut b[..count], &mut c[..count]);
    } else {
        for (i, pixel) in from.chunks(4).take(count).enumerate() {
            (a[i], b[i], c[i]) = (pixel[0], pixel[1], pixel[2]);
        }
    }
    if red_at != 0 {
        planes.swap(0, 2);
    }
    planes
}

/// Red, green and blue in luma, Cb and Cr: two shifts of 20 fractional bits for the mean of four.
fn factors(s: &[usize; 20]) -> [[i32; 3]; 3] {
    std::array::from_fn(|i| std::array::from_fn(|k| signed(s[10 + 3 * i + k])))
}

pub(super) fn yuv_reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 20] = sizes(args);
    let [width, height, stride, step, red_at, luma_stride, cb, cr, chroma_stride, chroma_step, ..] =
        s;
    let [luma, chroma @ ..] = factors(&s);
    let byte = |factors: [i32; 3], colour: [i64; 3], offset: i64, shift: usize| {
        let sum: i64 = (0..3).map(|k| i64::from(factors[k]) * colour[k]).sum();
        ((sum + (offset << shift) + (1 << (shift - 1))) >> shift).clamp(0, 255) as u8
    };
    for (x, y) in (0..height.div_ceil(2)).flat_map(|y| (0..width.div_ceil(2)).map(move |x| (x, y)))
    {
        let mut sums = [0; 3];
        for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            let (px, py) = ((2 * x + dx).min(width - 1), (2 * y + dy).min(height - 1));
            let pixel = &args.inputs[0][py * stride + px * step..];
            let colour = [pixel[red_at], pixel[1], pixel[2 - red_at]].map(i64::from);
            args.outputs[0][py * luma_stride + px] = byte(luma, colour, s[19] as i64, 20);
            (0..3).for_each(|k| sums[k] += colour[k]);
        }
        let at = y * chroma_stride + x * chroma_step;
        args.outputs[0][cb + at] = byte(chroma[0], sums, 128, 22);
        args.outputs[0][cr + at] = byte(chroma[1], sums, 128, 22);
    }
}

/// The planes, of which each thread fills a strip.
fn yuv_native(args: &mut CpuArgs<'_>) {
    let s: [usize; 20] = sizes(args);
    let [width, height, stride, step, red_at, luma_stride, cb, cr, chroma_stride, chroma_step, ..] =
        s;
    let [luma, mut first, mut second] = factors(&s);
    let (wide_half, high_half) = (width.div_ceil(2), height.div_ceil(2));
    let threads = threads_for(args, 6 * 2 * width * height);
    let band = high_half.div_ceil(threads);
    let (lumas, chroma) = args.outputs[0].split_at_mut(cb.min(cr));
    if cr < cb {
        (first, second) = (second, first);
    }
    let (firsts, seconds) = match chroma_step {
        1 => chroma.split_at_mut(cb.max(cr) - cb.min(cr)),
        _ => (chroma, &mut [][..]),
    };
    let plane_bytes = (high_half - 1) * chroma_stride + chroma_step * wide_half;
    let lumas = &mut lumas[..(height - 1) * luma_stride + width];
    let seconds = if chroma_step == 1 { &mut seconds[..plane_bytes] } else { seconds };
    let mut seconds = seconds.chunks_mut(band * chroma_stride);
    let firsts = firsts[..plane_bytes].chunks_mut(band * chroma_stride);
    let lumas = lumas.chunks_mut(2 * band * luma_stride);
    let strips: Vec<Strip<'_>> = lumas
        .zip(firsts)
        .enumerate()
        .map(|(number, (luma, chroma))| Strip {
            src: &args.inputs[0][2 * number * band * stride..],
            height: height - 2 * number * band,
            luma,
            chroma: [chroma, seconds.next().unwrap_or_default()],
        })
        .collect();
    let weights = Weights { luma, chroma: [first, second], black: s[19] as i32 };
    let layout = Layout { width, stride, step, red_at, luma_stride, chroma_stride, chroma_step };
    let fill = |strip: Strip<'_>| wide(Fill { strip, weights: &weights, layout: &layout });
    match threads {
        1 => strips.into_iter().for_each(fill),
        _ => strips.into_par_iter().for_each(fill),
    }
}

/// Factors of red, green and blue, with 20 fractional bits, and luma of black.
struct Weights {
    luma: [i32; 3],
    chroma: [[i32; 3]; 2],
    black: i32,
}

struct Layout {
    width: usize,
    stride: usize,
    step: usize,
    red_at: usize,
    luma_stride: usize,
    chroma_stride: usize,
    /// 1 for two planes, 2 for pairs in the first.
    chroma_step: usize,
}

/// Rows that one thread converts; the first is even.
struct Strip<'a> {
    /// From the first row on; the rows that there are to the end of the picture.
    src: &'a [u8],
    height: usize,
    luma: &'a mut [u8],
    chroma: [&'a mut [u8]; 2],
}

struct Fill<'a> {
    strip: Strip<'a>,
    weights: &'a Weights,
    layout: &'a Layout,
}

impl Job for Fill<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { mut strip, weights, layout } = self;
        let rows = strip.luma.len().div_ceil(layout.luma_stride);
        for y in (0..rows).step_by(2) {
            #[cfg(target_arch = "x86_64")]
            if unit() >= Unit::Avx2 {
                // SAFETY: the feature was just found on this machine.
                unsafe { avx2::rows(&mut strip, weights, layout, y) };
                continue;
            }
            two_rows(&mut strip, layout, y, |upper, lower, count| {
                block(upper, lower, count, weights, layout)
            });
        }
    }
}

/// What becomes of two rows of a block.
struct Made {
    luma: [[u8; BLOCK]; 2],
    /// The first component, then the second; or pairs of them.
    chroma: [u8; BLOCK],
}

/// Rows `y` and `y + 1` of a strip; the last row of an odd number of them counts twice. `block`
/// is given the bytes from its pixels on, and their number.
#[inline(always)]
fn two_rows(
    strip: &mut Strip<'_>,
    layout: &Layout,
    y: usize,
    mut block: impl FnMut(&[u8], &[u8], usize) -> Made,
) {
    let Layout { width, stride, step, luma_stride, chroma_stride, chroma_step, .. } = *layout;
    let has_lower = y + 1 < strip.height;
    let upper = &strip.src[y * stride..];
    let lower = if has_lower { &strip.src[(y + 1) * stride..] } else { upper };
    let (luma, luma_below) =
        strip.luma[y * luma_stride..].split_at_mut(if has_lower { luma_stride } else { width });
    let [first, second] = &mut strip.chroma;
    let first = &mut first[y / 2 * chroma_stride..];
    let second = if chroma_step == 1 { &mut second[y / 2 * chroma_stride..] } else { second };
    for x in (0..width).step_by(BLOCK) {
        let count = BLOCK.min(width - x);
        let made = block(&upper[x * step..], &lower[x * step..], count);
        put(&mut luma[x..][..count], &made.luma[0]);
        if has_lower {
            put(&mut luma_below[x..][..count], &made.luma[1]);
        }
        let half = count.div_ceil(2);
        if chroma_step == 1 {
            put(&mut first[x / 2..][..half], &made.chroma[..BLOCK / 2]);
            put(&mut second[x / 2..][..half], &made.chroma[BLOCK / 2..]);
        } else {
            put(&mut first[x..][..2 * half], &made.chroma);
        }
    }
}

/// As many as there is room for; in one piece where that is all.
#[inline(always)]
fn put(to: &mut [u8], made: &[u8]) {
    if to.len() == made.len() {
        to.copy_from_slice(made);
    } else {
        to.copy_from_slice(&made[..to.len()]);
    }
}

#[inline(always)]
fn block(upper: &[u8], lower: &[u8], count: usize, weights: &Weights, layout: &Layout) -> Made {
    let planes = [upper, lower].map(|row| {
        let mut planes = split(row, layout.step, layout.red_at, count);
        // Past an odd edge the last pixel counts twice.
        if count % 2 == 1 {
            planes.iter_mut().for_each(|plane| plane[count] = plane[count - 1]);
        }
        planes
    });
    let luma = planes.map(|[red, green, blue]| {
        let colours = [red, green, blue].map(|plane| plane.map(u16::from));
        weigh(&colours, weights.luma, weights.black, 20)
    });
    let sums: [[u16; BLOCK / 2]; 3] = std::array::from_fn(|k| {
        let [a, b] = [&planes[0][k], &planes[1][k]];
        let pair =
            |plane: &[u8; BLOCK], i: usize| u16::from(plane[2 * i]) + u16::from(plane[2 * i + 1]);
        std::array::from_fn(|i| pair(a, i) + pair(b, i))
    });
    let parts: [[u8; BLOCK / 2]; 2] = weights.chroma.map(|factors| weigh(&sums, factors, 128, 22));
    let chroma = std::array::from_fn(|i| match layout.chroma_step {
        1 => parts[i / (BLOCK / 2)][i % (BLOCK / 2)],
        _ => parts[i % 2][i / 2],
    });
    Made { luma, chroma }
}

#[inline(always)]
fn weigh<const N: usize>(
    colours: &[[u16; N]; 3],
    factors: [i32; 3],
    offset: i32,
    shift: u32,
) -> [u8; N] {
    let round = (offset << shift) + (1 << (shift - 1));
    std::array::from_fn(|i| {
        let product = |k: usize| factors[k] * i32::from(colours[k][i]);
        ((product(0) + product(1) + product(2) + round) >> shift).clamp(0, 255) as u8
    })
}

fn yuv_bytes(scalars: &[u32]) -> Option<Vec<usize>> {
    let &[width, height, stride, step, red_at, luma_stride, cb, cr, ref rest @ ..] = scalars else {
        return None;
    };
    let &[chroma_stride, chroma_step, ref factors @ .., black] = rest else { return None };
    let src = source(width, height, stride, step, red_at)?;
    let luma = Part { offset: 0, stride: luma_stride, width, height, bytes: 1 }.end()?;
    let chroma = |offset: u32| Part {
        offset,
        stride: chroma_stride,
        width: width.div_ceil(2),
        height: height.div_ceil(2),
        bytes: chroma_step,
    };
    let (first, second) = (cb.min(cr), cb.max(cr));
    let (first_end, end) = (chroma(first).end()?, chroma(second).end()?);
    let (fits, end) = match chroma_step {
        1 => (first_end <= second as usize, end),
        2 => (second == first.checked_add(1)?, first_end),
        _ => (false, 0),
    };
    // Sums of four samples fit 32 bits with such factors.
    let factors: Vec<i64> = factors.iter().map(|v| i64::from(*v as i32).abs()).collect();
    let narrow = factors.chunks(3).all(|three| three.iter().sum::<i64>() <= (1 << 20) + 8);
    (fits && narrow && luma <= first as usize && black <= 16).then(|| vec![src, end])
}

pub(super) fn gray_command(
    [src, dst]: [BufferId; 2],
    [width, height]: [u32; 2],
    (step, red_at): (u32, u32),
    [gap, dst_gap]: [u32; 2],
) -> Command {
    let scalars = [width, height, width * step + gap, step, red_at, width + dst_gap];
    launch(&RGB_GRAY, &[src, dst], &scalars, Grid::Rows(height as usize))
}

/// Into a format of chroma of half the sides, whose planes lie as `made` says.
pub(super) fn yuv_command(
    [src, dst]: [BufferId; 2],
    to: Shape,
    made: Yuv,
    (step, red_at): (u32, u32),
    is_709: bool,
    gap: u32,
) -> Command {
    let Shape { width, height, .. } = to;
    let mut scalars = vec![width, height, width * step + gap, step, red_at, made.luma_stride];
    scalars.extend([made.cb, made.cr, made.stride, made.step]);
    scalars.extend(rgb_factors(is_709, to.range).as_flattened().iter().map(|v| *v as u32));
    scalars.push(if to.range == Range::Limited { 16 } else { 0 });
    launch(&RGB_YUV, &[src, dst], &scalars, Grid::Rows(height.div_ceil(2) as usize))
}

const LAYOUTS: [(u32, u32); 3] = [(3, 0), (3, 2), (4, 0)];

pub(super) fn gray_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let layout = dice.pick(&LAYOUTS);
    let gaps = [dice.below(9), dice.below(9)];
    let command = gray_command([0, 1].map(BufferId), [width, height], layout, gaps);
    let bytes = (width * layout.0 + gaps[0]) * height;
    Sample { command, inputs: vec![dice.bytes(bytes as usize, width)] }
}

pub(super) fn yuv_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let layout = dice.pick(&LAYOUTS);
    let format = dice.pick(&[PixelFormat::I420, PixelFormat::Nv12, PixelFormat::Nv21]);
    let range = dice.pick(&[Range::Limited, Range::Full]);
    let to = Shape { range, ..Shape::full(width, height, format) };
    let gap = dice.below(9);
    let is_709 = dice.below(2) == 1;
    let (luma_gap, chroma_gap, between) = (dice.below(9), dice.below(9), dice.below(9));
    let mut made = yuv(to).expect("a format of chroma");
    let (moved, rows) = (luma_gap * height + between, height.div_ceil(2));
    made.luma_stride += luma_gap;
    made.stride += chroma_gap;
    made.cb += moved;
    made.cr += moved + if made.step == 1 { chroma_gap * rows } else { 0 };
    let command = yuv_command([0, 1].map(BufferId), to, made, layout, is_709, gap);
    let bytes = (width * layout.0 + gap) * height;
    Sample { command, inputs: vec![dice.bytes(bytes as usize, width)] }
}

#[cfg(target_arch = "x86_64")]
mod avx2;
