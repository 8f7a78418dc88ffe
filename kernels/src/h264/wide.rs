//! The wide preset: passes over whole pictures, for devices with many lanes. A macroblock looks at
//! others only where an earlier launch has done with them:
//!
//! 1. [`SEARCH`], twice: motion, all macroblocks at once. What the decoder will expect is guessed
//!    from the motion of the picture before, then from that of the first round.
//! 2. [`CODE`]: prediction, transform, quantisation, reconstruction, all macroblocks at once. Where
//!    little differs ([`near`]) nothing is coded.
//! 3. [`DIAGONAL`], for diagonals `column + 2 row` one after the other: macroblocks predicted from
//!    neighbours, which are those that look better so, or all; and four diagonals behind, when
//!    nobody looks at unfiltered samples any more, the filter along edges.
//! 4. [`PAD`]: the edge goes on around the picture, which is the next one's reference then.
//!
//! Search, prediction and all that follows are those of the fast preset, but that all macroblocks
//! of a picture are quantised alike. [`rows`] makes of what is left what is written: which motion
//! the decoder expects, and what is skipped.
//!
//! A [`control`] buffer has the numbers of a picture, so that launches are the same for all of a
//! stream. Levels that no mask tells of are zeros.

use hw::{BufferId, Command, CpuArgs, Grid, Kernel};

use super::block::{self, Quantiser};
use super::deblock::{self, Thresholds};
use super::halves::{Halves, Motion, Place};
use super::inter::{self, Quantisers};
use super::near::Near;
use super::passes::{has_no_levels, note_motion};
use super::picture::{Macroblock, Size, pad, read_luma, tight};
use super::search::{Around, Found, Search, clamped};
use super::vector::{Plain, Vector};
use super::*;
use crate::dice::Dice;
use crate::native::{Band, Job, bands, long, longs, sizes, threads_for};
use crate::plane::{Nv12, SIDE_MAX};
use crate::stem::{Entry, Sample, launch, params, portable};

/// Bytes of a level record.
const RECORD_BYTES: usize = 2 * RECORD;
/// By how many diagonals filtering is behind prediction.
const BEHIND: usize = 4;
/// Numbers of a picture: whether it is an intra one, whether it is filtered, the worth of a bit,
/// the quantisers of luma and chroma; of luma and then of chroma the multipliers, biases and steps
/// of the three kinds of places and the step of first levels; of both the thresholds of the filter.
const NUMBERS: usize = 5 + 2 * 10 + 2 * 5;
const INTRA_AT: usize = 0;
const DEBLOCK_AT: usize = 1;
const QP_AT: usize = 3;

pub(super) static ENTRIES: [Entry; 4] = [
    Entry { kernel: &SEARCH, reference: |args| search(args, Form::Plain), sample: search_sample },
    Entry { kernel: &CODE, reference: |args| code(args, Form::Plain), sample: code_sample },
    Entry {
        kernel: &DIAGONAL,
        reference: |args| diagonal(args, Form::Plain),
        sample: diagonal_sample,
    },
    Entry { kernel: &PAD, reference: pad_picture, sample: pad_sample },
];

/// Motion, by what is known from `before`.
pub static SEARCH: Kernel = portable(
    "h264_search",
    params!(In control, In frame, In reference, In before, Out after; width, height),
    include_str!("wide.cl"),
    |args| search(args, Form::Best),
    |scalars| {
        let &[width, height] = scalars else { return None };
        let Bytes { control, frame, picture, field, .. } = Bytes::of(width, height)?;
        Some(vec![control, frame, picture, field, field])
    },
);

/// Levels and reconstruction by motion, where there is one. `field` is told which blocks
/// have levels.
pub static CODE: Kernel = portable(
    "h264_code",
    params!(In control, In frame, In reference, InOut field, InOut picture, InOut levels;
            width, height),
    include_str!("wide.cl"),
    |args| code(args, Form::Best),
    |scalars| {
        let &[width, height] = scalars else { return None };
        let Bytes { control, frame, picture, field, levels } = Bytes::of(width, height)?;
        Some(vec![control, frame, picture, field, picture, levels])
    },
);

