//! Segments: immutable runs of one partition, as Parquet.
//!
//! The columns of the table come first, as a reader sees them, so that any Parquet tool can use
//! a segment. Hidden columns follow: `_hlc` and `_origin` (stamp of the newest write), `_seq`
//! (position in this store's history), `_dead` (the row is deleted), and `_state`, the whole
//! encoded row state where the columns and stamp alone do not give it back.

mod encoding;
mod file;
mod unlisted;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use arrow::array::{Array, ArrayRef, BinaryArray, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::engine::End;
use crate::error::{Error, Result};
use crate::key::is_less;
use crate::objects::Objects;
use crate::run::column::{encoded_keys, field, narrowed, widened};
use crate::run::{Hidden, Parts, Run};
use crate::schema::Schema;
use crate::spec::TableSpec;
use encoding::{PAGE_ROWS, properties};
use file::{File, Pages, Tail};

pub use unlisted::listing;

/// The columns that a reader does not see.
const HIDDEN: [&str; 5] = ["_hlc", "_origin", "_seq", "_dead", "_state"];
/// Those that only merges look at.
const STAMPS: [&str; 3] = ["_hlc", "_origin", "_seq"];
/// Those of rows that are deleted, or of which columns and stamp do not say everything.
const STATES: [&str; 2] = ["_dead", "_state"];

/// How many rows a segment has at least for a few of them to be decoded alone, and how small a
/// part of it these are.
const FEW_ROWS_MIN: u64 = 2 * PAGE_ROWS as u64;
const FEW_OF: u64 = 16;
/// How often a few rows of a segment are decoded alone before it is decoded whole and kept.
const PARTS_MAX: u8 = 2;

/// A segment as the manifest lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentMeta {
    /// Object name.
    pub name: String,
    /// Rows, deleted ones included.
    pub rows: u64,
    /// Bytes of the object.
    pub bytes: u64,
    /// CRC32C of the object.
    pub crc32c: u32,
    /// Smallest encoded key, hexadecimal.
    pub min_key: String,
    /// Largest encoded key, hexadecimal.
    pub max_key: String,
    /// Largest `_seq`.
    pub max_seq: u64,
    /// No stamp in the segment is newer than this clock reading. Segments of earlier programs lack
    /// it, and show an empty set where there is none.
    #[serde(default)]
    pub newest_hlc: Option<u64>,
    /// What follows the columns in the object; segments of earlier programs are read whole.
    #[serde(default)]
    pub tail: Option<Tail>,
    /// True if no row is deleted, and columns and stamp say everything about each.
    #[serde(default)]
    pub plain: bool,
}

/// A segment that can be read.
#[derive(Debug)]
pub struct Segment {
    /// As listed.
    pub meta: SegmentMeta,
    min_key: Vec<u8>,
    max_key: Vec<u8>,
    /// The rows with these of their columns, while they are kept in memory.
    run: RwLock<Option<(Arc<Run>, Columns)>>,
    /// True if the rows were looked at since the cache last asked.
    used: AtomicBool,
    /// Lets one reader decode while the others wait.
    decoding: tokio::sync::Mutex<()>,
    /// How often a part was decoded alone.
    parts: AtomicU8,
    /// Why it did not read when that was last tried.
    fault: RwLock<Option<Arc<str>>>,
}

/// A few rows of a segment, next to each other.
#[derive(Clone, Debug)]
pub struct Few {
    /// First key.
    pub from: Vec<u8>,
    /// First key behind; none is no end.
    pub to: Option<Vec<u8>>,
    /// At most so many.
    pub rows_max: usize,
    /// The end from which they are counted.
    pub end: End,
}

impl Segment {
    /// A segment from its listing, and its rows if they are in memory.
    pub fn listed(meta: SegmentMeta, run: Option<Arc<Run>>) -> Result<Self> {
        let unhex = |text: &str| {
            unhex(text).ok_or_else(|| Error::corrupt(&meta.name, "key range is not hexadecimal"))
        };
        let (min_key, max_key) = (unhex(&meta.min_key)?, unhex(&meta.max_key)?);
        let run = RwLock::new(run.map(|run| (run, Columns::All)));
        let used = AtomicBool::new(true);
        let (decoding, parts, fault) = Default::default();
        Ok(Segment { meta, min_key, max_key, run, used, decoding, parts, fault })
    }

