//! How often each level occurs, and tables of levels: histogram, equalisation, look-up.
//!
//! Equalisation: with `h[v]` the counts, `n` their sum and `l` the lowest level that occurs, `v`
//! becomes `(255 (h[l+1] + … + h[v]) + (n - h[l]) / 2) / (n - h[l])`; levels up to `l` become 0,
//! and a picture of one level stays as it is. OpenCV computes the same in single precision.

use hw::{BufferId, CpuArgs, Grid, Kernel};

use crate::dice::Dice;
use crate::native::{Rows, Unit, long, longs, pixels, row, rows, sizes, unit};
use crate::plane::Part;
use crate::pointwise::{Area, Assign, Operand, Pointwise, Track, Work};
use crate::shape::{PixelFormat, Shape};
use crate::stem::{
    Entry, Given, Op, Picture, Sample, Setting, SettingKind, Stage, Stem, Takes, Values, launch,
    params, portable,
};

const COUNTS_BYTES: usize = 256 * 4;

pub static STEM: Stem = Stem {
    entries: &[
        Entry { kernel: &HISTOGRAM, reference: histogram_reference, sample: histogram_sample },
        Entry { kernel: &EQUALISER, reference: equaliser, sample: equaliser_sample },
        Entry { kernel: &LOOKUP, reference: lookup_reference, sample: lookup_sample },
    ],
    ops: &[
        Op {
            name: "histogram",
            about: "How often each of the 256 levels occurs, as a row of 32-bit numbers",
            inputs: &[Takes::GRAY],
            settings: &[],
            plan: Some(|stage, given, _| {
                let counts = counts(stage, given[0].picture()?)?;
                let shape = Shape::full(256, 1, PixelFormat::Gray32);
                Ok(Given::Picture(Picture { buffer: counts, shape }))
            }),
        },
        Op {
            name: "equalise",
            about: "Levels spread so that each range of them is as frequent",
            inputs: &[Takes::GRAY],
            settings: &[],
            plan: Some(equalise),
        },
        Op {
            name: "levels",
            about: "Brightness, contrast and gamma",
            inputs: &[Takes::PLANES],
            settings: &[
                Setting {
                    name: "contrast",
                    about: "Factor around middle gray",
                    kind: SettingKind::Decimal { default: 1000, least: 0, most: 10_000 },
                },
                Setting {
                    name: "brightness",
                    about: "Levels added",
                    kind: SettingKind::Number { default: 0, least: -255, most: 255 },
                },
                Setting {
                    name: "gamma",
                    about: "Exponent of the levels, 0 to 1",
                    kind: SettingKind::Decimal { default: 1000, least: 100, most: 10_000 },
                },
            ],
            plan: Some(levels),
        },
    ],
};

pub static HISTOGRAM: Kernel = portable(
    "histogram",
    params!(In src, InOut counts; width, height, stride),
    include_str!("levels.cl"),
    histogram_native,
    |scalars| {
        let &[width, height, stride] = scalars else { return None };
        let src = Part { offset: 0, stride, width, height, bytes: 1 }.end()?;
        Some(vec![src, COUNTS_BYTES])
    },
);

pub static EQUALISER: Kernel = portable(
    "equaliser",
    params!(In counts, Out table; pixels),
    include_str!("levels.cl"),
    equaliser,
    |scalars| (scalars.len() == 1).then(|| vec![COUNTS_BYTES, 256]),
);

pub static LOOKUP: Kernel = portable(
    "lookup",
    params!(In table, In src, Out dst; width, height, offset, src_stride, dst_stride),
    include_str!("levels.cl"),
    |args| rows(args, lookup_area(&sizes(args)), 3, row!(5, lookup_row)),
    |scalars| {
        let &[width, height, offset, src_stride, dst_stride] = scalars else { return None };
        let end = |stride| Part { offset, stride, width, height, bytes: 1 }.end();
        Some(vec![256, end(src_stride)?, end(dst_stride)?])
    },
);

