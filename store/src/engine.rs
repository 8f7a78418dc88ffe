//! The local engine: log, memory, segments. Knows nothing of other sites but what entries say.
//!
//! A write is numbered, applied to memory and queued for the log under one lock, and
//! acknowledged when the log has synced it. Readers of this site may see it a moment before it
//! is durable; other sites are told only of durable entries.

mod flush;
mod read;
mod state;

use std::collections::{HashMap, VecDeque, hash_map};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use sha2::{Digest, Sha256};
use tokio::sync::{Notify, Semaphore, watch};

use crate::config::{Config, is_root, is_site_path};
use crate::error::{Error, Result};
use crate::hlc;
use crate::manifest;
use crate::objects::Objects;
use crate::record::{self, Batch, Body, ENTRY_BYTES_MAX, Entry, Extent, Snapshot, Source};
use crate::row::{Cell, RowState, Stamp, Totals};
use crate::segment::Decoded;
use crate::spec::{Merge, TableSpec};
use crate::value::{Row, Value};
use crate::wal::disk::{Disk, Folder};
use crate::wal::{Recovered, Wal};

pub use read::{KeyRange, merge_layers};
pub use state::{Partition, State, Table};

/// Calls that may wait for the log at once; more wait for their turn.
const WRITES_UNDER_WAY_MAX: usize = 4096;
/// Rows of one put.
const PUT_ROWS_MAX: usize = 100_000;
/// Rows logged at a time when everything is logged again.
const LOG_AGAIN_ROWS: usize = 1024;
/// Bytes of recent entries kept in memory for the tree; older ones are read from the log.
const RECENT_BYTES_MAX: usize = 16 << 20;

/// How far a write has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Visible at this site; a crash may undo it.
    Local,
    /// Synced to this site's disk.
    LocalSync,
    /// Synced to the parent's disk as well.
    Parent,
}

/// Confirmation of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ack {
    /// How far the write has got.
    pub level: Level,
    /// Clock reading of the (last) write.
    pub hlc: u64,
    /// Position in the history of the store that took it.
    pub seq: u64,
}

/// The engine of one store.
pub struct Engine {
    pub config: Config,
    /// Identity of this store, the origin of its stamps.
    pub id: u64,
    pub objects: Objects,
    pub wal: Wal,
    /// What recovery cut off or set aside.
    pub recovered: Recovered,
    state: RwLock<State>,
    recent: Mutex<Recent>,
    writes: Semaphore,
    flushing: tokio::sync::Mutex<()>,
    cache: Mutex<VecDeque<Arc<Decoded>>>,
    /// Set when enough has gathered in memory.
    pub flush_due: Notify,
    flush_failures: AtomicU64,
    acked: watch::Sender<u64>,
    /// Entries up to here are in segments.
    flushed: AtomicU64,
    /// Held as long as the store is open.
    _lock: Option<File>,
}

/// A logged entry, as the tree needs it.
#[derive(Clone, Debug)]
pub struct Logged {
    pub seq: u64,
    pub source: Source,
    /// The table it touches and the entry that touched that table before.
    pub table: Option<(Arc<str>, u64)>,
    pub bytes: Arc<[u8]>,
}

/// The newest entries, bounded by bytes.
#[derive(Default)]
struct Recent {
    entries: VecDeque<Logged>,
    bytes: usize,
}

/// What an engine stands on; tests put other things there.
pub struct Ground {
    pub disk: Arc<dyn Disk>,
    pub objects: Objects,
    pub id: u64,
    pub lock: Option<File>,
}