/// Levels and reconstruction by neighbours of one diagonal, and the filter of an earlier one.
pub static DIAGONAL: Kernel = portable(
    "h264_diagonal",
    params!(In control, In frame, In field, InOut picture, InOut levels; width, height, number),
    include_str!("wide.cl"),
    |args| diagonal(args, Form::Best),
    |scalars| {
        let &[width, height, number] = scalars else { return None };
        let Bytes { control, frame, picture, field, levels } = Bytes::of(width, height)?;
        let is_there = (number as usize) < diagonals(&Size::new(width, height));
        is_there.then(|| vec![control, frame, field, picture, levels])
    },
);

/// Lets the edge of a picture go on around it.
pub static PAD: Kernel = portable(
    "h264_pad",
    params!(InOut picture; width, height),
    include_str!("wide.cl"),
    pad_picture,
    |scalars| {
        let &[width, height] = scalars else { return None };
        Some(vec![Bytes::of(width, height)?.picture])
    },
);

/// Bytes of the buffers of a stream of frames of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes {
    pub control: usize,
    pub frame: usize,
    pub picture: usize,
    /// Motion records.
    pub field: usize,
    /// Level records.
    pub levels: usize,
}

impl Bytes {
    /// None for impossible sides.
    pub fn of(width: u32, height: u32) -> Option<Self> {
        let is_possible = [width, height].iter().all(|side| (1..=SIDE_MAX).contains(side));
        let size = is_possible.then(|| Size::new(width, height))?;
        Some(Self {
            control: 4 * NUMBERS,
            frame: Nv12::tight(width, height).bytes()?,
            picture: size.picture_bytes(),
            field: MOTION_BYTES * size.count(),
            levels: RECORD_BYTES * size.count(),
        })
    }
}

/// The buffers of a picture.
#[derive(Debug, Clone, Copy)]
pub struct Buffers {
    pub control: BufferId,
    /// A tight NV12 frame.
    pub frame: BufferId,
    /// The pictures and the motion before, and now.
    pub pictures: [BufferId; 2],
    pub fields: [BufferId; 2],
    /// Motion between the rounds of the search.
    pub between: BufferId,
    pub levels: BufferId,
}

/// All launches of a picture.
pub fn commands(buffers: &Buffers, width: u32, height: u32) -> Vec<Command> {
    let Buffers { control, frame, pictures: [reference, picture], fields, between, levels } =
        *buffers;
    let [before, field] = fields;
    let size = Size::new(width, height);
    let (sides, macroblocks) = ([width, height], Grid::Items(size.count()));
    let search =
        |from, to| launch(&SEARCH, &[control, frame, reference, from, to], &sides, macroblocks);
    let coded = [control, frame, reference, field, picture, levels];
    let mut commands = vec![
        search(before, between),
        search(between, field),
        launch(&CODE, &coded, &sides, macroblocks),
    ];
    let walked = [control, frame, field, picture, levels];
    commands.extend((0..diagonals(&size)).map(|number| {
        let scalars = [width, height, number as u32];
        launch(&DIAGONAL, &walked, &scalars, Grid::Rows(2 * size.rows))
    }));
    commands.push(launch(&PAD, &[picture], &sides, pad_grid(&size)));
    commands
}

/// Launches along diagonals.
fn diagonals(size: &Size) -> usize {
    size.columns + 2 * (size.rows - 1) + BEHIND
}

/// A group for each row of a padded picture.
fn pad_grid(size: &Size) -> Grid {
    let lines = size.lines();
    Grid::Rows(lines + lines / 2)
}

