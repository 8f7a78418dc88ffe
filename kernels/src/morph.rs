//! Erosion and dilation by a square: the least or the largest sample around each one. Samples
//! outside the picture do not count.

use hw::{BufferId, CpuArgs, Grid, Kernel};

use crate::blur::odd;
use crate::dice::Dice;
use crate::lanes::{Between, Largest, Least, fold};
use crate::native::{Band, Rows, bands, pixels, row, rows, sizes, threads_for};
use crate::plane::Part;
use crate::stem::{
    Entry, Given, Op, Picture, Sample, Setting, SettingKind, Stage, Stem, Takes, Values, after,
    launch, pair, params, portable,
};

pub static STEM: Stem = Stem {
    entries: &[
        Entry { kernel: &ACROSS, reference: across_reference, sample: across_sample },
        Entry { kernel: &DOWN, reference: down_reference, sample: down_sample },
    ],
    ops: &[
        Op {
            name: "erode",
            about: "The least sample of a square around each one: white areas shrink",
            inputs: &[Takes::GRAY],
            settings: &[SIZE],
            plan: Some(|stage, given, values| morph(stage, given, values, &[false])),
        },
        Op {
            name: "dilate",
            about: "The largest sample of a square around each one: white areas grow",
            inputs: &[Takes::GRAY],
            settings: &[SIZE],
            plan: Some(|stage, given, values| morph(stage, given, values, &[true])),
        },
        Op {
            name: "open",
            about: "Erosion, then dilation: small white areas go",
            inputs: &[Takes::GRAY],
            settings: &[SIZE],
            plan: Some(|stage, given, values| morph(stage, given, values, &[false, true])),
        },
        Op {
            name: "close",
            about: "Dilation, then erosion: small black areas go",
            inputs: &[Takes::GRAY],
            settings: &[SIZE],
            plan: Some(|stage, given, values| morph(stage, given, values, &[true, false])),
        },
    ],
};

const SIZE: Setting = Setting {
    name: "size",
    about: "Samples of a side, odd",
    kind: SettingKind::Number { default: 3, least: 1, most: 63 },
};

pub static ACROSS: Kernel = portable(
    "morph_across",
    params!(In src, Out dst; width, height, src_stride, dst_stride, radius, largest),
    include_str!("morph.cl"),
    |args| rows(args, area(&sizes(args)), 3, row!(6, across_row)),
    bytes_needed,
);

pub static DOWN: Kernel = after(
    portable(
        "morph_down",
        params!(In src, Out dst; width, height, src_stride, dst_stride, radius, largest),
        include_str!("morph.cl"),
        |args| rows(args, area(&sizes(args)), 3, row!(6, down_row)),
        bytes_needed,
    ),
    "morph_across",
    both_native,
);

fn area(s: &[usize; 6]) -> Rows {
    let [width, height, _, dst_stride, ..] = *s;
    Rows::of(0, dst_stride, width, height)
}

fn bytes_needed(scalars: &[u32]) -> Option<Vec<usize>> {
    let &[width, height, src_stride, dst_stride, radius, _] = scalars else { return None };
    let end = |stride| Part { offset: 0, stride, width, height, bytes: 1 }.end();
    (radius <= 31).then_some(vec![end(src_stride)?, end(dst_stride)?])
}

/// The samples within the radius of `i` of `n`.
#[inline(always)]
fn around(i: usize, radius: usize, n: usize) -> std::ops::Range<usize> {
    i.saturating_sub(radius)..(i + radius + 1).min(n)
}

#[inline(always)]
fn better(a: u8, b: u8, largest: usize) -> u8 {
    if largest == 0 { a.min(b) } else { a.max(b) }
}

fn across_reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 6] = sizes(args);
    pixels(args, area(&s), 1, |inputs, s: &[usize; 6], x, y, to| {
        let [width, _, stride, _, radius, largest] = *s;
        let samples = around(x, radius, width).map(|x| inputs[0][y * stride + x]);
        to[0] = samples.reduce(|a, b| better(a, b, largest)).unwrap_or(0);
    });
}

fn down_reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 6] = sizes(args);
    pixels(args, area(&s), 1, |inputs, s: &[usize; 6], x, y, to| {
        let [_, height, stride, _, radius, largest] = *s;
        let samples = around(y, radius, height).map(|y| inputs[0][y * stride + x]);
        to[0] = samples.reduce(|a, b| better(a, b, largest)).unwrap_or(0);
    });
}