    /// True if keys in `[from, to)` may be in the segment; no `to` is no upper end.
    pub fn overlaps(&self, from: &[u8], to: Option<&[u8]>) -> bool {
        !is_less(&self.max_key, from) && to.is_none_or(|to| is_less(&self.min_key, to))
    }

    /// The smallest key.
    pub fn min_key(&self) -> &[u8] {
        &self.min_key
    }

    /// The largest key.
    pub fn max_key(&self) -> &[u8] {
        &self.max_key
    }

    /// True if all keys are less than those of another segment.
    pub fn precedes(&self, other: &Segment) -> bool {
        self.max_key < other.min_key
    }

    /// True if the key may be in the segment.
    pub fn spans(&self, key: &[u8]) -> bool {
        !is_less(key, &self.min_key) && !is_less(&self.max_key, key)
    }

    /// True if all rows have lived their time. That can only be told where the key begins with
    /// what is equal in the whole segment, then comes the time.
    pub fn is_expired(&self, schema: &Schema, now_ms: u64) -> bool {
        schema.time_orders(&self.min_key, &self.max_key) && schema.is_expired(&self.max_key, now_ms)
    }

    /// No stamp in the segment is newer than this.
    pub fn newest_hlc(&self) -> u64 {
        self.meta.newest_hlc.unwrap_or(u64::MAX)
    }

    /// The rows, if these of their columns are in memory as `schema` has them.
    pub fn in_memory(&self, schema: &Schema, columns: &Columns) -> Option<Arc<Run>> {
        let run = self.run.read().unwrap_or_else(PoisonError::into_inner);
        let (run, held) = run.as_ref()?;
        if !run.schema.is(schema) || !held.cover(columns) {
            return None;
        }
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        Some(run.clone())
    }

    /// The rows with these of their columns, the others being null or not, from memory or decoded
    /// now; `None` if the object is gone because a merge has replaced the segment. `fresh` is told
    /// if they were not in memory.
    pub async fn run(
        &self,
        schema: &Arc<Schema>,
        columns: &Columns,
        objects: &Objects,
        fresh: impl FnOnce(),
    ) -> Result<Option<Arc<Run>>> {
        if let Some(run) = self.in_memory(schema, columns) {
            return Ok(Some(run));
        }
        let _turn = self.decoding.lock().await;
        if let Some(run) = self.in_memory(schema, columns) {
            return Ok(Some(run));
        }
        let mut columns = self.held().map_or(columns.clone(), |held| held.and(columns));
        let Some(mut file) = File::open(&self.meta, objects, Pages::All).await? else {
            return Ok(None);
        };
        if !says_all(&self.meta, schema, &columns, &file) {
            columns = columns.keyed();
        }
        let (meta, schema, held) = (self.meta.clone(), schema.clone(), columns.clone());
        if !file.fetch(objects, |name| is_read(&meta, &schema, &columns, name), None).await? {
            return Ok(None);
        }
        let shares = file.shares(|name| is_read(&meta, &schema, &columns, name));
        let run = match shares.len() {
            1 => self.aside(move || decode_all(&meta, &schema, &columns, file)).await?,
            _ => {
                let batch = file.side_by_side(shares).await?;
                self.aside(move || decode_batch(&meta, &schema, &columns, &batch)).await?
            }
        };
        let run = Arc::new(run);
        self.replace(Some((run.clone(), held)));
        fresh();
        Ok(Some(run))
    }

