//! Merging runs by key. Where keys of runs do not interleave, parts of runs are handed on as they
//! are; where they do, rows are picked column by column; only a key that is in several runs, and
//! whose rows say different things, is merged by its states.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::Array;
use arrow::buffer::{BooleanBuffer, NullBuffer};

use crate::columns::Columns;
use crate::error::Result;
use crate::key::is_less;
use crate::row::Stamp;
use crate::schema::Schema;

use super::pick::{Picked, Piece};
use super::{KeyedRow, Run, Versioned};

/// Rows in one piece from which they are handed on as they are: fewer are copied in less time than
/// a reader needs for a slice more.
const PIECE_ROWS: usize = 4_096;
/// Pieces that are handed on as they are however short they are.
const PIECES_FEW: usize = 8;

/// Part of a run.
#[derive(Clone, Debug)]
pub struct Slice {
    pub run: Arc<Run>,
    pub from: usize,
    pub to: usize,
}

impl Slice {
    /// All of a run.
    pub fn whole(run: Arc<Run>) -> Self {
        let to = run.len();
        Slice { run, from: 0, to }
    }

    /// The rows in `[from, to)`.
    pub fn range(run: Arc<Run>, from: &[u8], to: Option<&[u8]>) -> Self {
        let all = Slice::whole(run);
        let start = all.lower_bound(from);
        let behind = Slice { from: start, ..all };
        let end = to.map_or(behind.to, |to| behind.lower_bound(to));
        Slice { to: end, ..behind }
    }

    /// The first of the rows whose key is not less than `key`, or the end of them.
    pub fn lower_bound(&self, key: &[u8]) -> usize {
        self.run.lower_bound(key, self.from, self.to)
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.to - self.from
    }

    /// The same rows as `schema` has them.
    pub fn of_schema(self, schema: &Arc<Schema>) -> Result<Slice> {
        match self.run.schema.is(schema) {
            true => Ok(self),
            false => Ok(Slice { run: Arc::new(self.run.rebuilt(schema)?), ..self }),
        }
    }

    /// Which of the rows live at `now_ms`, by the table as it is; none means that all do.
    pub fn living(&self, schema: &Schema, now_ms: u64) -> Option<BooleanBuffer> {
        let (number, first_us) = schema.lives_from(now_ms)?;
        self.run.timed_from(number, first_us, self.from, self.to)
    }

    /// The rows with their keys.
    pub fn keyed_rows(&self) -> impl Iterator<Item = Result<KeyedRow>> + '_ {
        (self.from..self.to).map(|i| self.run.keyed(i))
    }

    /// The same rows on their own: the rest of the run can go.
    pub fn alone(self) -> Slice {
        match self.len() == self.run.len() {
            true => self,
            false => Slice::whole(Arc::new(self.run.part(self.from, self.to))),
        }
    }

    /// All slices as one run.
    pub fn joined(schema: &Arc<Schema>, slices: &[Slice]) -> Result<Arc<Run>> {
        if let [one] = slices
            && one.len() == one.run.len()
        {
            return Ok(one.run.clone().settled());
        }
        let slices = slices.iter().filter(|slice| slice.len() > 0);
        let runs: Vec<Arc<Run>> = slices.clone().map(|slice| slice.run.clone()).collect();
        if runs.is_empty() {
            return Ok(Arc::new(Run::of_rows(schema, [].into_iter())?));
        }
        let pieces = (0..).zip(slices).map(|(run, slice)| piece(run, slice.from, slice.to));
        let picked = Picked::new(runs, pieces.collect());
        Ok(Arc::new(Run::of_picked(picked)?).settled())
    }
}

/// What a merge looks at of a slice, looked up once for all rows.
struct Rows<'a> {
    keys: &'a [u8],
    /// Where the keys begin and end.
    ends: &'a [i32],
    /// Bytes of each key, where all have as many: then nobody needs to look where they begin.
    key_bytes: Option<usize>,
    to: usize,
    hlc: &'a [u64],
    origin: &'a [u64],
    seq: &'a [u64],
    /// True if columns and stamp say everything about every row.
    all_plain: bool,
    /// Where it is null, they do about that one.
    states: Option<&'a NullBuffer>,
    /// No stamp is newer than this clock reading, and no entry than that.
    newest_hlc: u64,
    last_seq: u64,
}