pub(crate) static POINTWISE: &[Pointwise] = &[Pointwise {
    kernel: &LOOKUP,
    of: |scalars| {
        let &[width, height, offset, src_stride, dst_stride] = scalars else { return None };
        let given = [Operand::Table(0), Operand::Sample(1, Track::bytes(offset, src_stride))];
        let assigns = vec![Assign::call((2, Track::bytes(offset, dst_stride)), "lookup_of", given)];
        Some(Work { area: Area::rows(width, height), assigns })
    },
}];

fn histogram_reference(args: &mut CpuArgs<'_>) {
    let [width, height, stride] = sizes(args);
    let mut counts: [u32; 256] = std::array::from_fn(|i| long(args.outputs[0], i));
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        let count = &mut counts[usize::from(args.inputs[0][y * stride + x])];
        *count = count.wrapping_add(1);
    }
    let counts = longs(counts.iter().map(|count| i64::from(*count)));
    args.outputs[0][..COUNTS_BYTES].copy_from_slice(&counts);
}

/// Eight sets of counts: equal neighbours would wait for each other in one. Eight samples are read
/// at once.
fn histogram_native(args: &mut CpuArgs<'_>) {
    let [width, height, stride] = sizes(args);
    let mut banks = [[0u32; 256]; 8];
    for y in 0..height {
        let row = &args.inputs[0][y * stride..][..width];
        let (eights, rest) = row.as_chunks::<8>();
        for eight in eights {
            let eight = u64::from_le_bytes(*eight);
            for (n, bank) in banks.iter_mut().enumerate() {
                bank[(eight >> (8 * n)) as usize & 255] += 1;
            }
        }
        rest.iter().for_each(|sample| banks[0][usize::from(*sample)] += 1);
    }
    for (level, to) in args.outputs[0][..COUNTS_BYTES].chunks_exact_mut(4).enumerate() {
        let sum = banks.iter().fold(long(to, 0), |sum, bank| sum.wrapping_add(bank[level]));
        to.copy_from_slice(&sum.to_le_bytes());
    }
}

fn histogram_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let stride = width + dice.below(9);
    let src = dice.bytes((stride * height) as usize, width);
    let counts = dice.bytes(COUNTS_BYTES, 16);
    let rows = Grid::Rows(height as usize);
    let scalars = [width, height, stride];
    let command = launch(&HISTOGRAM, &[BufferId(0), BufferId(1)], &scalars, rows);
    Sample { command, inputs: vec![src, counts] }
}

fn equaliser(args: &mut CpuArgs<'_>) {
    let counts = args.inputs[0];
    let pixels = args.scalars[0];
    let lowest = (0..256).find(|v| long(counts, *v) != 0).unwrap_or(0);
    let above = u64::from(pixels.wrapping_sub(long(counts, lowest)));
    let mut sum = 0u64;
    for (level, to) in args.outputs[0][..256].iter_mut().enumerate() {
        if level > lowest {
            sum += u64::from(long(counts, level));
        }
        *to = match above {
            0 => level as u8,
            above => ((255 * sum + above / 2) / above).min(255) as u8,
        };
    }
}

fn equaliser_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let levels = dice.bytes((width * height) as usize, width);
    let mut counts = [0i64; 256];
    levels.iter().for_each(|level| counts[usize::from(*level)] += 1);
    let buffers = [BufferId(0), BufferId(1)];
    let command = launch(&EQUALISER, &buffers, &[width * height], Grid::Items(1));
    Sample { command, inputs: vec![longs(counts)] }
}

fn lookup_area(s: &[usize; 5]) -> Rows {
    let [width, height, offset, _, dst_stride] = *s;
    Rows::of(offset, dst_stride, width, height)
}

