//! Merging runs by key. Where keys of runs do not interleave, parts of runs are handed on as they
//! are; where they do, rows are picked column by column; only a key that is in several runs, and
//! whose rows say different things, is merged by its states.

use std::sync::Arc;

use arrow::buffer::BooleanBuffer;

use crate::error::Result;
use crate::schema::Schema;

use super::{KeyedRow, Run, Versioned};

/// Rows in one piece from which they are handed on as they are.
const PIECE_ROWS: usize = 256;
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
        let start = run.lower_bound(from);
        let end = to.map_or(run.len(), |to| run.lower_bound(to));
        Slice { run, from: start, to: end.max(start) }
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

    /// All slices as one run.
    pub fn joined(schema: &Arc<Schema>, slices: &[Slice]) -> Result<Arc<Run>> {
        if let [one] = slices
            && one.len() == one.run.len()
        {
            return Ok(one.run.clone());
        }
        let runs: Vec<Arc<Run>> = slices.iter().map(|s| s.run.clone()).collect();
        let picks: Vec<(usize, usize)> = slices
            .iter()
            .enumerate()
            .flat_map(|(r, s)| (s.from..s.to).map(move |i| (r, i)))
            .collect();
        match picks.is_empty() {
            true => Ok(Arc::new(Run::of_rows(schema, [].into_iter())?)),
            false => Ok(Arc::new(Run::gathered(&runs, &picks)?)),
        }
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
    slices: &'a [Slice],
    heads: Vec<Head<'a>>,
}

impl<'a> Heads<'a> {
    fn new(slices: &'a [Slice]) -> Self {
        let mut heads = Heads { slices, heads: Vec::with_capacity(slices.len()) };
        (0..slices.len()).for_each(|slice| heads.add(slice, slices[slice].from));
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
        let Slice { run, to, .. } = &self.slices[slice];
        if at >= *to {
            return;
        }
        let key = run.key(at);
        let place = self.heads.iter().rposition(|head| head.key >= key).map_or(0, |p| p + 1);
        self.heads.insert(place, Head { key, slice, at });
    }
}

/// Rows of one slice that follow one another in the merged order.
struct Piece {
    slice: usize,
    from: usize,
    to: usize,
}

/// The rows of all slices in key order, each key once.
pub fn merge(schema: &Arc<Schema>, mut slices: Vec<Slice>) -> Result<Vec<Slice>> {
    slices.retain(|slice| slice.len() > 0);
    if slices.len() < 2 {
        return Ok(slices);
    }
    let (pieces, met) = pieces(&slices)?;
    let mut runs: Vec<Arc<Run>> = slices.iter().map(|slice| slice.run.clone()).collect();
    let met_rows = met.iter().map(|(key, row)| (&**key, &**row));
    runs.push(Arc::new(Run::of_rows(schema, met_rows)?));
    gather(&runs, &pieces)
}

/// The merged order, and the rows merged from several slices, which count as one slice more.
fn pieces(slices: &[Slice]) -> Result<(Vec<Piece>, Vec<KeyedRow>)> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut met: Vec<KeyedRow> = Vec::new();
    let mut add = |slice: usize, from: usize, to: usize| match pieces.last_mut() {
        Some(last) if last.slice == slice && last.to == from => last.to = to,
        _ => pieces.push(Piece { slice, from, to }),
    };
    let mut heads = Heads::new(slices);
    let mut same: Vec<(usize, usize)> = Vec::new();
    while let Some(first) = heads.pop() {
        let Some(next) = heads.peek() else {
            add(first.slice, first.at, slices[first.slice].to);
            break;
        };
        if first.key < next.key {
            let Slice { run, to, .. } = &slices[first.slice];
            let end = gallop(run, next.key, first.at + 1, *to);
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
        let mut rows = 1;
        match newest(slices, &same) {
            Some((slice, at)) => {
                rows = replaced(slices, &same, slice, heads.peek());
                add(slice, at, at + rows);
            }
            None => {
                add(slices.len(), met.len(), met.len() + 1);
                met.push(merged(slices, first.key, &same)?);
            }
        }
        same.iter().for_each(|(slice, at)| heads.add(*slice, at + rows));
    }
    Ok((pieces, met))
}