impl<'a> Rows<'a> {
    fn of(slice: &'a Slice) -> Self {
        let run = &slice.run;
        let (keys, ends) = (run.keys().value_data(), run.keys().value_offsets());
        let states = run.states();
        Rows {
            keys: keys.get(run.first_key_at()..).unwrap_or_default(),
            ends,
            key_bytes: run.schema.key_bytes(),
            to: slice.to,
            hlc: run.hlc().values(),
            origin: run.origin().values(),
            seq: run.seqs().values(),
            all_plain: states.null_count() == states.len(),
            states: states.nulls(),
            newest_hlc: run.newest_hlc,
            last_seq: run.last_seq(),
        }
    }

    fn key(&self, at: usize) -> &'a [u8] {
        let (from, to) = match self.key_bytes {
            Some(bytes) => (at * bytes, (at + 1) * bytes),
            None => {
                let first = self.ends[0];
                ((self.ends[at] - first) as usize, (self.ends[at + 1] - first) as usize)
            }
        };
        &self.keys[from..to]
    }

    fn written(&self, at: usize) -> Stamp {
        Stamp { hlc: self.hlc[at], origin: self.origin[at] }
    }

    fn is_plain(&self, at: usize) -> bool {
        self.all_plain || self.states.is_some_and(|states| states.is_null(at))
    }

    /// The first place behind `from` whose key is not less than `key`, likely to be near.
    fn gallop(&self, key: &[u8], from: usize) -> usize {
        let (mut step, mut start) = (1, from);
        while start + step < self.to && is_less(self.key(start + step), key) {
            start += step;
            step *= 2;
        }
        let mut end = self.to.min(start + step + 1);
        while start < end {
            let middle = start + (end - start) / 2;
            match is_less(self.key(middle), key) {
                true => start = middle + 1,
                false => end = middle,
            }
        }
        start
    }
}

/// The next row of a slice in a merge.
struct Head<'a> {
    key: &'a [u8],
    slice: usize,
    at: usize,
}

/// The next rows of all slices that have any left, the one with the smallest key last. There are
/// few slices, so a place is found by walking.
struct Heads<'a> {
    rows: &'a [Rows<'a>],
    heads: Vec<Head<'a>>,
}

impl<'a> Heads<'a> {
    fn new(rows: &'a [Rows<'a>], slices: &[Slice]) -> Self {
        let mut heads = Heads { rows, heads: Vec::with_capacity(rows.len()) };
        (0..rows.len()).for_each(|slice| heads.add(slice, slices[slice].from));
        heads
    }

    /// The row with the smallest key.
    fn pop(&mut self) -> Option<Head<'a>> {
        self.heads.pop()
    }

    /// The row with the next key.
    fn peek(&self) -> Option<&Head<'a>> {
        self.heads.last()
    }

    /// Goes on with a slice at this row, if it has it.
    fn add(&mut self, slice: usize, at: usize) {
        let rows = &self.rows[slice];
        if at >= rows.to {
            return;
        }
        let key = rows.key(at);
        let place = self.heads.iter().rposition(|head| !is_less(head.key, key));
        self.heads.insert(place.map_or(0, |place| place + 1), Head { key, slice, at });
    }
}

/// The rows of all slices in key order, each key once.
pub fn merge(schema: &Arc<Schema>, mut slices: Vec<Slice>) -> Result<Vec<Slice>> {
    slices.retain(|slice| slice.len() > 0);
    if slices.len() < 2 {
        return Ok(slices);
    }
    let (pieces, met) = pieces(&slices)?;
    let mut runs: Vec<Arc<Run>> = slices.iter().map(|slice| slice.run.clone()).collect();
    if !met.is_empty() {
        let met_rows = met.iter().map(|(key, row)| (&**key, &**row));
        runs.push(Arc::new(Run::of_rows(schema, met_rows)?));
    }
    gather(&runs, &pieces)
}