fn lookup_reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 5] = sizes(args);
    pixels(args, lookup_area(&s), 1, |inputs, s: &[usize; 5], x, y, to| {
        to[0] = inputs[0][usize::from(inputs[1][s[2] + y * s[3] + x])];
    });
}

#[inline(always)]
fn lookup_row(inputs: &[&[u8]], s: &[usize; 5], y: usize, to: &mut [u8]) {
    let Some(table) = inputs[0].first_chunk::<256>() else { return };
    let from = &inputs[1][s[2] + y * s[3]..][..to.len()];
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if unit() == Unit::Vbmi {
        // SAFETY: the features were just found on this machine.
        done = unsafe { simd::lookup_vbmi(table, from, to) };
    } else if unit() == Unit::Avx2 {
        // SAFETY: the same.
        done = unsafe { simd::lookup_avx2(table, from, to) };
    }
    #[cfg(target_arch = "aarch64")]
    if unit() >= Unit::Neon {
        // SAFETY: the feature was just found on this machine.
        done = unsafe { neon::lookup(table, from, to) };
    }
    for (to, from) in to.iter_mut().zip(from).skip(done) {
        *to = table[usize::from(*from)];
    }
}

fn lookup_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (stride, dst_stride) = (width + dice.below(9), width + dice.below(9));
    let offset = dice.below(70);
    let table = dice.bytes(256, 16);
    let src = dice.bytes((offset + stride * height) as usize, width);
    let rows = Grid::Rows(height as usize);
    let scalars = [width, height, offset, stride, dst_stride];
    let command = launch(&LOOKUP, &[0, 1, 2].map(BufferId), &scalars, rows);
    Sample { command, inputs: vec![table, src] }
}

fn counts(stage: &mut dyn Stage, from: Picture) -> Result<BufferId, String> {
    let counts = stage.constant(vec![0; COUNTS_BYTES])?;
    let Shape { width, height, .. } = from.shape;
    let rows = Grid::Rows(height as usize);
    stage.run(launch(&HISTOGRAM, &[from.buffer, counts], &[width, height, width], rows));
    Ok(counts)
}

fn apply(stage: &mut dyn Stage, from: Picture, table: BufferId) -> Result<Given, String> {
    let to = stage.picture(from.shape)?;
    // Chroma has other levels than luma: it stays.
    for (number, part) in from.shape.planes().into_iter().enumerate() {
        if from.shape.format.is_halved() && number > 0 {
            let lane = crate::rearrange::Lane::whole(part);
            let same = crate::rearrange::Map::SAME;
            let copy = crate::rearrange::command(from.buffer, lane, to.buffer, lane, same, 0);
            stage.run(copy);
            continue;
        }
        let Part { offset, stride, width, height, bytes } = part;
        let scalars = [width * bytes, height, offset, stride, stride];
        let rows = Grid::Rows(height as usize);
        stage.run(launch(&LOOKUP, &[table, from.buffer, to.buffer], &scalars, rows));
    }
    Ok(Given::Picture(to))
}

fn equalise(stage: &mut dyn Stage, given: &[Given], _: &Values<'_>) -> Result<Given, String> {
    let from = given[0].picture()?;
    let counts = counts(stage, from)?;
    let table = stage.buffer(256)?;
    let pixels = from.shape.width * from.shape.height;
    stage.run(launch(&EQUALISER, &[counts, table], &[pixels], Grid::Items(1)));
    apply(stage, from, table)
}

fn levels(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    let [contrast, gamma] = ["contrast", "gamma"].map(|name| values.number(name) as f64 / 1000.0);
    let brightness = values.number("brightness") as f64;
    let table = (0..256).map(|level| {
        let curved = (f64::from(level) / 255.0).powf(gamma) * 255.0;
        ((curved - 127.5) * contrast + 127.5 + brightness).round().clamp(0.0, 255.0) as u8
    });
    let table = stage.constant(table.collect())?;
    apply(stage, given[0].picture()?, table)
}

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod simd;
