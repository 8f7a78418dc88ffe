//! Two pictures of one shape, weighed: `clamp((a wa + b wb + 2^7) >> 8)`, and a sharpening mask
//! made of it.

use hw::{BufferId, CpuArgs, Grid, Kernel};

use crate::blur;
use crate::dice::Dice;
use crate::native::{Rows, even_piece, pixels, row, rows, signed, sizes};
use crate::pointwise::{Area, Assign, Operand, Pointwise, Track, Work};
use crate::stem::{
    Entry, Given, Op, Picture, Sample, Setting, SettingKind, Stage, Stem, Takes, Values, launch,
    params, portable,
};

pub static STEM: Stem = Stem {
    entries: &[Entry { kernel: &KERNEL, reference, sample }],
    ops: &[
        Op {
            name: "mix",
            about: "The weighed sum of two pictures of one size and format",
            inputs: &[Takes::PLANES, Takes::PLANES],
            settings: &[
                Setting {
                    name: "first",
                    about: "Weight of the first",
                    kind: SettingKind::Decimal { default: 500, least: -8000, most: 8000 },
                },
                Setting {
                    name: "second",
                    about: "Weight of the second",
                    kind: SettingKind::Decimal { default: 500, least: -8000, most: 8000 },
                },
            ],
            plan: Some(mix),
        },
        Op {
            name: "unsharp",
            about: "Sharpened by what a gaussian of five taps takes away",
            inputs: &[Takes::PLANES],
            settings: &[Setting {
                name: "amount",
                about: "How much of it is added",
                kind: SettingKind::Decimal { default: 1000, least: -1000, most: 5000 },
            }],
            plan: Some(unsharp),
        },
    ],
};

pub static KERNEL: Kernel = portable(
    "mix_bytes",
    params!(In a, In b, Out dst; bytes, first, second),
    include_str!("mix.cl"),
    |args| rows(args, area(&sizes(args)), 2, row!(3, row)),
    |scalars| {
        let &[bytes, ..] = scalars else { return None };
        (1..=1 << 30).contains(&bytes).then(|| vec![bytes as usize; 3])
    },
);

pub(crate) static POINTWISE: &[Pointwise] = &[Pointwise {
    kernel: &KERNEL,
    of: |scalars| {
        let &[bytes, _, _] = scalars else { return None };
        let track = Track::bytes(0, 0);
        let both = [0, 1].map(|buffer| Operand::Sample(buffer, track));
        let given = both.into_iter().chain([1, 2].map(Operand::Scalar));
        let given: Vec<Operand> = given.collect();
        let assigns = vec![Assign::call((2, track), "mix_of", given)];
        Some(Work { area: Area::flat(bytes), assigns })
    },
}];

fn area(s: &[usize; 3]) -> Rows {
    let piece = even_piece(s[0]);
    Rows::of(0, piece, piece, s[0] / piece)
}

fn weighed(a: u8, b: u8, first: i32, second: i32) -> u8 {
    ((i32::from(a) * first + i32::from(b) * second + 128) >> 8).clamp(0, 255) as u8
}

fn reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 3] = sizes(args);
    pixels(args, Rows::of(0, s[0], s[0], 1), 1, |inputs, s: &[usize; 3], x, _, to| {
        to[0] = weighed(inputs[0][x], inputs[1][x], signed(s[1]), signed(s[2]));
    });
}

#[inline(always)]
fn row(inputs: &[&[u8]], s: &[usize; 3], y: usize, to: &mut [u8]) {
    let (first, second) = (signed(s[1]), signed(s[2]));
    let at = y * to.len();
    let (a, b) = (&inputs[0][at..][..to.len()], &inputs[1][at..][..to.len()]);
    if (-128..=128).contains(&first) && (-128..=128).contains(&second) {
        // Then the sum fits 16 bits with its sign, and twice as many fit a vector.
        let (first, second) = (first as i16, second as i16);
        for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
            let sum = i32::from(i16::from(*a) * first) + i32::from(i16::from(*b) * second) + 128;
            *to = (sum >> 8).clamp(0, 255) as u8;
        }
        return;
    }
    for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
        let sum = i32::from(*a) * first + i32::from(*b) * second + 128;
        *to = (sum >> 8).clamp(0, 255) as u8;
    }
}

fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let bytes = width * height;
    let (a, b) = (dice.bytes(bytes as usize, width), dice.bytes(bytes as usize, width));
    let weights = [(128, 128), (-256, 512), (77, 179), (2048, -2048)];
    let (first, second): (i32, i32) = dice.pick(&weights);
    let scalars = [bytes, first as u32, second as u32];
    let rows = Grid::Items(bytes as usize);
    let command = launch(&KERNEL, &[0, 1, 2].map(BufferId), &scalars, rows);
    Sample { command, inputs: vec![a, b] }
}

/// The weighed sum of two pictures, weights in 256ths.
pub(crate) fn pictures(
    stage: &mut dyn Stage,
    [a, b]: [Picture; 2],
    first: i64,
    second: i64,
) -> Result<Picture, String> {
    if a.shape != b.shape {
        let sides = |p: Picture| format!("{} x {}", p.shape.width, p.shape.height);
        return Err(format!("{} and {}: give two of one size and format", sides(a), sides(b)));
    }
    let to = stage.picture(a.shape)?;
    let bytes = a.shape.bytes().ok_or("impossible sides")? as u32;
    let scalars = [bytes, first as u32, second as u32];
    let items = Grid::Items(bytes as usize);
    stage.run(launch(&KERNEL, &[a.buffer, b.buffer, to.buffer], &scalars, items));
    Ok(to)
}

/// Thousandths as 256ths.
fn parts(thousandths: i64) -> i64 {
    (thousandths * 256 + 500).div_euclid(1000)
}

fn mix(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    let both = [given[0].picture()?, given[1].picture()?];
    let [first, second] = ["first", "second"].map(|name| parts(values.number(name)));
    pictures(stage, both, first, second).map(Given::Picture)
}

fn unsharp(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    let from = given[0].picture()?;
    let blurred = blur::picture(stage, from, &blur::gaussian(5, 0.0))?;
    let amount = parts(values.number("amount"));
    pictures(stage, [from, blurred], 256 + amount, -amount).map(Given::Picture)
}
