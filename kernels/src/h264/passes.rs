//! The passes over whole pictures, in native form.

use super::inter::{Quantisers, code, predict};
use super::picture::{Macroblock, Size};
use super::planes::Scratch;
use super::search::{Found, Motion, Round, first, second, third};
use super::{Coding, MOTION_BYTES, RECORD, RECORD_BYTES, deblock, intra, planes};
use crate::native::{Job, wide};

/// A round of the motion search, 0 to 2, over all macroblocks.
pub fn search(round: Round<'_>, number: u32, coding: Coding, field: &mut [u8]) {
    wide(Search { round, number, coding, field });
}

struct Search<'a> {
    round: Round<'a>,
    number: u32,
    coding: Coding,
    field: &'a mut [u8],
}

impl Job for Search<'_> {
    #[inline(always)]
    fn run(self) {
        let columns = self.round.size.columns;
        for (at, to) in self.field.chunks_exact_mut(MOTION_BYTES).enumerate() {
            let (column, row) = (at % columns, at / columns);
            let found = match (self.coding.intra, self.number) {
                (true, _) => Found { motion: Motion::default(), cost: 0, intra: true },
                (_, 0) => first(self.round, column, row),
                (_, 1) => second(self.round, column, row),
                _ => third(self.round, column, row),
            };
            to.copy_from_slice(&found.encode());
        }
    }
}

/// What the passes that reconstruct see.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    pub frame: &'a [u8],
    pub field: &'a [u8],
    pub size: &'a Size,
    pub coding: Coding,
}

/// Codes the macroblocks that are predicted from the picture before; the others are left black,
/// their records empty.
pub fn inter(given: Given<'_>, reference: &[u8], picture: &mut [u8], levels: &mut [u8]) {
    wide(Inter { given, reference, picture, levels });
}

struct Inter<'a> {
    given: Given<'a>,
    reference: &'a [u8],
    picture: &'a mut [u8],
    levels: &'a mut [u8],
}

impl Job for Inter<'_> {
    #[inline(always)]
    fn run(self) {
        let Given { frame, field, size, coding } = self.given;
        let q = Quantisers::new(coding.qp, false);
        for (at, to) in self.levels.chunks_exact_mut(RECORD_BYTES).enumerate() {
            let (column, row) = (at % size.columns, at / size.columns);
            let found = Found::of(field, at);
            if found.intra {
                to.fill(0);
                Macroblock::EMPTY.store(self.picture, size, column, row);
                continue;
            }
            let given = Macroblock::of_frame(frame, size, column, row);
            let predicted = predict(self.reference, size, column, row, found.motion);
            let mut record = [0; RECORD];
            let coded = code(&given, &predicted, &q, &mut record);
            coded.store(self.picture, size, column, row);
            write(&record, to);
        }
    }
}

#[inline(always)]
fn write(record: &[i16; RECORD], to: &mut [u8]) {
    for (to, word) in to.chunks_exact_mut(2).zip(record) {
        to.copy_from_slice(&word.to_le_bytes());
    }
}

/// Codes the macroblocks that are predicted from their neighbours.
pub fn intra(given: Given<'_>, picture: &mut [u8], levels: &mut [u8]) {
    wide(Intra { given, picture, levels });
}

struct Intra<'a> {
    given: Given<'a>,
    picture: &'a mut [u8],
    levels: &'a mut [u8],
}

impl Job for Intra<'_> {
    #[inline(always)]
    fn run(self) {
        let Given { frame, field, size, coding } = self.given;
        let q = Quantisers::new(coding.qp, true);
        for (at, to) in self.levels.chunks_exact_mut(RECORD_BYTES).enumerate() {
            if !Found::of(field, at).intra {
                continue;
            }
            let place = [at % size.columns, at / size.columns];
            let given = Macroblock::of_frame(frame, size, place[0], place[1]);
            let mut record = [0; RECORD];
            let coded = intra::code(&given, self.picture, size, place, &q, &mut record);
            coded.store(self.picture, size, place[0], place[1]);
            write(&record, to);
        }
    }
}

/// Filters the picture along its edges.
pub fn deblock(picture: &mut [u8], levels: &[u8], field: &[u8], size: &Size, coding: Coding) {
    wide(Deblock { picture, levels, field, size, coding });
}

struct Deblock<'a> {
    picture: &'a mut [u8],
    levels: &'a [u8],
    field: &'a [u8],
    size: &'a Size,
    coding: Coding,
}

impl Job for Deblock<'_> {
    #[inline(always)]
    fn run(self) {
        deblock::picture(self.picture, self.levels, self.field, self.size, self.coding);
    }
}

/// Makes the picture the next one's reference.
pub fn planes(picture: &[u8], size: &Size, reference: &mut [u8]) {
    wide(Planes { picture, size, reference });
}

struct Planes<'a> {
    picture: &'a [u8],
    size: &'a Size,
    reference: &'a mut [u8],
}

impl Job for Planes<'_> {
    #[inline(always)]
    fn run(self) {
        let mut scratch = Scratch::new(self.size);
        let rows = self.reference.chunks_exact_mut(self.size.reference_stride());
        for (y, to) in rows.enumerate() {
            planes::row(self.picture, self.size, y, to, &mut scratch);
        }
    }
}

/// Pictures of the encoder that outlive one: the reference and the motion of the picture before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passes {
    size: Size,
    pub picture: Vec<u8>,
    pub levels: Vec<u8>,
    pub field: Vec<u8>,
    other: Vec<u8>,
    reference: Vec<u8>,
}

impl Passes {
    pub fn new(width: u32, height: u32) -> Self {
        let size = Size::new(width, height);
        let field = vec![0; MOTION_BYTES * size.count()];
        Self {
            picture: vec![0; size.picture_bytes()],
            levels: vec![0; RECORD_BYTES * size.count()],
            other: field.clone(),
            field,
            reference: vec![0; size.reference_bytes()],
            size,
        }
    }

    pub fn size(&self) -> Size {
        self.size
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        let fields = self.field.len() + self.other.len();
        self.picture.len() + self.levels.len() + self.reference.len() + fields
    }

    /// All passes over a tight NV12 frame; then `levels` and `field` are what is to be written, and
    /// `picture` is what a decoder will see.
    pub fn run(&mut self, frame: &[u8], coding: Coding) {
        let size = self.size;
        for number in 0..3 {
            let (reference, field) = (&self.reference[..], &self.field[..]);
            let round = Round { frame, reference, field, size: &size, qp: coding.qp };
            search(round, number, coding, &mut self.other);
            std::mem::swap(&mut self.field, &mut self.other);
        }
        let given = Given { frame, field: &self.field, size: &size, coding };
        inter(given, &self.reference, &mut self.picture, &mut self.levels);
        intra(given, &mut self.picture, &mut self.levels);
        if coding.deblock {
            deblock(&mut self.picture, &self.levels, &self.field, &size, coding);
        }
        planes(&self.picture, &size, &mut self.reference);
    }
}
