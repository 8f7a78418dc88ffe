//! The passes over a picture, row of macroblocks by row, in native form.

use super::halves::{Halves, Motion, Place};
use super::inter::{self, Quantisers};
use super::near::Near;
use super::picture::{Macroblock, Size, chroma_in, luma_in, pad, prefetch, put, tight};
use super::search::{Around, Found, Search, is_inside};
use super::vector::{Plain, Vector};
use super::wide::{self, Form};
use super::{
    CHROMA_MASK, Coding, FIRST_MASK, KIND, LUMA_MASK, MOTION_BYTES, MOVED, MOVED_X, MOVED_Y,
    Preset, RECORD, SKIPPED, block, deblock, intra,
};
use crate::native::{Job, wide as by_unit};

/// Pictures of the encoder that outlive one, and its motion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passes {
    pub(super) size: Size,
    /// What a decoder sees, padded.
    pub picture: Vec<u8>,
    /// The picture before.
    pub(super) reference: Vec<u8>,
    /// A record for each macroblock of a row, [`RECORD`] words each.
    levels: Vec<i16>,
    pub(super) field: Vec<u8>,
    pub(super) before: Vec<u8>,
}

impl Passes {
    pub fn new(width: u32, height: u32) -> Self {
        let size = Size::new(width, height);
        let field = vec![0; MOTION_BYTES * size.count()];
        Self {
            picture: vec![0; size.picture_bytes()],
            reference: vec![0; size.picture_bytes()],
            levels: vec![0; RECORD * size.columns],
            before: field.clone(),
            field,
            size,
        }
    }

    pub fn size(&self) -> Size {
        self.size
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        let fields = self.field.len() + self.before.len();
        self.picture.len() + self.reference.len() + 2 * self.levels.len() + fields
    }

    /// All passes over a tight NV12 frame; then `picture` is what a decoder will see. `on_row` is
    /// given what is to be written: the records of a row of macroblocks, row after row.
    pub fn run(&mut self, frame: &[u8], coding: Coding, on_row: &mut dyn FnMut(&[i16])) {
        if coding.preset == Preset::Wide {
            return wide::run(self, Form::Best, frame, coding, on_row);
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(v) = super::vector::avx2::Avx2::new() {
            return by_unit(Picture { passes: self, frame, coding, on_row, v });
        }
        #[cfg(target_arch = "aarch64")]
        if let Some(v) = super::vector::neon::Neon::new() {
            return by_unit(Picture { passes: self, frame, coding, on_row, v });
        }
        self.run_plain(frame, coding, on_row);
    }

    /// The same in the form for any machine.
    pub(super) fn run_plain(
        &mut self,
        frame: &[u8],
        coding: Coding,
        on_row: &mut dyn FnMut(&[i16]),
    ) {
        if coding.preset == Preset::Wide {
            return wide::run(self, Form::Plain, frame, coding, on_row);
        }
        by_unit(Picture { passes: self, frame, coding, on_row, v: Plain });
    }
}

struct Picture<'a, V> {
    passes: &'a mut Passes,
    frame: &'a [u8],
    coding: Coding,
    on_row: &'a mut dyn FnMut(&[i16]),
    v: V,
}

impl<V: Vector> Job for Picture<'_, V> {
    #[inline(always)]
    fn run(self) {
        let Self { passes, frame, coding, on_row, v } = self;
        std::mem::swap(&mut passes.field, &mut passes.before);
        std::mem::swap(&mut passes.picture, &mut passes.reference);
        let Passes { size, picture, reference, levels, field, before } = passes;
        let mut coder = Coder {
            v,
            frame,
            reference,
            before,
            size,
            coding,
            inter: Quantisers::new(coding.qp, false),
            intra: Quantisers::new(coding.qp, true),
            halves: Halves::default(),
            near: Near::new(coding.qp),
            out: Macroblock::EMPTY,
        };
        let mut given = Macroblock::EMPTY;
        for row in 0..size.rows {
            for (column, record) in levels.as_chunks_mut::<RECORD>().0.iter_mut().enumerate() {
                prefetch(v, frame, [picture, reference], size, [column, row]);
                coder.macroblock(&mut given, [column, row], picture, field, record);
            }
            on_row(levels);
            // The row below has been predicted from it by now.
            if coding.deblock && row > 0 {
                deblock::row(v, picture, field, size, row - 1, coding);
            }
        }
        if coding.deblock {
            deblock::row(v, picture, field, size, size.rows - 1, coding);
        }
        pad(picture, size);
    }
}

/// Codes macroblocks, row by row.
struct Coder<'a, V> {
    v: V,
    frame: &'a [u8],
    reference: &'a [u8],
    before: &'a [u8],
    size: &'a Size,
    coding: Coding,
    inter: Quantisers,
    intra: Quantisers,
    halves: Halves,
    near: Near,
    /// What is predicted, and then reconstructed.
    out: Macroblock,
}