    /// A few rows with these of their columns, decoded alone where the rows are not in memory: then
    /// only what holds them is unpacked, and nothing is kept. `Whole` once that has been done so
    /// often that all rows are worth it, or where it would be most of the work.
    pub async fn few(
        &self,
        schema: &Arc<Schema>,
        columns: &Columns,
        objects: &Objects,
        few: &Few,
    ) -> Result<Found> {
        if few.rows_max as u64 > self.meta.rows / FEW_OF || self.meta.rows < FEW_ROWS_MIN {
            return Ok(Found::Whole);
        }
        let _turn = self.decoding.lock().await;
        let is_held = self.in_memory(schema, columns).is_some();
        if is_held || self.parts.fetch_add(1, Ordering::Relaxed) >= PARTS_MAX {
            self.parts.store(0, Ordering::Relaxed);
            return Ok(Found::Whole);
        }
        let Some(mut file) = File::open(&self.meta, objects, Pages::Some).await? else {
            return Ok(Found::Gone);
        };
        let (meta, key) = (self.meta.clone(), schema.clone());
        if !file.fetch(objects, |name| key.is_key(name), None).await? {
            return Ok(Found::Gone);
        }
        let few = few.clone();
        let finding = self.aside(move || find_few(&meta, &key, file, &few)).await?;
        let Some((mut file, rows)) = finding else { return Ok(Found::Nothing) };
        let (meta, schema, columns) = (self.meta.clone(), schema.clone(), columns.keyed());
        let wanted = |name: &str| is_read(&meta, &schema, &columns, name);
        if !file.fetch(objects, wanted, Some(&rows)).await? {
            return Ok(Found::Gone);
        }
        let decoding = self.aside(move || decode_some(&meta, &schema, &columns, file, rows));
        Ok(Found::Few(Arc::new(decoding.await?)))
    }

    /// Decodes where nobody else waits for it.
    async fn aside<T: Send + 'static>(
        &self,
        decode: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let decoding = crate::runtime::aside(decode).await;
        decoding.map_err(|e| Error::corrupt(&self.meta.name, e.to_string()))?
    }

    fn held(&self) -> Option<Columns> {
        let run = self.run.read().unwrap_or_else(PoisonError::into_inner);
        run.as_ref().map(|(_, columns)| columns.clone())
    }

    /// Bytes of the rows in memory, roughly, and of the index that whoever looks one up makes.
    pub fn weight(&self) -> usize {
        let run = self.run.read().unwrap_or_else(PoisonError::into_inner);
        run.as_ref().map_or(0, |(run, columns)| match columns {
            Columns::All => run.weight() + run.index_to_come(),
            Columns::Only(_) => run.weight(),
        })
    }

    /// True if the rows were looked at since this was last asked.
    pub fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// Lets go of the rows; they are decoded again when they are needed.
    pub fn forget(&self) {
        self.replace(None);
    }

    /// Why the segment does not read, as far as that is known.
    pub fn fault(&self) -> Option<Arc<str>> {
        self.fault.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes why it does not read, or that it does. True if that is news.
    pub fn note_fault(&self, fault: Option<&str>) -> bool {
        let mut known = self.fault.write().unwrap_or_else(PoisonError::into_inner);
        let is_news = known.as_deref() != fault;
        *known = fault.map(Arc::from);
        is_news
    }

    fn replace(&self, run: Option<(Arc<Run>, Columns)>) {
        *self.run.write().unwrap_or_else(PoisonError::into_inner) = run;
    }
}

/// What [`Segment::few`] finds.
pub enum Found {
    /// The rows that were asked for.
    Few(Arc<Run>),
    /// There are no such rows.
    Nothing,
    /// The whole segment is to be decoded.
    Whole,
    /// The object is gone because a merge has replaced the segment.
    Gone,
}

/// Encodes a run (of at least one row) as a segment object of that name.
pub fn encode(name: String, run: &Run) -> Result<(SegmentMeta, Bytes)> {
    let batch = whole_batch(run)?;
    let written = file::write(&batch, properties(&run.schema, Some(&batch)));
    let (bytes, tail) = written.map_err(|e| arrow_error(&name, e))?;
    let last = run.len().saturating_sub(1);
    let meta = SegmentMeta {
        rows: run.len() as u64,
        bytes: bytes.len() as u64,
        crc32c: crc32c::crc32c(&bytes),
        min_key: hex(run.key(0)),
        max_key: hex(run.key(last)),
        max_seq: run.last_seq(),
        newest_hlc: Some(run.newest_hlc),
        tail: Some(tail),
        plain: run.is_all_plain(),
        name,
    };
    Ok((meta, bytes))
}

/// A Parquet file of visible rows, written batch by batch.
pub struct ParquetFile {
    writer: ArrowWriter<std::fs::File>,
}

impl ParquetFile {
    /// Begins a file with the columns of a table.
    pub fn begin(file: std::fs::File, spec: &TableSpec) -> std::io::Result<Self> {
        let writer = ArrowWriter::try_new(file, file_schema(spec), Some(properties(spec, None)));
        Ok(ParquetFile { writer: writer.map_err(std::io::Error::other)? })
    }

