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

const CHUNK: usize = 32;

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
        let window = |i: usize| {
            let at = i / side * padded_len + number * CHUNK + i % side * channels;
            padded[at..].first_chunk::<CHUNK>().expect("rows are padded to whole chunks")
        };
        let mut found = [0u8; CHUNK];
        if side == 3 {
            median9(&std::array::from_fn(window), &mut found);
        } else {
            median25(&std::array::from_fn(window), &mut found);
        }
        to.copy_from_slice(&found[..to.len()]);
    }
}

/// Samples of one place of the square, for as many results.
type Lanes = [u8; CHUNK];

#[inline(always)]
fn middle(a: u8, b: u8, c: u8) -> u8 {
    a.min(b).max(a.max(b).min(c))
}

/// Sorts each column of three; the median is that of the largest of the least, the middle of the
/// middle ones, and the least of the largest. The loop over the lanes becomes vectors.
#[inline(always)]
fn median9(window: &[&Lanes; 9], to: &mut Lanes) {
    for (lane, to) in to.iter_mut().enumerate() {
        let column = |x: usize| {
            let [a, b, c] = [window[x][lane], window[x + 3][lane], window[x + 6][lane]];
            (a.min(b).min(c), middle(a, b, c), a.max(b).max(c))
        };
        let ((l0, m0, h0), (l1, m1, h1), (l2, m2, h2)) = (column(0), column(1), column(2));
        *to = middle(l0.max(l1).max(l2), middle(m0, m1, m2), h0.min(h1).min(h2));
    }
}

/// Keeps the samples that can still be the median: of 14 the least and the largest cannot, and
/// each further sample makes two more impossible.
#[inline(always)]
fn median25(window: &[&Lanes; 25], to: &mut Lanes) {
    for (lane, to) in to.iter_mut().enumerate() {
        let sample = |i: usize| window[i][lane];
        let mut kept: [u8; 14] = std::array::from_fn(sample);
        next::<14>(&mut kept, sample(14));
        next::<13>(&mut kept, sample(15));
        next::<12>(&mut kept, sample(16));
        next::<11>(&mut kept, sample(17));
        next::<10>(&mut kept, sample(18));
        next::<9>(&mut kept, sample(19));
        next::<8>(&mut kept, sample(20));
        next::<7>(&mut kept, sample(21));
        next::<6>(&mut kept, sample(22));
        next::<5>(&mut kept, sample(23));
        next::<4>(&mut kept, sample(24));
        *to = middle(kept[0], kept[1], kept[2]);
    }
}

/// Moves the largest of the first `COUNT` to their end, where it is forgotten, and puts the next
/// sample in the place of the least.
#[inline(always)]
fn next<const COUNT: usize>(kept: &mut [u8; 14], sample: u8) {
    for i in 0..COUNT / 2 {
        sort(kept, i, COUNT - 1 - i);
    }
    for i in 1..COUNT.div_ceil(2) {
        sort(kept, 0, i);
    }
    for i in COUNT / 2..COUNT - 1 {
        sort(kept, i, COUNT - 1);
    }
    kept[0] = sample;
}

#[inline(always)]
fn sort(kept: &mut [u8; 14], a: usize, b: usize) {
    (kept[a], kept[b]) = (kept[a].min(kept[b]), kept[a].max(kept[b]));
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