impl<V: Vector> Coder<'_, V> {
    #[inline(always)]
    fn macroblock(
        &mut self,
        given: &mut Macroblock,
        [column, row]: [usize; 2],
        picture: &mut [u8],
        field: &mut [u8],
        record: &mut [i16; RECORD],
    ) {
        let size = self.size;
        let at = row * size.columns + column;
        let around = Around::of(field, size.columns, column, row);
        if !self.coding.intra && self.coding.preset == Preset::Fast {
            let place = Place { reference: self.reference, size, column, row };
            if let Some(motion) = self.skip(&place, &around, picture) {
                record[LUMA_MASK..=FIRST_MASK].fill(0);
                record[KIND] = SKIPPED;
                Found { motion, intra: false, used: 0 }.store(field, at);
                return;
            }
        }
        given.read(self.frame, size, column, row);
        let motion = match self.coding.intra {
            true => None,
            false => self.moved(given, [column, row], around, record),
        };
        if motion.is_none() {
            let at = [column, row];
            let q = &self.intra;
            self.out = self.v.call(intra::Code { given, picture, size, at, q, record });
        }
        let found = Found {
            motion: motion.unwrap_or_default(),
            intra: motion.is_none(),
            used: block::by_rows(record[LUMA_MASK] as u16),
        };
        found.store(field, at);
        self.out.store(picture, size, column, row);
    }

    /// Skips a macroblock that is near to what it then is, and gives its motion.
    #[inline(always)]
    fn skip(&mut self, place: &Place<'_>, around: &Around, picture: &mut [u8]) -> Option<Motion> {
        let (v, near, Place { size, column, row, .. }) = (self.v, self.near, *place);
        let motion = around.skipped(around.expected());
        if !is_inside(place, motion) {
            return None;
        }
        // Those at the edge are read with it repeated, and skipped by what is left after that.
        let luma = luma_in(self.frame, size, column, row)?;
        let chroma = chroma_in(self.frame, size, column, row)?;
        if (motion.x | motion.y) & 7 == 0 {
            let (there, chroma_there) = (place.at(motion), place.chroma_at(motion));
            if !near.is_luma(v, luma, there) || !near.is_chroma(v, chroma, chroma_there) {
                return None;
            }
            put(there, picture, size.luma_at(column, row), size.stride(), 16);
            put(chroma_there, picture, size.chroma_at(column, row), size.stride(), 8);
            return Some(motion);
        }
        self.halves.begin(motion.floor());
        self.predict(place, motion);
        if !near.is_luma(v, luma, tight(&self.out.luma))
            || !near.is_chroma(v, chroma, tight(&self.out.chroma))
        {
            return None;
        }
        self.out.store(picture, size, column, row);
        Some(motion)
    }

    /// Codes a macroblock from the picture before, and gives its motion; nothing where its own is
    /// the better source.
    #[inline(always)]
    fn moved(
        &mut self,
        given: &Macroblock,
        [column, row]: [usize; 2],
        around: Around,
        record: &mut [i16; RECORD],
    ) -> Option<Motion> {
        let (v, size) = (self.v, self.size);
        let place = Place { reference: self.reference, size, column, row };
        let before = Found::of(self.before, row * size.columns + column).motion;
        let search = Search::new(v, &given.luma, place, around, before, self.coding);
        let expected = search.expected;
        let skipped = around.skipped(expected);
        let is_possible = search.is_inside(skipped);
        let first = if is_possible { skipped } else { Motion::default() };
        let best = search.weigh(&mut self.halves, first);
        if search.is_enough(best.difference) {
            self.code(given, &place, first, record);
            if is_possible && has_no_levels(record) {
                record[KIND] = SKIPPED;
            } else {
                note_motion(record, first, expected);
            }
            return Some(first);
        }
        if is_possible && search.is_little(best.difference) {
            self.predict(&place, first);
            let (predicted, q) = (&self.out, &self.inter);
            if v.call(inter::IsNothing { given, predicted, q }) {
                record[LUMA_MASK..=FIRST_MASK].fill(0);
                record[KIND] = SKIPPED;
                return Some(first);
            }
        }
        let best = search.go_on(&mut self.halves, best);
        if search.is_intra_better(self.frame, &best) {
            return None;
        }
        self.code(given, &place, best.motion, record);
        if is_possible && best.motion == skipped && has_no_levels(record) {
            record[KIND] = SKIPPED;
        } else {
            note_motion(record, best.motion, expected);
        }
        Some(best.motion)
    }

    #[inline(always)]
    fn code(
        &mut self,
        given: &Macroblock,
        place: &Place<'_>,
        motion: Motion,
        record: &mut [i16; RECORD],
    ) {
        self.predict(place, motion);
        if self.coding.preset == Preset::Fast && self.is_near(given) {
            record[LUMA_MASK..=FIRST_MASK].fill(0);
            return;
        }
        self.v.call(inter::Code { given, out: &mut self.out, q: &self.inter, record });
    }

    /// Whether what is predicted is near.
    #[inline(always)]
    fn is_near(&self, given: &Macroblock) -> bool {
        let (v, near, out) = (self.v, self.near, &self.out);
        near.is_luma(v, tight(&given.luma), tight(&out.luma))
            && near.is_chroma(v, tight(&given.chroma), tight(&out.chroma))
    }

    #[inline(always)]
    fn predict(&mut self, place: &Place<'_>, motion: Motion) {
        let (halves, to) = (&mut self.halves, &mut self.out);
        self.v.call(inter::Predict { halves, place: *place, motion, to });
    }
}

#[inline(always)]
pub(super) fn has_no_levels(record: &[i16; RECORD]) -> bool {
    record[LUMA_MASK] == 0 && record[CHROMA_MASK] == 0 && record[FIRST_MASK] == 0
}

#[inline(always)]
pub(super) fn note_motion(record: &mut [i16; RECORD], motion: Motion, expected: Motion) {
    record[KIND] = MOVED;
    record[MOVED_X] = (motion.x - expected.x) as i16;
    record[MOVED_Y] = (motion.y - expected.y) as i16;
}