/// What a caller wants to do to one row.
pub enum Change<'a> {
    /// Replace all plain columns, contribute to the merged ones.
    Put(&'a Row),
    /// Replace or contribute to the named columns only.
    Patch(&'a Row),
    /// Remove elements from set columns.
    Discard(&'a Row),
    /// Delete the row with this key.
    Delete(&'a Row),
    /// Add to counter columns of the row with this key.
    Increment(&'a Row, &'a [(String, i64)]),
}

impl Engine {
    /// Opens the store in `config.dir`.
    pub async fn open(config: Config) -> Result<Self> {
        let dir = config.dir.clone();
        let site = config.site.clone();
        if !is_site_path(&site) {
            return Err(Error::BadRequest(format!("site {site:?} is not a path of the tree")));
        }
        let ground = tokio::task::spawn_blocking(move || ground_in(&dir, &site)).await;
        let ground = ground.map_err(|e| Error::io("store", std::io::Error::other(e)))??;
        Engine::open_on(config, ground).await
    }

    /// Opens a store on the given ground.
    pub async fn open_on(config: Config, ground: Ground) -> Result<Self> {
        let Ground { disk, objects, id, lock } = ground;
        let mut state = State::default();
        for manifest in manifest::newest(&objects).await? {
            manifest::remove_leftovers(&objects, &manifest).await?;
            state.adopt(&manifest)?;
        }
        let recovered = Wal::recover(&*disk, config.on_rot)?;
        for bytes in &recovered.entries {
            let entry: Entry = record::decode("log entry", bytes)
                .map_err(|e| Error::corrupt("log", e.to_string()))?;
            state.apply(&entry).map_err(|e| Error::corrupt("log", e.to_string()))?;
        }
        state.seq += 1;
        let first = snapshot_entry(&state);
        let acked = watch::Sender::new(state.acked);
        let wal = Wal::start(disk, &recovered, state.seq, first)?;
        Ok(Engine {
            config,
            id,
            objects,
            wal,
            recovered: Recovered { entries: Vec::new(), ..recovered },
            state: RwLock::new(state),
            recent: Mutex::default(),
            writes: Semaphore::new(WRITES_UNDER_WAY_MAX),
            flushing: Default::default(),
            cache: Mutex::default(),
            flush_due: Notify::new(),
            flush_failures: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            acked,
            _lock: lock,
        })
    }

    /// Creates a table or adds columns to it; an equal definition changes nothing.
    pub async fn create_table(&self, spec: &TableSpec, source: Source) -> Result<()> {
        spec.validate()?;
        let seq = {
            let mut state = self.write();
            match state.tables.get(&spec.name) {
                Some(table) if table.spec.evolve(spec)? == *table.spec => state.seq,
                _ => self.log(&mut state, source, vec![Body::Table(spec.clone())])?,
            }
        };
        self.wal.wait(seq).await
    }

    /// Carries out changes to one table, all or none. Rows of one call are logged together.
    pub async fn change(&self, table: &str, changes: &[Change<'_>], level: Level) -> Result<Ack> {
        if changes.len() > PUT_ROWS_MAX {
            return Err(Error::TooLarge {
                what: format!("rows for table {table:?} in one call, counted as bytes,"),
                bytes: changes.len() as u64,
                max: PUT_ROWS_MAX as u64,
            });
        }
        let _turn = self.turn().await?;
        let (seq, hlc) = loop {
            let prior = self.prior(table, changes).await?;
            let mut state = self.write();
            if let Some(done) = self.try_change(&mut state, table, changes, &prior)? {
                break done;
            }
        };
        if level != Level::Local {
            self.wal.wait(seq).await?;
        }
        Ok(Ack { level: level.min_local(), hlc, seq })
    }

    /// Logs entries that came from another site; returns the number to wait for. Rows that this
    /// store knows already are left out, and so is an entry of which nothing is left, unless
    /// `keep_empty` (the entry's source then still moves on).
    pub fn take_over(&self, source: Source, body: Body, keep_empty: KeepEmpty) -> Result<u64> {
        let mut state = self.write();
        let body = match body {
            Body::Rows(batch) => {
                let news = only_news(&state, batch)?;
                if news.rows.is_empty() && keep_empty == KeepEmpty::No {
                    return Ok(state.seq);
                }
                Body::Rows(news)
            }
            Body::Table(spec) => match state.tables.get(&spec.name) {
                Some(table)
                    if table.spec.evolve(&spec)? == *table.spec && keep_empty == KeepEmpty::No =>
                {
                    return Ok(state.seq);
                }
                _ => Body::Table(spec),
            },
            _ => return Err(Error::BadRequest("an entry of this sort does not travel".into())),
        };
        self.log(&mut state, source, vec![body])
    }

    /// Logs bookkeeping of this store alone, without waiting.
    pub fn note(&self, body: Body) -> Result<u64> {
        self.log(&mut self.write(), Source::Local, vec![body])
    }

    /// Entries after `seq`, as far as they are durable, oldest first, up to about `bytes_max`.
    pub async fn entries_after(
        self: &Arc<Self>,
        seq: u64,
        bytes_max: usize,
    ) -> Result<Vec<Logged>> {
        let durable = self.wal.durable().borrow().seq;
        if let Some(recent) = crate::lock(&self.recent).after(seq, durable, bytes_max) {
            return Ok(recent);
        }
        let engine = self.clone();
        let reading = tokio::task::spawn_blocking(move || engine.read_log(seq, durable, bytes_max));
        reading.await.map_err(|e| Error::io("log", std::io::Error::other(e)))?
    }

    /// Notes in memory what the parent has; the log learns of it with the next file, and a crash
    /// before that only makes this site repeat itself.
    pub fn acknowledge(&self, seq: u64, climbed: u64) {
        let mut state = self.write();
        state.acknowledge(seq, climbed);
        self.acked.send_replace(state.acked);
    }

    /// Waits until the parent has the entry.
    pub async fn acked(&self, seq: u64) {
        // The sender lives as long as this engine.
        let _ = self.acked.subscribe().wait_for(|acked| *acked >= seq).await;
    }

    /// Logs everything there is once more, for a parent that has lost what it had: its store was
    /// replaced, and this log no longer goes back far enough.
    pub async fn log_again(&self) -> Result<()> {
        let specs: Vec<Arc<TableSpec>> =
            self.read().tables.values().map(|t| t.spec.clone()).collect();
        for spec in specs {
            let rows = self.range(&spec.name, &KeyRange::default()).await?;
            let columns: Vec<String> = spec.columns.iter().map(|c| c.name.clone()).collect();
            self.log(&mut self.write(), Source::Own, vec![Body::Table((*spec).clone())])?;
            for rows in rows.chunks(LOG_AGAIN_ROWS) {
                let rows = rows.iter().map(|(k, r)| (k.to_vec(), r.state.clone())).collect();
                let batch = Batch { table: spec.name.clone(), columns: columns.clone(), rows };
                let bodies = cut(batch)?.into_iter().map(Body::Rows).collect();
                let seq = self.log(&mut self.write(), Source::Own, bodies)?;
                self.wal.wait(seq).await?;
            }
        }
        Ok(())
    }

    /// Looks at the state.
    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        (self.config.wall_clock)()
    }

    /// True if this store is at the root: it has whatever there is.
    pub fn is_root(&self) -> bool {
        is_root(&self.config.site)
    }

    /// Notes in memory that a replica is complete up to the parent's `seq`; the log learns of it
    /// with the next entry, and a crash before that only makes the parent repeat itself.
    pub fn advance(&self, table: &str, store: u64, seq: u64) {
        if let Some(table) = self.write().tables.get_mut(table) {
            table.advance(store, seq);
        }
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    async fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>> {
        let turn = self.writes.acquire().await;
        turn.map_err(|_| Error::Stopped("store is closed".into()))
    }

    /// Entries in `(seq, durable]` from the log files. Their predecessors in their tables are not
    /// known here; followers are served from memory.
    fn read_log(&self, seq: u64, durable: u64, bytes_max: usize) -> Result<Vec<Logged>> {
        let mut found = Vec::new();
        let mut bytes = 0;
        for file in self.wal.files_after(seq) {
            for encoded in self.wal.read_file(&file)? {
                let entry: Entry = record::decode("log entry", &encoded)?;
                if entry.seq > durable || bytes > bytes_max {
                    return Ok(found);
                }
                if entry.seq > seq {
                    bytes += encoded.len();
                    let (seq, source) = (entry.seq, entry.source);
                    found.push(Logged { seq, source, table: None, bytes: encoded.into() });
                }
            }
        }
        Ok(found)
    }

    /// Numbers, applies and queues entries. A body that is refused changes nothing and ends the
    /// list; those before it count.
    fn log(&self, state: &mut State, source: Source, bodies: Vec<Body>) -> Result<u64> {
        if let Some(reason) = &self.wal.durable().borrow().failed {
            return Err(Error::Stopped(reason.to_string()));
        }
        let mut queued = Vec::with_capacity(bodies.len());
        for body in bodies {
            let entry = Entry { seq: state.seq + 1, source, body };
            let bytes: Arc<[u8]> = record::encode(&entry).into();
            let table = touched(&entry.body).map(|name| {
                (Arc::from(name), state.tables.get(name).map_or(0, |table| table.last_seq))
            });
            if let Err(refusal) = state.apply(&entry) {
                self.wal.append(state.seq, queued);
                return Err(refusal);
            }
            crate::lock(&self.recent).push(Logged {
                seq: entry.seq,
                source,
                table,
                bytes: bytes.clone(),
            });
            queued.push(bytes);
        }
        self.wal.append(state.seq, queued);
        if state.active_bytes > self.config.flush_bytes {
            self.flush_due.notify_one();
        }
        Ok(state.seq)
    }

    /// Builds and logs the changes; `None` if `prior` is out of date and has to be read again.
    fn try_change(
        &self,
        state: &mut State,
        table: &str,
        changes: &[Change<'_>],
        prior: &read::Prior,
    ) -> Result<Option<(u64, u64)>> {
        if !prior.is_current(state.table(table)?) {
            return Ok(None);
        }
        let spec = state.table(table)?.spec.clone();
        let now_ms = self.now_ms();
        let mut rows = Vec::with_capacity(changes.len());
        let mut known: HashMap<Vec<u8>, RowState> = HashMap::new();
        for change in changes {
            let key = spec.key_of(change.row())?;
            let stamp = Stamp { hlc: state.clock.tick(now_ms), origin: self.id };
            let row = if change.needs_known(&spec) {
                let known = match known.entry(key.clone()) {
                    hash_map::Entry::Occupied(known) => known.into_mut(),
                    hash_map::Entry::Vacant(entry) => {
                        entry.insert(prior.known(state.table(table)?, &key, change.row())?)
                    }
                };
                let row = change.build(&spec, stamp, known)?;
                known.merge(&row);
                row
            } else {
                change.build(&spec, stamp, &RowState::default())?
            };
            rows.push((key, row));
        }
        let hlc = state.clock.last();
        let columns = spec.columns.iter().map(|c| c.name.clone()).collect();
        let batch = Batch { table: table.into(), columns, rows };
        let bodies = cut(batch)?.into_iter().map(Body::Rows).collect::<Vec<_>>();
        let seq = self.log(state, Source::Own, bodies)?;
        Ok(Some((seq, hlc)))
    }
}

/// What to do with an entry whose rows are all known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepEmpty {
    /// Log it for its source's sake.
    Yes,
    /// Drop it.
    No,
}

impl Level {
    fn min_local(self) -> Level {
        match self {
            Level::Local => Level::Local,
            _ => Level::LocalSync,
        }
    }
}

impl Change<'_> {
    fn row(&self) -> &Row {
        match self {
            Change::Put(row) | Change::Patch(row) | Change::Discard(row) => row,
            Change::Delete(key) | Change::Increment(key, _) => key,
        }
    }

    /// True if building the change needs to know the row's present state.
    fn needs_known(&self, spec: &TableSpec) -> bool {
        let extremes = |row: &Row| {
            spec.columns
                .iter()
                .any(|c| matches!(c.merge, Merge::Max | Merge::Min) && row.contains_key(&c.name))
        };
        match self {
            Change::Put(row) | Change::Patch(row) => extremes(row),
            Change::Discard(_) => false,
            Change::Delete(_) => spec.columns.iter().any(|c| c.merge == Merge::Counter),
            Change::Increment(..) => true,
        }
    }

    /// The change as a partial row state. `known` is the row as it is; it matters only where
    /// [`Change::needs_known`] says so.
    fn build(&self, spec: &TableSpec, stamp: Stamp, known: &RowState) -> Result<RowState> {
        let mut built = RowState { written: stamp, ..RowState::default() };
        match self {
            Change::Put(row) => {
                check_columns(spec, row)?;
                built.cells = write_cells(spec, row, stamp, known, Absent::IsNull)?;
            }
            Change::Patch(row) => {
                check_columns(spec, row)?;
                built.cells = write_cells(spec, row, stamp, known, Absent::Stays)?;
            }
            Change::Discard(row) => {
                check_columns(spec, row)?;
                built.cells = discard_cells(spec, row, stamp)?;
            }
            Change::Delete(key) => {
                check_only_key(spec, key)?;
                built = RowState::tombstone(stamp);
                built.cells = cover_counters(known);
            }
            Change::Increment(key, deltas) => {
                check_only_key(spec, key)?;
                built.cells = count_cells(spec, deltas, stamp, known)?;
            }
        }
        Ok(built)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Absent {
    IsNull,
    Stays,
}

fn write_cells(
    spec: &TableSpec,
    row: &Row,
    stamp: Stamp,
    known: &RowState,
    absent: Absent,
) -> Result<Vec<(u16, Cell)>> {
    let mut cells = Vec::new();
    for (number, column) in spec.columns.iter().enumerate() {
        if spec.is_key(&column.name) {
            continue;
        }
        let given = row.get(&column.name);
        if given.is_none() && absent == Absent::Stays {
            continue;
        }
        let value = given.cloned().unwrap_or_default();
        if value.is_null() && !column.nullable {
            return Err(Error::WrongType {
                column: column.name.clone(),
                expected: column.kind.in_words().into(),
                got: "null".into(),
            });
        }
        let cell = match column.merge {
            Merge::Lww => Cell::Fresh(value.fit(&column.name, column.kind)?),
            _ if value.is_null() => continue,
            Merge::Max => Cell::Max(known.deleted, value.fit(&column.name, column.kind)?),
            Merge::Min => Cell::Min(known.deleted, value.fit(&column.name, column.kind)?),
            Merge::Set => set_cell(spec, &column.name, value, (stamp, true))?,
            Merge::Counter => {
                return Err(Error::BadRequest(format!(
                    "column {:?} of table {:?} is a counter: use increment",
                    column.name, spec.name
                )));
            }
        };
        cells.push((number as u16, cell));
    }
    Ok(cells)
}

fn discard_cells(spec: &TableSpec, row: &Row, stamp: Stamp) -> Result<Vec<(u16, Cell)>> {
    let mut cells = Vec::new();
    for (number, column) in spec.columns.iter().enumerate() {
        let Some(value) = row.get(&column.name).filter(|_| !spec.is_key(&column.name)) else {
            continue;
        };
        if column.merge != Merge::Set {
            return Err(Error::BadRequest(format!("column {:?} is not a set", column.name)));
        }
        cells.push((number as u16, set_cell(spec, &column.name, value.clone(), (stamp, false))?));
    }
    Ok(cells)
}

fn set_cell(spec: &TableSpec, column: &str, value: Value, mark: (Stamp, bool)) -> Result<Cell> {
    let kind = spec.column(column)?.kind;
    let items = match value {
        Value::List(items) => items,
        one => vec![one],
    };
    let marked = items.into_iter().map(|item| Ok((item.fit(column, kind)?, mark)));
    Ok(Cell::Set(marked.collect::<Result<_>>()?))
}

fn count_cells(
    spec: &TableSpec,
    deltas: &[(String, i64)],
    stamp: Stamp,
    known: &RowState,
) -> Result<Vec<(u16, Cell)>> {
    let mut cells = Vec::new();
    for (name, delta) in deltas {
        let column = spec.column(name)?;
        if column.merge != Merge::Counter {
            return Err(Error::BadRequest(format!("column {name:?} is not a counter")));
        }
        let number = spec.columns.iter().position(|c| c.name == *name).unwrap_or_default() as u16;
        if cells.iter().any(|(n, _)| *n == number) {
            return Err(Error::BadRequest(format!("counter {name:?} is named twice")));
        }
        let so_far = match known.cell(number) {
            Some(Cell::Counter { totals, .. }) => totals.get(&stamp.origin).map_or(0, |t| t.1),
            _ => 0,
        };
        let total = so_far
            .checked_add(*delta)
            .ok_or_else(|| Error::BadRequest(format!("counter {name:?} would exceed 64 bits")))?;
        let totals = Totals::from([(stamp.origin, (stamp.hlc, total))]);
        cells.push((number, Cell::Counter { totals, covered: Totals::new() }));
    }
    cells.sort_by_key(|(number, _)| *number);
    Ok(cells)
}

fn cover_counters(known: &RowState) -> Vec<(u16, Cell)> {
    let counters = known.cells.iter().filter_map(|(number, cell)| match cell {
        Cell::Counter { totals, .. } => Some((*number, totals.clone())),
        _ => None,
    });
    counters
        .map(|(number, covered)| (number, Cell::Counter { totals: Totals::new(), covered }))
        .collect()
}

fn check_columns(spec: &TableSpec, row: &Row) -> Result<()> {
    row.keys().try_for_each(|name| spec.column(name).map(|_| ()))
}

fn check_only_key(spec: &TableSpec, key: &Row) -> Result<()> {
    check_columns(spec, key)?;
    match key.keys().find(|name| !spec.is_key(name)) {
        Some(name) => Err(Error::BadRequest(format!("column {name:?} is not part of the key"))),
        None => Ok(()),
    }
}

/// Leaves out the rows that memory knows already.
fn only_news(state: &State, mut batch: Batch) -> Result<Batch> {
    let table = state.table(&batch.table)?;
    let local = table.localize(&batch)?;
    let mut news = local.iter().map(|(partition, key, row)| {
        table.partitions.get(partition).is_none_or(|p| p.is_news(key, row))
    });
    batch.rows.retain(|_| news.next().unwrap_or(true));
    Ok(batch)
}

/// Cuts a batch into batches that fit an entry each.
fn cut(batch: Batch) -> Result<Vec<Batch>> {
    let bytes = record::encode(&batch).len() + 64;
    if bytes <= ENTRY_BYTES_MAX {
        return Ok(vec![batch]);
    }
    if batch.rows.len() == 1 {
        return Err(Error::TooLarge {
            what: format!("row of table {:?} (larger values belong into blobs)", batch.table),
            bytes: bytes as u64,
            max: ENTRY_BYTES_MAX as u64,
        });
    }
    let mut first = batch;
    let rows = first.rows.split_off(first.rows.len() / 2);
    let second = Batch { table: first.table.clone(), columns: first.columns.clone(), rows };
    let mut pieces = cut(first)?;
    pieces.extend(cut(second)?);
    Ok(pieces)
}

fn touched(body: &Body) -> Option<&str> {
    match body {
        Body::Table(spec) => Some(&spec.name),
        Body::Rows(batch) => Some(&batch.table),
        _ => None,
    }
}

fn snapshot_entry(state: &State) -> Arc<[u8]> {
    let body = Body::Snapshot(Snapshot { seq: state.seq, ..state.snapshot() });
    record::encode(&Entry { seq: state.seq, source: Source::Local, body }).into()
}

impl Recent {
    fn push(&mut self, logged: Logged) {
        self.bytes += logged.bytes.len();
        self.entries.push_back(logged);
        while self.bytes > RECENT_BYTES_MAX && self.entries.len() > 1 {
            self.bytes -= self.entries.pop_front().map_or(0, |e| e.bytes.len());
        }
    }

    /// Entries in `(seq, durable]`; `None` if older ones would have to be among them.
    fn after(&self, seq: u64, durable: u64, bytes_max: usize) -> Option<Vec<Logged>> {
        if durable <= seq {
            return Some(Vec::new());
        }
        if self.entries.front().is_none_or(|first| first.seq > seq + 1) {
            return None;
        }
        let start = self.entries.partition_point(|e| e.seq <= seq);
        let mut bytes = 0;
        let wanted = self.entries.range(start..).take_while(|e| {
            let room = bytes <= bytes_max;
            bytes += e.bytes.len();
            room && e.seq <= durable
        });
        Some(wanted.cloned().collect())
    }
}

/// Locks the folder and reads or draws the store's identity.
fn ground_in(dir: &Path, site: &str) -> Result<Ground> {
    let io = |what: &str| {
        let what = format!("{what} in {}", dir.display());
        move |e| Error::io(what, e)
    };
    std::fs::create_dir_all(dir).map_err(io("folder"))?;
    let lock = File::create(dir.join("lock")).map_err(io("lock"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            return Err(Error::Locked(dir.display().to_string()));
        }
        Err(std::fs::TryLockError::Error(e)) => return Err(io("lock")(e)),
    }
    let objects = Objects::folder(dir.join("objects"))?;
    let id = identity(dir, site)?;
    let disk = Folder::open(dir.join("wal")).map_err(io("log"))?;
    Ok(Ground { disk: Arc::new(disk), objects, id, lock: Some(lock) })
}

fn identity(dir: &Path, site: &str) -> Result<u64> {
    let path = dir.join("identity");
    let io = |e| Error::io(path.display().to_string(), e);
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.is_empty() => {
            let owner = text.trim_end().rsplit_once(' ').map(|(owner, _)| owner);
            if owner != Some(site) {
                return Err(Error::BadRequest(format!(
                    "store {} belongs to site {:?}, not {site:?}",
                    dir.display(),
                    owner.unwrap_or("?")
                )));
            }
            Ok(id_of(text.trim_end()))
        }
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io(e)),
        _ => {
            let text = format!("{site} {:016x}", crate::entropy());
            let mut file = File::create(&path).map_err(io)?;
            std::io::Write::write_all(&mut file, text.as_bytes()).map_err(io)?;
            file.sync_all().map_err(io)?;
            File::open(dir).and_then(|d| d.sync_all()).map_err(io)?;
            Ok(id_of(&text))
        }
    }
}

/// The first 64 bits of the hash of a site path and the store's random number.
pub fn id_of(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}

/// True if stamps of `body` are further ahead of this site's wall clock than is allowed.
pub fn ahead_ms(body: &Body, now_ms: u64) -> Option<u64> {
    let Body::Rows(batch) = body else { return None };
    let newest = batch.rows.iter().map(|(_, state)| state.newest_hlc()).max()?;
    hlc::ahead_ms(newest, now_ms)
}

/// The extent of a table that a row or range needs.
pub fn extent_of(spec: &TableSpec, row: &Row) -> Result<Extent> {
    Ok(match spec.partition_of(row)? {
        Some(partition) if !spec.partition.is_empty() => Extent::Partition(partition),
        _ => Extent::Whole,
    })
}

/// Adds up failed flushes, for the status.
impl Engine {
    /// Flushes that failed since the store was opened.
    pub fn flush_failures(&self) -> u64 {
        self.flush_failures.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
pub mod tests;