/// What the control buffer holds for a picture.
pub fn control(coding: Coding) -> Vec<u8> {
    let (qp, chroma) = (coding.qp.min(51), chroma_qp(coding.qp.min(51)));
    let words = [coding.intra.into(), coding.deblock.into(), bit_cost(qp), qp, chroma];
    let quantisers = [qp, chroma].map(|qp| Quantiser::new(qp, coding.intra).numbers());
    let thresholds = [qp, chroma].map(|qp| Thresholds::new(qp).numbers());
    let tables = quantisers.into_iter().flatten().chain(thresholds.into_iter().flatten());
    longs(words.into_iter().map(i64::from).chain(tables.map(i64::from)))
}

fn coding_of(control: &[u8]) -> Coding {
    Coding {
        qp: long(control, QP_AT).min(51),
        preset: Preset::Wide,
        intra: long(control, INTRA_AT) != 0,
        deblock: long(control, DEBLOCK_AT) != 0,
    }
}

/// Makes of the level and motion records of a picture, as launches left them, rows of level records
/// for the bitstream: `on_row` is given one after the other.
pub fn rows(levels: &[u8], field: &[u8], size: &Size, on_row: &mut dyn FnMut(&[i16])) {
    let mut records = vec![0; RECORD * size.columns];
    let lines = levels.chunks_exact(RECORD_BYTES * size.columns).take(size.rows);
    for (row, line) in lines.enumerate() {
        for (word, bytes) in records.iter_mut().zip(line.as_chunks::<2>().0) {
            *word = i16::from_le_bytes(*bytes);
        }
        let told = records.as_chunks_mut::<RECORD>().0.iter_mut().enumerate();
        for (column, record) in told.filter(|(_, record)| record[KIND] != INTRA) {
            tell(record, field, size, column, row);
        }
        on_row(&records);
    }
}

/// Tells a record how its macroblock moved, by what the decoder expects.
fn tell(record: &mut [i16; RECORD], field: &[u8], size: &Size, column: usize, row: usize) {
    let around = Around::of(field, size.columns, column, row);
    let motion = Found::of(field, row * size.columns + column).motion;
    let expected = around.expected();
    if motion == around.skipped(expected) && has_no_levels(record) {
        record[KIND] = SKIPPED;
    } else {
        note_motion(record, motion, expected);
    }
}

/// Which form of the vector unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Best,
}

impl Form {
    fn run(self, pass: impl Pass) {
        if self == Self::Best {
            #[cfg(target_arch = "x86_64")]
            if let Some(v) = super::vector::avx2::Avx2::new() {
                return crate::native::wide(Formed { pass, v });
            }
            #[cfg(target_arch = "aarch64")]
            if let Some(v) = super::vector::neon::Neon::new() {
                return crate::native::wide(Formed { pass, v });
            }
        }
        crate::native::wide(Formed { pass, v: Plain });
    }
}

/// A pass over a picture; `run` is `#[inline(always)]`.
trait Pass {
    fn run<V: Vector>(self, v: V);
}

struct Formed<P, V> {
    pass: P,
    v: V,
}

impl<P: Pass, V: Vector> Job for Formed<P, V> {
    #[inline(always)]
    fn run(self) {
        self.pass.run(self.v);
    }
}

/// What all passes read.
#[derive(Clone, Copy)]
struct Given<'a> {
    coding: Coding,
    frame: &'a [u8],
    size: &'a Size,
}

/// All passes over a tight NV12 frame, on the CPU: see [`Passes::run`].
pub(super) fn run(
    passes: &mut Passes,
    form: Form,
    frame: &[u8],
    coding: Coding,
    on_row: &mut dyn FnMut(&[i16]),
) {
    std::mem::swap(&mut passes.field, &mut passes.before);
    std::mem::swap(&mut passes.picture, &mut passes.reference);
    let Passes { size, picture, reference, field, before, .. } = passes;
    let (mut levels, mut between) = (vec![0; RECORD_BYTES * size.count()], before.clone());
    let given = Given { coding, frame, size };
    form.run(Searched { given, reference, before, first: 0, after: &mut between });
    form.run(Searched { given, reference, before: &between, first: 0, after: field });
    form.run(Coded { given, reference, field, picture, levels: &mut levels });
    for number in 0..diagonals(size) {
        form.run(Walked { given, field, picture, levels: &mut levels, number });
    }
    pad(picture, size);
    rows(&levels, field, size, on_row);
}

