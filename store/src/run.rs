//! Runs: rows of one table in key order, column by column.
//!
//! A segment read into memory is a run, memory is turned into one where it is scanned or flushed,
//! and a merge of runs is a run. Each row keeps what a merge needs: its stamp, the entry of this
//! store's history that changed it last, and its whole state where columns and stamp do not say
//! everything. A run has every column of its schema; one that is picked from others makes each
//! column when somebody asks for it, and so is one made that nobody was expected to ask for.

mod build;
pub mod column;
mod index;
mod merge;
pub mod pack;
mod pick;

use std::sync::{Arc, OnceLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, UInt64Array, new_null_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::TimestampMicrosecondType;

use crate::columns::Columns;
use crate::error::Result;
use crate::hash::Hashed;
use crate::key::is_less;
use crate::record;
use crate::row::{Cell, RowState, Stamp};
use crate::schema::Schema;
use crate::value::{Row, Value};
use column::{data_type, value_at};
use index::{Hit, Index};
use pack::Packed;
use pick::{Picked, Piece};

pub use build::RunBuilder;
pub use merge::{Slice, copied, kept, merge};

/// A row state and the last entry of this store's history that changed it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Versioned {
    /// Last entry that changed the row here.
    pub seq: u64,
    /// What is known of the row.
    pub state: RowState,
}

/// An encoded key and its row.
pub type KeyedRow = (Arc<[u8]>, Arc<Versioned>);

/// Sorted rows.
#[derive(Debug)]
pub struct Run {
    /// The table as it was when the run was made.
    pub schema: Arc<Schema>,
    rows: usize,
    /// Encoded keys, ascending, each once.
    keys: OnceLock<BinaryArray>,
    /// The table's columns as a reader sees them, by position.
    columns: Vec<OnceLock<ArrayRef>>,
    hlc: OnceLock<UInt64Array>,
    origin: OnceLock<UInt64Array>,
    seq: OnceLock<UInt64Array>,
    dead: OnceLock<BooleanArray>,
    states: OnceLock<BinaryArray>,
    /// No stamp in the run is newer than this clock reading.
    pub newest_hlc: u64,
    last_seq: OnceLock<u64>,
    index: OnceLock<Index>,
    /// Where columns come from that are not there yet.
    source: Option<Picked>,
}

/// The columns of a run beside the table's, which a reader does not see.
#[derive(Clone, Debug)]
pub struct Hidden {
    /// Clock readings of the newest writes.
    pub hlc: UInt64Array,
    /// Stores that took them.
    pub origin: UInt64Array,
    /// Entries of this store's history that changed the rows last.
    pub seq: UInt64Array,
    /// Rows that are deleted.
    pub dead: BooleanArray,
    /// Encoded row states, null where columns and stamp say everything.
    pub states: BinaryArray,
}

/// What a run is made of, all of it checked to fit together. Of what is not there, values are
/// nulls, stamps are zeros, and rows are neither deleted nor have a state.
pub struct Parts {
    pub rows: usize,
    /// Of no rows where nobody looks at them.
    pub keys: BinaryArray,
    pub columns: Vec<Option<ArrayRef>>,
    /// Clock readings, stores and entries.
    pub stamps: Option<[UInt64Array; 3]>,
    /// Which rows are deleted, and states.
    pub states: Option<(BooleanArray, BinaryArray)>,
    pub newest_hlc: u64,
}