    /// Adds rows.
    pub fn write(&mut self, batch: &RecordBatch) -> std::io::Result<()> {
        self.writer.write(batch).map_err(std::io::Error::other)
    }

    /// Completes and syncs the file.
    pub fn finish(self) -> std::io::Result<()> {
        self.writer.into_inner().map_err(std::io::Error::other)?.sync_all()
    }
}

/// The Arrow schema of a file of visible rows.
pub fn file_schema(spec: &TableSpec) -> SchemaRef {
    let fields: Vec<Field> = spec.shown().map(|c| field(spec, c)).collect();
    Arc::new(ArrowSchema::new(fields))
}

/// All columns of a run, hidden ones included.
fn whole_batch(run: &Run) -> Result<RecordBatch> {
    let spec = &run.schema;
    let column = |number: &u16| {
        let column = spec.column_at(*number);
        let array = narrowed(column, run.column(*number));
        (field(spec, column).with_data_type(array.data_type().clone()), array)
    };
    let in_file = spec.in_file_order();
    let (fields, shown): (Vec<Field>, Vec<ArrayRef>) = in_file.iter().map(column).unzip();
    let fields: Vec<Field> = fields.into_iter().chain(hidden_fields()).collect();
    let Hidden { hlc, origin, seq, dead, states } = run.hidden();
    let hidden: [ArrayRef; 5] =
        [Arc::new(hlc), Arc::new(origin), Arc::new(seq), Arc::new(dead), Arc::new(states)];
    let arrays = shown.into_iter().chain(hidden).collect();
    let schema: SchemaRef = Arc::new(ArrowSchema::new(fields));
    RecordBatch::try_new(schema, arrays).map_err(|e| arrow_error(&spec.name, e))
}

fn hidden_fields() -> [Field; 5] {
    [
        Field::new("_hlc", DataType::UInt64, false),
        Field::new("_origin", DataType::UInt64, false),
        Field::new("_seq", DataType::UInt64, false),
        Field::new("_dead", DataType::Boolean, false),
        Field::new("_state", DataType::Binary, true),
    ]
}

fn decode_all(
    meta: &SegmentMeta,
    schema: &Arc<Schema>,
    columns: &Columns,
    mut file: File,
) -> Result<Run> {
    let batch = file.rows(|name| is_read(meta, schema, columns, name), None)?;
    decode_batch(meta, schema, columns, &batch)
}

/// Where a few rows are, by the keys of all, which were fetched; `None` if there are no such rows.
fn find_few(
    meta: &SegmentMeta,
    schema: &Schema,
    mut file: File,
    few: &Few,
) -> Result<Option<(File, Range<usize>)>> {
    let batch = file.rows(|name| schema.is_key(name), None)?;
    let (own, arrays) = own_part(&meta.name, schema, &Columns::only([]), &batch)?;
    let keys = encoded_keys(&Schema::new(own), batch.num_rows(), &arrays);
    let keys = keys.map_err(|e| Error::corrupt(&meta.name, e.to_string()))?;
    let bound = |key: &[u8]| lower_bound(&keys, key);
    let (from, to) = (bound(&few.from), few.to.as_deref().map_or(keys.len(), bound));
    let (from, to) = match few.end {
        End::First => (from, to.min(from.saturating_add(few.rows_max))),
        End::Last => (from.max(to.saturating_sub(few.rows_max)), to),
    };
    Ok((from < to).then_some((file, from..to)))
}

fn decode_some(
    meta: &SegmentMeta,
    schema: &Arc<Schema>,
    columns: &Columns,
    mut file: File,
    rows: Range<usize>,
) -> Result<Run> {
    let batch = file.rows(|name| is_read(meta, schema, columns, name), Some(rows))?;
    decode_batch(meta, schema, columns, &batch)
}

/// How many of these keys, which are in order, are less than another.
fn lower_bound(keys: &BinaryArray, key: &[u8]) -> usize {
    let (mut from, mut to) = (0, keys.len());
    while from < to {
        let middle = from + (to - from) / 2;
        match keys.value(middle) < key {
            true => from = middle + 1,
            false => to = middle,
        }
    }
    from
}