/// The motion of rows of macroblocks from `first` on.
struct Searched<'a> {
    given: Given<'a>,
    reference: &'a [u8],
    before: &'a [u8],
    first: usize,
    after: &'a mut [u8],
}

impl Pass for Searched<'_> {
    #[inline(always)]
    fn run<V: Vector>(self, v: V) {
        let Self { given: Given { coding, frame, size }, reference, before, first, after } = self;
        let mut halves = Halves::default();
        for at in 0..after.len() / MOTION_BYTES {
            let (column, row) = (at % size.columns, first + at / size.columns);
            let motion = match coding.intra {
                true => None,
                false => {
                    let mut luma = [[0; 16]; 16];
                    read_luma(frame, size, column, row, &mut luma);
                    let around = Around::of(before, size.columns, column, row);
                    let own = Found::of(before, row * size.columns + column).motion;
                    let place = Place { reference, size, column, row };
                    let search = Search::new(v, &luma, place, around, own, coding);
                    find(&search, frame, &mut halves)
                }
            };
            let (motion, intra) = (motion.unwrap_or_default(), motion.is_none());
            Found { motion, intra, used: 0 }.store(after, at);
        }
    }
}

/// A skipped macroblock's motion where that is good enough, else the best found; none where the
/// neighbours look better.
#[inline(always)]
fn find<V: Vector>(search: &Search<'_, V>, frame: &[u8], halves: &mut Halves) -> Option<Motion> {
    let skipped = search.around.skipped(search.expected);
    let first = if search.is_inside(skipped) { skipped } else { Motion::default() };
    let first = search.weigh(halves, first);
    if search.is_enough(first.difference) {
        return Some(first.motion);
    }
    let best = search.go_on(halves, first);
    (!search.is_intra_better(frame, &best)).then_some(best.motion)
}

struct Coded<'a> {
    given: Given<'a>,
    reference: &'a [u8],
    field: &'a mut [u8],
    picture: &'a mut [u8],
    levels: &'a mut [u8],
}

impl Pass for Coded<'_> {
    #[inline(always)]
    fn run<V: Vector>(self, v: V) {
        let Self { given: Given { coding, frame, size }, reference, field, picture, levels } = self;
        let (q, near) = (Quantisers::new(coding.qp, coding.intra), Near::new(coding.qp));
        let (mut halves, mut given) = (Halves::default(), Macroblock::EMPTY);
        let mut out = Macroblock::EMPTY;
        for at in 0..size.count() {
            let (column, row) = (at % size.columns, at / size.columns);
            let own = Found::of(field, at);
            if own.intra {
                continue;
            }
            given.read(frame, size, column, row);
            let place = Place { reference, size, column, row };
            let motion = clamped(&place, own.motion);
            halves.begin(motion.floor());
            v.call(inter::Predict { halves: &mut halves, place, motion, to: &mut out });
            let mut record = [0; RECORD];
            let is_near = near.is_luma(v, tight(&given.luma), tight(&out.luma))
                && near.is_chroma(v, tight(&given.chroma), tight(&out.chroma));
            if !is_near {
                let (given, out, record) = (&given, &mut out, &mut record);
                v.call(inter::Code { given, out, q: &q, record });
            }
            let used = block::by_rows(record[LUMA_MASK] as u16);
            Found { motion, intra: false, used }.store(field, at);
            out.store(picture, size, column, row);
            put(&mut record, levels, at);
        }
    }
}