/// The merged order, and the rows merged from several slices, which count as one slice more.
fn pieces(slices: &[Slice]) -> Result<(Vec<Piece>, Vec<KeyedRow>)> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut met: Vec<KeyedRow> = Vec::new();
    let mut add = |slice: usize, from: usize, to: usize| match pieces.last_mut() {
        Some(last) if last.run as usize == slice && last.to as usize == from => last.to = to as u32,
        _ => pieces.push(piece(slice, from, to)),
    };
    let rows: Vec<Rows<'_>> = slices.iter().map(Rows::of).collect();
    let mut heads = Heads::new(&rows, slices);
    let mut same: Vec<(usize, usize)> = Vec::new();
    while let Some(first) = heads.pop() {
        let of = &rows[first.slice];
        let Some(next) = heads.peek() else {
            add(first.slice, first.at, of.to);
            break;
        };
        if first.key != next.key {
            let end = of.gallop(next.key, first.at + 1);
            add(first.slice, first.at, end);
            heads.add(first.slice, end);
            continue;
        }
        same.clear();
        same.push((first.slice, first.at));
        while let Some(other) = heads.peek()
            && other.key == first.key
        {
            same.push((other.slice, other.at));
            heads.pop();
        }
        let mut count = 1;
        match newest(&rows, &same) {
            Some((slice, at)) => {
                count = replaced(&rows, &same, slice, heads.peek());
                add(slice, at, at + count);
            }
            None => {
                add(slices.len(), met.len(), met.len() + 1);
                met.push(merged(slices, first.key, &same)?);
            }
        }
        same.iter().for_each(|(slice, at)| heads.add(*slice, at + count));
    }
    Ok((pieces, met))
}