#[inline(always)]
fn across_row(inputs: &[&[u8]], s: &[usize; 6], y: usize, to: &mut [u8]) {
    let [width, _, stride, _, radius, largest] = *s;
    let none = if largest == 0 { 255 } else { 0 };
    let mut padded = vec![none; width + 2 * radius];
    padded[radius..][..width].copy_from_slice(&inputs[0][y * stride..][..width]);
    best_of(2 * radius + 1, |n| &padded[n..][..width], largest, to);
}

#[inline(always)]
fn down_row(inputs: &[&[u8]], s: &[usize; 6], y: usize, to: &mut [u8]) {
    let [width, height, stride, _, radius, largest] = *s;
    let rows = around(y, radius, height);
    best_of(rows.len(), |n| &inputs[0][(rows.start + n) * stride..][..width], largest, to);
}

#[inline(always)]
fn best_of<'a>(count: usize, row: impl Fn(usize) -> &'a [u8], largest: usize, to: &mut [u8]) {
    if largest == 0 {
        fold::<Least, u8, u8, u8>(count, |n| (row(n), 0), 255, to, |v| v);
    } else {
        fold::<Largest, u8, u8, u8>(count, |n| (row(n), 0), 0, to, |v| v);
    }
}

fn both_native(first: &CpuArgs<'_>, second: &mut CpuArgs<'_>) -> bool {
    let (a, s): ([usize; 6], [usize; 6]) = (sizes(first), sizes(second));
    if [a[0], a[1], a[3], a[4], a[5]] != [s[0], s[1], s[2], s[4], s[5]] {
        return false;
    }
    let area = area(&s);
    let threads = threads_for(second, 3 * area.count * area.bytes);
    let (src, s) = (first.inputs[0], [a[0], a[1], a[2], s[3], s[4], s[5]]);
    bands(&mut second.outputs[0][area.range()], area.stride, threads, Both { src, s });
    true
}

/// Both passes, down first: a row between them stays in the nearest cache.
struct Both<'a> {
    src: &'a [u8],
    s: [usize; 6],
}

impl Band for Both<'_> {
    #[inline(always)]
    fn fill(&self, first: usize, band: &mut [u8]) {
        let [width, _, _, dst_stride, radius, largest] = self.s;
        let none = if largest == 0 { 255 } else { 0 };
        let mut between = Between::new(width, none);
        for (y, to) in band.chunks_mut(dst_stride).enumerate() {
            down_row(&[self.src], &self.s, first + y, between.row());
            let moved = |n: usize| between.from(n as isize - radius as isize, width);
            best_of(2 * radius + 1, moved, largest, &mut to[..width]);
        }
    }
}

fn across_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    sample(&ACROSS, dice, width, height)
}

fn down_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    sample(&DOWN, dice, width, height)
}

fn sample(kernel: &'static Kernel, dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (stride, dst_stride) = (width + dice.below(9), width + dice.below(9));
    let radius = dice.pick(&[1, 0, 2, 17]);
    let scalars = [width, height, stride, dst_stride, radius, dice.below(2)];
    let rows = Grid::Rows(height as usize);
    let command = launch(kernel, &[BufferId(0), BufferId(1)], &scalars, rows);
    Sample { command, inputs: vec![dice.bytes((stride * height) as usize, width)] }
}

fn morph(
    stage: &mut dyn Stage,
    given: &[Given],
    values: &Values<'_>,
    turns: &[bool],
) -> Result<Given, String> {
    let mut picture: Picture = given[0].picture()?;
    let radius = odd(values)? as u32 / 2;
    let (width, height) = (picture.shape.width, picture.shape.height);
    for largest in turns {
        let [between, to] = [stage.picture(picture.shape)?, stage.picture(picture.shape)?];
        let scalars = [width, height, width, width, radius, u32::from(*largest)];
        let rows = Grid::Rows(height as usize);
        let across = launch(&ACROSS, &[picture.buffer, between.buffer], &scalars, rows);
        let down = launch(&DOWN, &[between.buffer, to.buffer], &scalars, rows);
        stage.run(pair(across, down));
        picture = to;
    }
    Ok(Given::Picture(picture))
}

#[cfg(test)]
mod tests;