impl Run {
    /// Rows in key order as a run.
    pub fn of_rows<'a>(
        schema: &Arc<Schema>,
        rows: impl ExactSizeIterator<Item = (&'a [u8], &'a Versioned)>,
    ) -> Result<Run> {
        let mut run = RunBuilder::new(schema, &Columns::All, rows.len());
        for (key, row) in rows {
            run.push(key, row.seq, &row.state)?;
        }
        Ok(run.finish())
    }

    /// A run that has everything.
    pub fn of_columns(
        schema: &Arc<Schema>,
        keys: BinaryArray,
        columns: Vec<ArrayRef>,
        hidden: Hidden,
        newest_hlc: u64,
    ) -> Run {
        let Hidden { hlc, origin, seq, dead, states } = hidden;
        let parts = Parts {
            rows: dead.len(),
            keys,
            columns: columns.into_iter().map(Some).collect(),
            stamps: Some([hlc, origin, seq]),
            states: Some((dead, states)),
            newest_hlc,
        };
        Run::of_parts(schema, parts)
    }

    /// A run from its parts.
    pub fn of_parts(schema: &Arc<Schema>, parts: Parts) -> Run {
        fn cell<T>(there: Option<T>) -> OnceLock<T> {
            there.map_or_else(OnceLock::new, OnceLock::from)
        }
        let Parts { rows, keys, columns, stamps, states, newest_hlc } = parts;
        let [hlc, origin, seq] = match stamps {
            Some(stamps) => stamps.map(OnceLock::from),
            None => std::array::from_fn(|_| OnceLock::new()),
        };
        let (dead, states) = states.unzip();
        Run {
            schema: schema.clone(),
            rows,
            keys: keys.into(),
            columns: columns.into_iter().map(cell).collect(),
            hlc,
            origin,
            seq,
            dead: cell(dead),
            states: cell(states),
            newest_hlc,
            last_seq: OnceLock::new(),
            index: OnceLock::new(),
            source: None,
        }
    }

    /// The rows that were picked from other runs of the same schema.
    fn of_picked(picked: Picked) -> Result<Run> {
        let schema = picked.schema().clone();
        let run = Run {
            rows: picked.rows(),
            keys: OnceLock::new(),
            columns: schema.columns.iter().map(|_| OnceLock::new()).collect(),
            hlc: OnceLock::new(),
            origin: OnceLock::new(),
            seq: OnceLock::new(),
            dead: OnceLock::new(),
            states: OnceLock::new(),
            newest_hlc: picked.newest_hlc(),
            last_seq: OnceLock::new(),
            index: OnceLock::new(),
            source: Some(picked),
            schema,
        };
        run.check_reach()?;
        Ok(run)
    }

    /// Makes those columns now whose offsets may not reach all of their values, which fails if they
    /// do not. The others cannot fail later.
    fn check_reach(&self) -> Result<()> {
        let Some(source) = &self.source else { return Ok(()) };
        for number in self.schema.shown.iter().copied() {
            if !column::has_offsets(self.schema.column_at(number)) {
                continue;
            }
            if let Some(array) = source.checked(self.column_bytes(number), |r| r.column(number))? {
                drop(self.columns[number as usize].set(array));
            }
        }
        if let Some(keys) = source.checked(self.keys_bytes(), Run::keys)? {
            drop(self.keys.set(keys));
        }
        if let Some(states) = source.checked(self.states_bytes(), Run::states)? {
            drop(self.states.set(states));
        }
        Ok(())
    }

    /// The same rows, with all columns made and on their own.
    pub fn settled(self: Arc<Run>) -> Arc<Run> {
        if self.source.is_none() {
            return self;
        }
        let columns = (0..self.columns.len() as u16).map(|n| self.column(n).clone()).collect();
        let (keys, hidden) = (self.keys().clone(), self.hidden());
        Arc::new(Run::of_columns(&self.schema, keys, columns, hidden, self.newest_hlc))
    }

    /// Rows, deleted ones included.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// A column of the table as a reader sees it.
    pub fn column(&self, number: u16) -> &ArrayRef {
        self.columns[number as usize].get_or_init(|| match &self.source {
            Some(source) => source.array(|run| run.column(number)),
            None => new_null_array(&data_type(self.schema.column_at(number)), self.rows),
        })
    }

    fn keys(&self) -> &BinaryArray {
        self.keys.get_or_init(|| match &self.source {
            Some(source) => source.hidden(Run::keys),
            None => BinaryArray::from_vec(Vec::new()),
        })
    }

    fn hlc(&self) -> &UInt64Array {
        self.hlc.get_or_init(|| self.stamps(Run::hlc))
    }

    fn origin(&self) -> &UInt64Array {
        self.origin.get_or_init(|| self.stamps(Run::origin))
    }

    fn seqs(&self) -> &UInt64Array {
        self.seq.get_or_init(|| self.stamps(Run::seqs))
    }

    fn stamps(&self, of: fn(&Run) -> &UInt64Array) -> UInt64Array {
        match &self.source {
            Some(source) => source.hidden(of),
            None => UInt64Array::new(vec![0; self.rows].into(), None),
        }
    }

    fn states(&self) -> &BinaryArray {
        self.states.get_or_init(|| match &self.source {
            Some(source) => source.hidden(Run::states),
            None => BinaryArray::new_null(self.rows),
        })
    }

    /// Which rows are deleted.
    pub fn dead(&self) -> &BooleanArray {
        self.dead.get_or_init(|| match &self.source {
            Some(source) => source.hidden(Run::dead),
            None => BooleanArray::new(BooleanBuffer::new_unset(self.rows), None),
        })
    }

    /// All that a reader does not see.
    pub fn hidden(&self) -> Hidden {
        Hidden {
            hlc: self.hlc().clone(),
            origin: self.origin().clone(),
            seq: self.seqs().clone(),
            dead: self.dead().clone(),
            states: self.states().clone(),
        }
    }

    /// The last entry that changed any of the rows.
    pub fn last_seq(&self) -> u64 {
        let seqs = || self.seqs().values().iter().copied().max().unwrap_or(0);
        *self.last_seq.get_or_init(seqs)
    }

    /// The encoded key of a row.
    pub fn key(&self, i: usize) -> &[u8] {
        self.keys().value(i)
    }

    /// The row with this key. The first to ask makes the index.
    pub fn find(&self, wanted: Hashed<'_>) -> Option<Hit<'_>> {
        self.index.get_or_init(|| Index::of(self)).find(wanted)
    }

    /// True if columns and stamp say everything about a row that was found.
    pub fn says_all(&self, hit: Hit<'_>) -> bool {
        hit.packed.is_some() || self.is_plain(hit.at)
    }

    /// What a reader sees of a row that was found by this key.
    pub fn row_found(&self, key: &[u8], hit: Hit<'_>) -> Result<Row> {
        match hit.packed {
            Some(packed) => visible_packed(&self.schema, key, packed),
            None => Ok(self.row(hit.at)),
        }
    }

    /// Where the first key begins in the bytes of all.
    fn first_key_at(&self) -> usize {
        self.keys().value_offsets().first().map_or(0, |first| *first as usize)
    }

    /// The first row in `[from, to)` whose key is not less than `key`, or `to`.
    pub fn lower_bound(&self, key: &[u8], from: usize, to: usize) -> usize {
        let (mut from, mut to) = (from, to);
        while from < to {
            let middle = from + (to - from) / 2;
            match is_less(self.key(middle), key) {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        from
    }

    /// True if the row is deleted.
    pub fn is_dead(&self, i: usize) -> bool {
        self.dead().value(i)
    }

    /// True if columns and stamp say everything about the row.
    pub fn is_plain(&self, i: usize) -> bool {
        self.has_no_states() || self.states().is_null(i)
    }

    /// True if columns and stamp say everything about each row, and nobody has looked yet.
    fn has_no_states(&self) -> bool {
        self.source.is_none() && self.states.get().is_none()
    }

    /// True if no row is deleted, and columns and stamp say everything about each.
    pub fn is_all_plain(&self) -> bool {
        self.states().null_count() == self.rows && self.dead().true_count() == 0
    }

    /// Stamp of the row's newest write.
    pub fn written(&self, i: usize) -> Stamp {
        Stamp { hlc: self.hlc().value(i), origin: self.origin().value(i) }
    }

    /// The entry that changed the row last.
    pub fn seq(&self, i: usize) -> u64 {
        self.seqs().value(i)
    }

    /// What a reader sees in a column.
    pub fn value(&self, number: u16, i: usize) -> Value {
        value_at(self.schema.column_at(number), self.column(number), i)
    }

    /// What a reader sees of a row.
    pub fn row(&self, i: usize) -> Row {
        let values = self.schema.shown.iter().map(|n| self.value(*n, i)).collect();
        Row::of(self.schema.shown_names.clone(), values)
    }

    /// The row's whole state.
    pub fn state(&self, i: usize) -> Result<RowState> {
        if !self.is_plain(i) {
            return record::decode("row state", self.states().value(i));
        }
        let values = &self.schema.values;
        let cells = values.iter().map(|n| (*n, Cell::Fresh(self.value(*n, i)))).collect();
        Ok(RowState { written: self.written(i), deleted: Stamp::default(), cells })
    }

    /// The row with its key.
    pub fn keyed(&self, i: usize) -> Result<KeyedRow> {
        let row = Versioned { seq: self.seq(i), state: self.state(i)? };
        Ok((self.key(i).into(), Arc::new(row)))
    }

    /// The run again with the columns of `schema`, made of the states of its rows.
    pub fn rebuilt(&self, schema: &Arc<Schema>) -> Result<Run> {
        let numbers = self.schema.names.iter().map(|name| schema.place_of(name));
        let numbers = numbers.collect::<Result<Vec<_>>>()?;
        let row = |i| -> Result<(&[u8], Versioned)> {
            let mut state = self.state(i)?;
            if self.is_plain(i) {
                let cells = std::mem::take(&mut state.cells).into_iter();
                let placed = cells.filter_map(|(n, cell)| Some((numbers[n as usize]?, cell)));
                state.cells = placed.collect();
                state.cells.sort_by_key(|(n, _)| *n);
            }
            Ok((self.key(i), Versioned { seq: self.seq(i), state }))
        };
        let rows = (0..self.len()).map(row).collect::<Result<Vec<_>>>()?;
        Run::of_rows(schema, rows.iter().map(|(key, row)| (*key, row)))
    }

    /// Which of the rows in `[from, to)` have a time of `first_us` or later in a column; none
    /// means that all do.
    fn timed_from(
        &self,
        number: u16,
        first_us: i64,
        from: usize,
        to: usize,
    ) -> Option<BooleanBuffer> {
        let times = self.column(number).as_primitive::<TimestampMicrosecondType>();
        let times = &times.values()[from..to];
        let later = BooleanBuffer::collect_bool(times.len(), |i| times[i] >= first_us);
        (later.count_set_bits() < later.len()).then_some(later)
    }

    /// Bytes in memory, roughly; of columns that are not made yet what those come to that they are
    /// picked from.
    pub fn weight(&self) -> usize {
        // Stamp and entry.
        let fixed = 8 + 8 + 8;
        let index = self.index.get().map_or(0, Index::weight);
        self.shown_bytes() + self.states_bytes() + self.keys_bytes() + self.len() * fixed + index
    }

    /// Bytes of the rows in `[from, to)`, as far as their columns are made, roughly.
    pub fn bytes_between(&self, from: usize, to: usize) -> usize {
        let columns = self.columns.iter().filter_map(|column| column.get());
        let columns = columns.map(|column| column::bytes_between(column, from, to));
        let keys = self.keys.get().filter(|keys| keys.len() == self.rows);
        let others = [keys, self.states.get()].into_iter().flatten();
        let others = others.map(|array| column::bytes_between(array, from, to));
        let stamps = [&self.hlc, &self.origin, &self.seq];
        let stamps = stamps.iter().filter(|stamps| stamps.get().is_some()).count();
        columns.chain(others).sum::<usize>() + (to - from) * stamps * size_of::<u64>()
    }

    /// The rows in `[from, to)` on their own, with those of their columns that are made.
    fn part(self: &Arc<Run>, from: usize, to: usize) -> Run {
        let piece = Piece { run: 0, from: from as u32, to: to as u32 };
        let picked = Picked::new(vec![self.clone()], vec![piece]);
        let is_lazy = self.source.is_some();
        let column = |number: u16| {
            let is_made = is_lazy || self.columns[number as usize].get().is_some();
            is_made.then(|| picked.array(|run| run.column(number)))
        };
        let has_keys = is_lazy || self.keys.get().is_some_and(|keys| keys.len() == self.rows);
        let stamps = [&self.hlc, &self.origin, &self.seq];
        let has_stamps = is_lazy || stamps.iter().all(|stamps| stamps.get().is_some());
        let has_states = is_lazy || self.dead.get().is_some() && self.states.get().is_some();
        let parts = Parts {
            rows: picked.rows(),
            keys: match has_keys {
                true => picked.hidden(Run::keys),
                false => BinaryArray::from_vec(Vec::new()),
            },
            columns: (0..self.columns.len() as u16).map(column).collect(),
            stamps: has_stamps.then(|| {
                [picked.hidden(Run::hlc), picked.hidden(Run::origin), picked.hidden(Run::seqs)]
            }),
            states: has_states.then(|| (picked.hidden(Run::dead), picked.hidden(Run::states))),
            newest_hlc: self.newest_hlc,
        };
        Run::of_parts(&self.schema, parts)
    }

    /// The same rows with these of the columns that a reader sees and nothing else, on their own.
    fn seen_alone(&self, columns: &Columns) -> Run {
        let is_wanted = |n: u16| columns.has(n) && self.schema.shown.contains(&n);
        let column = |n: u16| is_wanted(n).then(|| self.column(n).clone());
        let parts = Parts {
            rows: self.rows,
            keys: BinaryArray::from_vec(Vec::new()),
            columns: (0..self.columns.len() as u16).map(column).collect(),
            stamps: None,
            states: None,
            newest_hlc: self.newest_hlc,
        };
        Run::of_parts(&self.schema, parts)
    }

    /// Bytes that the index will take, roughly, if it is not made yet.
    pub fn index_to_come(&self) -> usize {
        match self.index.get() {
            Some(_) => 0,
            None => Index::weight_of(self.len(), self.keys_bytes(), self.shown_bytes()),
        }
    }

    fn shown_bytes(&self) -> usize {
        (0..self.columns.len() as u16).map(|n| self.column_bytes(n)).sum()
    }

    fn column_bytes(&self, number: u16) -> usize {
        let column = self.columns[number as usize].get().map(|c| c.get_array_memory_size());
        column.unwrap_or_else(|| self.source_bytes(|run| run.column_bytes(number)))
    }

    fn keys_bytes(&self) -> usize {
        let keys = self.keys.get().map(|keys| keys.get_array_memory_size());
        keys.unwrap_or_else(|| self.source_bytes(Run::keys_bytes))
    }

    fn states_bytes(&self) -> usize {
        let states = self.states.get().map(|states| states.get_array_memory_size());
        states.unwrap_or_else(|| self.source_bytes(Run::states_bytes))
    }

    fn source_bytes(&self, of: impl Fn(&Run) -> usize) -> usize {
        self.source.as_ref().map_or(0, |source| source.bytes(of))
    }
}

/// The row as a reader sees it (also if it is deleted: then all but the key is null).
pub fn visible_row(schema: &Schema, key: &[u8], state: &RowState) -> Result<Row> {
    let mut values = vec![Value::Null; schema.columns.len()];
    schema.key_values_into(key, &mut values)?;
    for number in &schema.values {
        values[*number as usize] = state.value(*number, schema.column_at(*number).merge);
    }
    if schema.has_dropped() {
        values = schema.shown.iter().map(|n| std::mem::take(&mut values[*n as usize])).collect();
    }
    Ok(Row::of(schema.shown_names.clone(), values))
}

/// Like [`visible_row`], of a row that is packed.
pub fn visible_packed(schema: &Schema, key: &[u8], packed: Packed<'_>) -> Result<Row> {
    if schema.has_dropped() || !packed.is_all_of(schema) {
        return visible_row(schema, key, &packed.state(Stamp { hlc: 1, origin: 0 }));
    }
    let mut values = vec![Value::Null; schema.columns.len()];
    schema.key_values_into(key, &mut values)?;
    for (number, value) in packed {
        values[number as usize] = value.to_value();
    }
    Ok(Row::of(schema.shown_names.clone(), values))
}

/// True if the visible columns and the row's stamp say everything.
pub fn is_plain(schema: &Schema, state: &RowState) -> bool {
    state.deleted == Stamp::default()
        && state.cells.len() == schema.values.len()
        && state.cells.iter().all(|(_, cell)| matches!(cell, Cell::Fresh(_)))
}

#[cfg(test)]
mod tests;