/// Puts a record among the others; what no mask tells of becomes zeros.
#[inline(always)]
fn put(record: &mut [i16; RECORD], levels: &mut [u8], at: usize) {
    for (mask, from, blocks) in [(LUMA_MASK, LUMA, 16), (CHROMA_MASK, CHROMA, 8)] {
        let told = record[mask] as u16;
        for block in (0..blocks).filter(|block| told >> block & 1 == 0) {
            record[from + 16 * block..][..16].fill(0);
        }
    }
    let to = levels[RECORD_BYTES * at..][..RECORD_BYTES].as_chunks_mut::<2>().0;
    to.iter_mut().zip(record).for_each(|(to, word)| *to = word.to_le_bytes());
}

struct Walked<'a> {
    given: Given<'a>,
    field: &'a [u8],
    picture: &'a mut [u8],
    levels: &'a mut [u8],
    number: usize,
}

impl Pass for Walked<'_> {
    #[inline(always)]
    fn run<V: Vector>(self, v: V) {
        let Self { given: Given { coding, frame, size }, field, picture, levels, number } = self;
        let (q, mut given) = (Quantisers::new(coding.qp, coding.intra), Macroblock::EMPTY);
        let is_intra =
            |[column, row]: &[usize; 2]| Found::of(field, row * size.columns + column).intra;
        for at in diagonal_of(size, Some(number)).filter(is_intra) {
            let ([column, row], mut record) = (at, [0; RECORD]);
            given.read(frame, size, column, row);
            let (given, q, record_of) = (&given, &q, &mut record);
            let out = v.call(intra::Code { given, picture, size, at, q, record: record_of });
            out.store(picture, size, column, row);
            put(&mut record, levels, row * size.columns + column);
        }
        if coding.deblock {
            let [luma, chroma] = [coding.qp, chroma_qp(coding.qp)].map(Thresholds::new);
            for at in diagonal_of(size, number.checked_sub(BEHIND)) {
                deblock::macroblock(v, picture, field, size, at, [&luma, &chroma]);
            }
        }
    }
}

/// Column and row of the macroblocks of a diagonal.
#[inline(always)]
fn diagonal_of(size: &Size, number: Option<usize>) -> impl Iterator<Item = [usize; 2]> {
    let columns = size.columns;
    let rows = number.map_or(0, |number| size.rows.min(number / 2 + 1));
    let of = move |row: usize| Some([number?.checked_sub(2 * row)?, row]);
    (0..rows).filter_map(of).filter(move |[column, _]| *column < columns)
}

struct SearchedRows<'a> {
    form: Form,
    given: Given<'a>,
    reference: &'a [u8],
    before: &'a [u8],
}

impl Band for SearchedRows<'_> {
    fn fill(&self, first: usize, after: &mut [u8]) {
        let Self { form, given, reference, before } = *self;
        form.run(Searched { given, reference, before, first, after });
    }
}

fn size_of(args: &CpuArgs<'_>) -> Size {
    Size::new(args.scalars[0], args.scalars[1])
}

fn search(args: &mut CpuArgs<'_>, form: Form) {
    let size = size_of(args);
    // A macroblock is compared with about twenty others.
    let threads = match form {
        Form::Plain => 1,
        Form::Best => threads_for(args, 20 * 256 * size.count()),
    };
    let &[control, frame, reference, before] = &args.inputs[..] else { return };
    let given = Given { coding: coding_of(control), frame, size: &size };
    let work = SearchedRows { form, given, reference, before };
    let after = &mut args.outputs[0][..MOTION_BYTES * size.count()];
    bands(after, MOTION_BYTES * size.columns, threads, work);
}

fn code(args: &mut CpuArgs<'_>, form: Form) {
    let size = size_of(args);
    let &[control, frame, reference] = &args.inputs[..] else { return };
    let [field, picture, levels] = &mut args.outputs[..] else { return };
    let given = Given { coding: coding_of(control), frame, size: &size };
    form.run(Coded { given, reference, field, picture, levels });
}

fn diagonal(args: &mut CpuArgs<'_>, form: Form) {
    let size = size_of(args);
    let [_, _, number]: [usize; 3] = sizes(args);
    let &[control, frame, field] = &args.inputs[..] else { return };
    let [picture, levels] = &mut args.outputs[..] else { return };
    let given = Given { coding: coding_of(control), frame, size: &size };
    form.run(Walked { given, field, picture, levels, number });
}

