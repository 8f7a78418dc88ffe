//! The median of 3 x 3 or 5 x 5 samples; past the edges the last sample is repeated.

use hw::{BufferId, CpuArgs, Grid, Kernel};

use crate::dice::Dice;
use crate::native::{Rows, pixels, row, rows, sizes};
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
        plan: Some(median),
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
    rows(args, area(&s), if s[6] == 3 { 6 } else { 40 }, row!(7, row));
}

const CHUNK: usize = 64;

#[inline(always)]
fn row(inputs: &[&[u8]], s: &[usize; 7], y: usize, to: &mut [u8]) {
    let [width, height, channels, offset, stride, _, side] = *s;
    let (len, radius) = (width * channels, side / 2);
    let padded_len = len + 2 * radius * channels + CHUNK;
    let mut padded = vec![0u8; padded_len * side];
    for (dy, row) in padded.chunks_exact_mut(padded_len).enumerate() {
        let from_y = (y + dy).saturating_sub(radius).min(height - 1);
        let from = &inputs[0][offset + from_y * stride..][..len];
        row[radius * channels..][..len].copy_from_slice(from);
        for i in 0..radius {
            row[i * channels..][..channels].copy_from_slice(&from[..channels]);
            let end = (radius + width + i) * channels;
            row[end..][..channels].copy_from_slice(&from[len - channels..]);
        }
    }
    for (number, to) in to.chunks_mut(CHUNK).enumerate() {
        let window = |i: usize| -> &[u8] {
            let at = i / side * padded_len + number * CHUNK + i % side * channels;
            &padded[at..][..CHUNK]
        };
        let found = if side == 3 { median9(window) } else { median25(window) };
        to.copy_from_slice(&found[..to.len()]);
    }
}

type Lanes = [u8; CHUNK];

#[inline(always)]
fn lanes(from: &[u8]) -> Lanes {
    std::array::from_fn(|i| from[i])
}

#[inline(always)]
fn least(a: &Lanes, b: &Lanes) -> Lanes {
    std::array::from_fn(|i| a[i].min(b[i]))
}

#[inline(always)]
fn most(a: &Lanes, b: &Lanes) -> Lanes {
    std::array::from_fn(|i| a[i].max(b[i]))
}

#[inline(always)]
fn middle(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
    most(&least(a, b), &least(&most(a, b), c))
}

/// Sorts each column of three; the median is that of the largest of the least, the middle of the
/// middle ones, and the least of the largest.
#[inline(always)]
fn median9<'a>(window: impl Fn(usize) -> &'a [u8]) -> Lanes {
    let column = |x: usize| {
        let [a, b, c] = [0, 3, 6].map(|row| lanes(window(row + x)));
        let (low, high) = (least(&a, &b), most(&a, &b));
        (least(&low, &c), middle(&a, &b, &c), most(&high, &c))
    };
    let (l0, m0, h0) = column(0);
    let (l1, m1, h1) = column(1);
    let (l2, m2, h2) = column(2);
    let low = most(&most(&l0, &l1), &l2);
    let high = least(&least(&h0, &h1), &h2);
    middle(&low, &middle(&m0, &m1, &m2), &high)
}

/// Keeps the samples that can still be the median: of 14 the least and the largest cannot, and
/// each further sample makes two more impossible.
#[inline(always)]
fn median25<'a>(window: impl Fn(usize) -> &'a [u8]) -> Lanes {
    let mut kept = [[0u8; CHUNK]; 14];
    for (i, kept) in kept.iter_mut().enumerate() {
        *kept = lanes(window(i));
    }
    let mut count = 14;
    for next in 14..26 {
        ends_apart(&mut kept[..count]);
        if next == 25 {
            break;
        }
        // The first is the least and the last the largest: both go, one place is filled again.
        kept[0] = lanes(window(next));
        count -= 1;
    }
    kept[1]
}

/// Moves the least of some samples to the front and the largest to the end.
#[inline(always)]
fn ends_apart(kept: &mut [Lanes]) {
    let count = kept.len();
    for i in 0..count / 2 {
        sort_pair(kept, i, count - 1 - i);
    }
    for i in 1..count.div_ceil(2) {
        sort_pair(kept, 0, i);
    }
    for i in count / 2..count - 1 {
        sort_pair(kept, i, count - 1);
    }
}

#[inline(always)]
fn sort_pair(kept: &mut [Lanes], a: usize, b: usize) {
    let (low, high) = (least(&kept[a], &kept[b]), most(&kept[a], &kept[b]));
    (kept[a], kept[b]) = (low, high);
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

fn median(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
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