/// Whether a column of the file is read at all. What a table has dropped is not.
fn is_read(meta: &SegmentMeta, schema: &Schema, columns: &Columns, name: &str) -> bool {
    match schema.number(name) {
        Ok(number) => columns.has(number) || columns.has_keys() && schema.key.contains(&number),
        Err(_) if schema.is_dropped(name) => false,
        Err(_) if STATES.contains(&name) => !meta.plain,
        Err(_) => columns.has_stamps() || !STAMPS.contains(&name),
    }
}

/// True if the file has all of these columns as a reader sees them. Else rows are made anew, for
/// which it takes their keys.
fn says_all(meta: &SegmentMeta, schema: &Schema, columns: &Columns, file: &File) -> bool {
    let mut wanted = schema.shown.iter().filter(|number| columns.has(**number));
    meta.plain && wanted.all(|number| file.has(&schema.column_at(*number).name))
}

fn decode_batch(
    meta: &SegmentMeta,
    schema: &Arc<Schema>,
    columns: &Columns,
    batch: &RecordBatch,
) -> Result<Run> {
    let name = &meta.name;
    let (own, arrays) = own_part(name, schema, columns, batch)?;
    let own = Arc::new(Schema::new(own));
    let rows = batch.num_rows();
    let keys = match columns.has_keys() {
        true => encoded_keys(&own, rows, &arrays),
        false => Ok(BinaryArray::from_vec(Vec::new())),
    };
    let is_current = own.columns.len() == schema.columns.len() && meta.newest_hlc.is_some();
    let stamp = |column| hidden::<UInt64Array>(name, batch, column);
    let stamps = match columns.has_stamps() {
        true => {
            let [hlc, origin, seq] = STAMPS.map(stamp);
            Some([hlc?, origin?, seq?])
        }
        false if is_current => None,
        // Nobody looks at them, but a row without any write would not be there.
        false => Some(std::array::from_fn(|_| UInt64Array::new(vec![1; rows].into(), None))),
    };
    let states = match meta.plain {
        true => None,
        false => Some((hidden(name, batch, STATES[0])?, hidden(name, batch, STATES[1])?)),
    };
    let parts = Parts {
        rows,
        keys: keys.map_err(|e| Error::corrupt(name, e.to_string()))?,
        columns: arrays,
        stamps,
        states,
        newest_hlc: meta.newest_hlc.unwrap_or(u64::MAX),
    };
    match is_current {
        true => Ok(Run::of_parts(schema, parts)),
        false => Run::of_parts(&own, parts).rebuilt(schema),
    }
}

/// The part of the table's specification that the file has (it may be older than some columns),
/// with its columns. Those that were dropped since, or that nobody wants, are not there.
fn own_part(
    name: &str,
    spec: &TableSpec,
    wanted: &Columns,
    batch: &RecordBatch,
) -> Result<(TableSpec, Vec<Option<ArrayRef>>)> {
    let (mut own, mut columns) = (spec.clone(), Vec::new());
    own.columns.clear();
    let is_absent = |name: &String| batch.column_by_name(name).is_none();
    if wanted.has_keys() && spec.key.iter().any(is_absent) {
        return Err(Error::corrupt(name, "a key column is missing"));
    }
    for (number, column) in (0..).zip(&spec.columns) {
        let is_wanted = wanted.has_keys() && spec.is_key(&column.name)
            || wanted.has(number) && !spec.is_dropped(&column.name);
        let array = match batch.column_by_name(&column.name) {
            _ if !is_wanted => None,
            Some(array) => Some(widened(column, array).ok_or_else(|| {
                Error::corrupt(name, format!("column {:?} is of another type", column.name))
            })?),
            None => continue,
        };
        own.columns.push(column.clone());
        columns.push(array);
    }
    Ok((own, columns))
}

fn hidden<T: Array + Clone + 'static>(name: &str, batch: &RecordBatch, column: &str) -> Result<T> {
    let array = batch.column_by_name(column).and_then(|array| array.as_any().downcast_ref::<T>());
    array.cloned().ok_or_else(|| {
        Error::corrupt(name, format!("column {column} is missing or of another type"))
    })
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The bytes of lower-case hexadecimal text.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

pub(crate) fn arrow_error(
    what: &str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::io(what, std::io::Error::other(error))
}

#[cfg(test)]
pub mod tests;