fn pad_picture(args: &mut CpuArgs<'_>) {
    let size = size_of(args);
    pad(&mut args.outputs[0][..size.picture_bytes()], &size);
}

/// A picture to code: numbers, a frame, a reference that is like it, and motion.
fn scene(dice: &mut Dice, width: u32, height: u32) -> [Vec<u8>; 4] {
    let size = Size::new(width, height);
    let bytes = Bytes::of(width, height).map_or(0, |bytes| bytes.frame);
    let coding = Coding {
        qp: (28 + dice.below(52)) % 52,
        preset: Preset::Wide,
        intra: dice.below(3) == 2,
        deblock: dice.below(4) < 3,
    };
    let frame = dice.bytes(bytes, width);
    let noise = dice.bytes(size.picture_bytes(), width);
    let (x, y, loud) = (dice.below(9), dice.below(9), dice.pick(&[8, 1, 2, 256]));
    // The frame moved on, with some noise.
    let way = (x + y * size.stride() as u32) as usize;
    let mut reference = vec![0; size.picture_bytes()];
    let mut whole = Macroblock::EMPTY;
    for at in 0..size.count() {
        let (column, row) = (at % size.columns, at / size.columns);
        whole.read(&frame, &size, column, row);
        whole.store(&mut reference, &size, column, row);
    }
    pad(&mut reference, &size);
    reference.rotate_right(way);
    let noise = noise.iter().map(|noise| (u32::from(*noise) % loud) as u8);
    reference.iter_mut().zip(noise).for_each(|(to, noise)| *to = to.saturating_add(noise));
    let mut field = vec![0; MOTION_BYTES * size.count()];
    for at in 0..size.count() {
        let reach = dice.pick(&[9, 1, 40, 3000]);
        let side = |dice: &mut Dice| dice.below(2 * reach + 1) as i32 - reach as i32;
        let intra = coding.intra || dice.below(8) == 7;
        let motion = match intra {
            true => Motion::default(),
            false => Motion { x: side(dice), y: side(dice) },
        };
        let used = dice.pick(&[0, 0, 0xFFFF, 0x8421, 0x0F0F]);
        Found { motion, intra, used }.store(&mut field, at);
    }
    [control(coding), frame, reference, field]
}

fn search_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let buffers = [0, 1, 2, 3, 4].map(BufferId);
    let grid = Grid::Items(Size::new(width, height).count());
    let command = launch(&SEARCH, &buffers, &[width, height], grid);
    Sample { command, inputs: scene(dice, width, height).into() }
}

fn code_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let [control, frame, reference, field] = scene(dice, width, height);
    let size = Size::new(width, height);
    let picture = vec![7; size.picture_bytes()];
    let levels = vec![9; RECORD_BYTES * size.count()];
    let buffers = [0, 1, 2, 3, 4, 5].map(BufferId);
    let command = launch(&CODE, &buffers, &[width, height], Grid::Items(size.count()));
    Sample { command, inputs: vec![control, frame, reference, field, picture, levels] }
}

fn diagonal_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let [control, frame, picture, field] = scene(dice, width, height);
    let size = Size::new(width, height);
    let levels = vec![9; RECORD_BYTES * size.count()];
    let count = diagonals(&size) as u32;
    let number = (count / 2 + dice.below(count)) % count;
    let (buffers, grid) = ([0, 1, 2, 3, 4].map(BufferId), Grid::Rows(2 * size.rows));
    let command = launch(&DIAGONAL, &buffers, &[width, height, number], grid);
    Sample { command, inputs: vec![control, frame, field, picture, levels] }
}

fn pad_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let size = Size::new(width, height);
    let picture = dice.bytes(size.picture_bytes(), width);
    let command = launch(&PAD, &[BufferId(0)], &[width, height], pad_grid(&size));
    Sample { command, inputs: vec![picture] }
}