/// How many rows from here on, the first among them, two slices have of the same keys, those of
/// slice `newer` saying all that the other's do: tables are often written again as a whole.
fn replaced(
    rows: &[Rows<'_>],
    same: &[(usize, usize)],
    newer: usize,
    next: Option<&Head<'_>>,
) -> usize {
    let [a, b] = same else { return 1 };
    let ((new, at), (old, before)) = if a.0 == newer { (*a, *b) } else { (*b, *a) };
    let (new, old) = (&rows[new], &rows[old]);
    let most = (new.to - at).min(old.to - before);
    let is_replaced = |i: &usize| {
        let (at, before) = (at + i, before + i);
        new.key(at) == old.key(before)
            && next.is_none_or(|next| is_less(new.key(at), next.key))
            && new.is_plain(at)
            && old.is_plain(before)
            && new.written(at) > old.written(before)
            && new.seq[at] >= old.seq[before]
    };
    (1..most).find(|i| !is_replaced(i)).unwrap_or(most)
}

/// The rows of slices that `keep` says of each; none means all.
pub fn kept(
    slices: Vec<Slice>,
    keep: impl Fn(&Slice) -> Option<BooleanBuffer>,
) -> Result<Vec<Slice>> {
    let masks: Vec<Option<BooleanBuffer>> = slices.iter().map(keep).collect();
    if masks.iter().all(Option::is_none) {
        return Ok(slices);
    }
    let pieces = left(&slices, &masks);
    let runs: Vec<Arc<Run>> = slices.into_iter().map(|slice| slice.run).collect();
    gather(&runs, &pieces)
}

/// The rows of slices that `masks` say (none means all), as one run on its own that has these of
/// the columns that a reader sees and nothing else; `None` if there are none.
pub fn copied(
    slices: &[Slice],
    masks: &[Option<BooleanBuffer>],
    columns: &Columns,
) -> Result<Option<Arc<Run>>> {
    let pieces = left(slices, masks);
    if pieces.iter().all(|piece| piece.len() == 0) {
        return Ok(None);
    }
    let runs = slices.iter().map(|slice| slice.run.clone()).collect();
    let picked = Run::of_picked(Picked::new(runs, pieces))?;
    Ok(Some(Arc::new(picked.seen_alone(columns))))
}

/// What masks leave of slices.
fn left(slices: &[Slice], masks: &[Option<BooleanBuffer>]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for ((at, slice), mask) in slices.iter().enumerate().zip(masks) {
        let mut add = |from, to| pieces.push(piece(at, from, to));
        match mask {
            None => add(slice.from, slice.to),
            Some(mask) => {
                mask.set_slices().for_each(|(a, b)| add(slice.from + a, slice.from + b));
            }
        }
    }
    pieces
}

/// The row among several of one key that says everything the others do.
fn newest(rows: &[Rows<'_>], same: &[(usize, usize)]) -> Option<(usize, usize)> {
    if !same.iter().all(|(slice, at)| rows[*slice].is_plain(*at)) {
        return None;
    }
    if let [a, b] = same {
        // Two layers of which one is newer as a whole: the older one's stamps are not looked at.
        let is_newer = |(slice, at): (usize, usize), other: usize| {
            let (rows, other) = (&rows[slice], &rows[other]);
            rows.hlc[at] > other.newest_hlc && rows.seq[at] >= other.last_seq
        };
        if is_newer(*a, b.0) {
            return Some(*a);
        }
        if is_newer(*b, a.0) {
            return Some(*b);
        }
    }
    let written = |(slice, at): (usize, usize)| rows[slice].written(at);
    let seq = |(slice, at): (usize, usize)| rows[slice].seq[at];
    let (first, others) = same.split_first()?;
    // Copies of one write are equal; of two writes with one stamp the states decide.
    let (mut newest, mut twin, mut last_seq) = (*first, false, seq(*first));
    for other in others {
        last_seq = last_seq.max(seq(*other));
        match written(*other).cmp(&written(newest)) {
            Ordering::Greater => (newest, twin) = (*other, false),
            Ordering::Equal => twin = true,
            Ordering::Less => {}
        }
    }
    (seq(newest) == last_seq && !twin).then_some(newest)
}

fn merged(slices: &[Slice], key: &[u8], same: &[(usize, usize)]) -> Result<KeyedRow> {
    let mut row = Versioned::default();
    let is_plain = |(slice, at): &&(usize, usize)| slices[*slice].run.is_plain(*at);
    for (slice, at) in same.iter().filter(|place| !is_plain(place)) {
        row.state.absorb(slices[*slice].run.state(*at)?);
    }
    for (slice, at) in same.iter().filter(is_plain) {
        let (run, state) = (&slices[*slice].run, &mut row.state);
        // Of plain values that were deleted nothing is left but when they were written.
        match state.cells.is_empty() && run.written(*at) <= state.deleted {
            true => state.written = state.written.max(run.written(*at)),
            false => state.absorb(run.state(*at)?),
        }
    }
    row.seq = same.iter().map(|(slice, at)| slices[*slice].run.seq(*at)).max().unwrap_or(0);
    Ok((key.into(), Arc::new(row)))
}

/// Rows of a run; a run has less than 2^32.
fn piece(run: usize, from: usize, to: usize) -> Piece {
    Piece { run: run as u32, from: from as u32, to: to as u32 }
}

/// Long pieces as they are, short ones gathered.
fn gather(runs: &[Arc<Run>], pieces: &[Piece]) -> Result<Vec<Slice>> {
    let mut slices = Vec::new();
    let mut short: Vec<Piece> = Vec::new();
    let gathered = |short: &mut Vec<Piece>, slices: &mut Vec<Slice>| -> Result<()> {
        if !short.is_empty() {
            let picked = Picked::new(runs.to_vec(), std::mem::take(short));
            slices.push(Slice::whole(Arc::new(Run::of_picked(picked)?)));
        }
        Ok(())
    };
    for piece in pieces {
        if piece.len() < PIECE_ROWS && pieces.len() > PIECES_FEW {
            short.push(*piece);
            continue;
        }
        gathered(&mut short, &mut slices)?;
        let (run, from, to) = (&runs[piece.run as usize], piece.from as usize, piece.to as usize);
        slices.push(Slice { run: run.clone(), from, to });
    }
    gathered(&mut short, &mut slices)?;
    Ok(slices)
}