/// How many rows from here on, the first among them, two slices have of the same keys, those of
/// slice `newer` saying all that the other's do: tables are often written again as a whole.
fn replaced(
    slices: &[Slice],
    same: &[(usize, usize)],
    newer: usize,
    next: Option<&Head<'_>>,
) -> usize {
    let [a, b] = same else { return 1 };
    let ((new, at), (old, before)) = if a.0 == newer { (*a, *b) } else { (*b, *a) };
    let (new, old) = (&slices[new], &slices[old]);
    let most = (new.to - at).min(old.to - before);
    let is_replaced = |i: &usize| {
        let (at, before) = (at + i, before + i);
        new.run.key(at) == old.run.key(before)
            && next.is_none_or(|next| new.run.key(at) < next.key)
            && new.run.is_plain(at)
            && old.run.is_plain(before)
            && new.run.written(at) > old.run.written(before)
            && new.run.seq(at) >= old.run.seq(before)
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
    let mut pieces = Vec::new();
    for ((at, slice), mask) in slices.iter().enumerate().zip(&masks) {
        let mut add = |from, to| pieces.push(Piece { slice: at, from, to });
        match mask {
            None => add(slice.from, slice.to),
            Some(mask) => {
                mask.set_slices().for_each(|(a, b)| add(slice.from + a, slice.from + b));
            }
        }
    }
    let runs: Vec<Arc<Run>> = slices.into_iter().map(|slice| slice.run).collect();
    gather(&runs, &pieces)
}

/// The first place behind `from` whose key is not less than `key`, likely to be near.
fn gallop(run: &Run, key: &[u8], from: usize, to: usize) -> usize {
    let mut step = 1;
    let mut start = from;
    while start + step < to && run.key(start + step) < key {
        start += step;
        step *= 2;
    }
    run.lower_bound_in(key, start, to.min(start + step + 1))
}

/// The row among several of one key that says everything the others do.
fn newest(slices: &[Slice], same: &[(usize, usize)]) -> Option<(usize, usize)> {
    if !same.iter().all(|(slice, at)| slices[*slice].run.is_plain(*at)) {
        return None;
    }
    let by_stamp = |(slice, at): &&(usize, usize)| slices[*slice].run.written(*at);
    let by_seq = |(slice, at): &&(usize, usize)| slices[*slice].run.seq(*at);
    let newest = same.iter().max_by_key(by_stamp)?;
    let last_seq = same.iter().map(|pick| by_seq(&pick)).max()?;
    // Copies of one write are equal; of two writes with one stamp the states decide.
    let twin = same.iter().any(|pick| pick != newest && by_stamp(&pick) == by_stamp(&newest));
    (by_seq(&newest) == last_seq && !twin).then_some(*newest)
}

fn merged(slices: &[Slice], key: &[u8], same: &[(usize, usize)]) -> Result<KeyedRow> {
    let mut row = Versioned::default();
    for (i, (slice, at)) in same.iter().enumerate() {
        let run = &slices[*slice].run;
        match i {
            0 => row.state = run.state(*at)?,
            _ => drop(row.state.merge(&run.state(*at)?)),
        }
        row.seq = row.seq.max(run.seq(*at));
    }
    Ok((key.into(), Arc::new(row)))
}

/// Long pieces as they are, short ones gathered.
fn gather(runs: &[Arc<Run>], pieces: &[Piece]) -> Result<Vec<Slice>> {
    let mut slices = Vec::new();
    let mut picks: Vec<(usize, usize)> = Vec::new();
    let gathered = |picks: &mut Vec<(usize, usize)>, slices: &mut Vec<Slice>| -> Result<()> {
        if !picks.is_empty() {
            slices.push(Slice::whole(Arc::new(Run::gathered(runs, picks)?)));
            picks.clear();
        }
        Ok(())
    };
    for piece in pieces {
        if piece.to - piece.from < PIECE_ROWS && pieces.len() > PIECES_FEW {
            picks.extend((piece.from..piece.to).map(|i| (piece.slice, i)));
            continue;
        }
        gathered(&mut picks, &mut slices)?;
        slices.push(Slice { run: runs[piece.slice].clone(), from: piece.from, to: piece.to });
    }
    gathered(&mut picks, &mut slices)?;
    Ok(slices)
}
