//! EdgeStore: tables and blobs that every site of the tree can read and write, connected or not.
//!
//! [`EdgeStore`] is the one entrance. Beneath it: a local engine (log, memory, Parquet segments),
//! rows as mergeable states (`row`), and the tree protocol (`tree`) over a narrow [`Link`].
//! The on-disk format is in `docs/format.md`. Nothing here knows NATS, devices or handlers.
#![forbid(unsafe_code)]

mod blob;
mod config;
mod engine;
mod error;
pub mod hlc;
mod key;
pub mod link;
mod manifest;
mod objects;
mod record;
mod row;
mod scan;
mod segment;
mod serve;
mod spec;
mod status;
mod tree;
mod value;
mod wal;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arrow::array::RecordBatch;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

pub use blob::{BLOB_BYTES_MAX, BlobKey};
pub use config::{Config, WallClock};
pub use engine::{Ack, Level};
pub use error::{Error, Result};
pub use link::{Link, LinkError, PAYLOAD_BYTES_MAX};
pub use scan::{Compare, Coverage, Filter, Scan, Scanned};
pub use spec::{ColumnKind, ColumnSpec, Merge, TableSpec};
pub use status::{Status, TableStatus};
pub use tree::wire::op;
pub use value::{Row, Value, row_from_json, row_to_json};
pub use wal::OnRot;

use engine::{Change, End, Engine, KeyRange, extent_of};
use record::{Extent, Source};
use segment::{KeyedRow, visible_batch, visible_row};
use tree::Tree;
use tree::wire::Range;

/// Rows that one scan returns at most; more is an error that asks for a limit.
pub const SCAN_ROWS_MAX: usize = 1_000_000;

/// Rows read at a time for an export.
const EXPORT_ROWS: usize = 50_000;

/// A store of one site. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct EdgeStore {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<Engine>,
    tree: OnceLock<Arc<Tree>>,
    flusher: Mutex<Option<JoinHandle<()>>>,
    closing: Arc<AtomicBool>,
}

/// How a read may be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOptions {
    /// Answer from what is here, even if it is not complete.
    pub local_only: bool,
    /// Give up after so many milliseconds; none is the request time-out of the configuration.
    pub deadline_ms: Option<u64>,
}

impl EdgeStore {
    /// Opens or makes the store in `config.dir` and recovers what its log holds.
    pub async fn open(config: Config) -> Result<Self> {
        Ok(Self::with_engine(Engine::open(config).await?))
    }

    #[cfg(test)]
    async fn open_on(config: Config, ground: engine::Ground) -> Result<Self> {
        Ok(Self::with_engine(Engine::open_on(config, ground).await?))
    }

    fn with_engine(engine: Engine) -> Self {
        let engine = Arc::new(engine);
        let closing = Arc::new(AtomicBool::new(false));
        let flusher = tokio::spawn(flush_when_due(engine.clone(), closing.clone()));
        let flusher = Mutex::new(Some(flusher));
        let inner = Inner { engine, tree: OnceLock::new(), flusher, closing };
        EdgeStore { inner: Arc::new(inner) }
    }

    /// Joins the tree over `link`. Without it the store works alone and keeps what has to climb.
    pub fn attach(&self, link: Arc<dyn Link>) -> Result<()> {
        let tree = Tree::join(self.inner.engine.clone(), link);
        self.inner.tree.set(tree).map_err(|_| {
            Error::BadRequest(format!("store of {} is in the tree already", self.site()))
        })
    }

    /// Leaves the tree, writes out the log and ends all tasks. The store takes no writes after.
    pub async fn close(&self) {
        if let Some(tree) = self.inner.tree.get() {
            tree.leave().await;
        }
        let engine = self.inner.engine.clone();
        self.inner.closing.store(true, Ordering::Release);
        engine.flush_due.notify_one();
        let flusher = lock(&self.inner.flusher).take();
        if let Some(flusher) = flusher
            && flusher.await.is_err()
        {
            tracing::error!("a flush was interrupted");
        }
        if tokio::task::spawn_blocking(move || engine.close()).await.is_err() {
            tracing::error!("closing the log was interrupted");
        }
    }

    /// Path of this site.
    pub fn site(&self) -> &str {
        &self.inner.engine.config.site
    }

    /// Creates a table, or adds nullable columns to it; an equal definition changes nothing.
    pub async fn create_table(&self, spec: &TableSpec) -> Result<()> {
        self.inner.engine.create_table(spec, Source::Own).await
    }

    /// Says whether [`EdgeStore::create_table`] would take a definition; changes nothing.
    pub fn check_table(&self, spec: &TableSpec) -> Result<()> {
        spec.validate()?;
        match self.inner.engine.read().tables.get(&spec.name) {
            Some(table) => table.spec.evolve(spec).map(|_| ()),
            None => Ok(()),
        }
    }

    /// All tables known here.
    pub fn tables(&self) -> Vec<TableStatus> {
        let state = self.inner.engine.read();
        state.tables.values().map(|table| self.table_status(table)).collect()
    }

    /// The specification of a table, asked of the parent if it is not known here.
    pub async fn table(&self, name: &str) -> Result<TableSpec> {
        self.know(name).await?;
        Ok((*self.inner.engine.read().table(name)?.spec).clone())
    }

    /// How the store is doing.
    pub fn status(&self) -> Status {
        let engine = &self.inner.engine;
        let state = engine.read();
        Status {
            site: engine.config.site.clone(),
            seq: state.seq,
            durable_seq: engine.wal.durable().borrow().seq,
            parent_seq: state.acked,
            torn_bytes: engine.recovered.torn_bytes,
            rotten_files: engine.recovered.rotten.clone(),
            flush_failures: engine.flush_failures(),
            children: state.children.values().map(|(site, _)| site.clone()).collect(),
        }
    }

    /// Writes whole rows: plain columns that a row leaves out become null. All rows or none.
    /// Returns when they are synced here.
    pub async fn put(&self, table: &str, rows: &[Row]) -> Result<Ack> {
        self.put_at(table, rows, Level::LocalSync).await
    }

    /// Like [`EdgeStore::put`], returning when the rows have got as far as `level`.
    pub async fn put_at(&self, table: &str, rows: &[Row], level: Level) -> Result<Ack> {
        self.change(table, rows.iter().map(Change::Put).collect(), level).await
    }

    /// Writes the named columns of each row and leaves the others as they are.
    pub async fn patch(&self, table: &str, rows: &[Row]) -> Result<Ack> {
        self.change(table, rows.iter().map(Change::Patch).collect(), Level::LocalSync).await
    }

    /// Deletes the rows with these keys.
    pub async fn delete(&self, table: &str, keys: &[Row]) -> Result<Ack> {
        self.change(table, keys.iter().map(Change::Delete).collect(), Level::LocalSync).await
    }

    /// Adds to counter columns of a row, which is made if need be.
    pub async fn increment(&self, table: &str, key: &Row, deltas: &[(String, i64)]) -> Result<Ack> {
        self.change(table, vec![Change::Increment(key, deltas)], Level::LocalSync).await
    }

    /// Takes elements out of set columns; the key and the elements are in `rows`.
    pub async fn discard(&self, table: &str, rows: &[Row]) -> Result<Ack> {
        self.change(table, rows.iter().map(Change::Discard).collect(), Level::LocalSync).await
    }

    /// Waits until a write has got as far as `level`.
    pub async fn wait(&self, ack: &Ack, level: Level) -> Result<Ack> {
        let engine = &self.inner.engine;
        engine.wal.wait(ack.seq).await?;
        if level == Level::Parent && !engine.is_root() {
            engine.acked(ack.seq).await;
        }
        Ok(Ack { level, ..*ack })
    }

    /// The row with that key, wherever it is.
    pub async fn get(&self, table: &str, key: &Row) -> Result<Option<Row>> {
        let (row, coverage) = self.get_with(table, key, ReadOptions::default()).await?;
        if row.is_none() && !coverage.complete {
            return Err(Error::Unreachable {
                what: format!("row of table {table:?}"),
                reason: "it is not here and the parent does not answer".into(),
            });
        }
        Ok(row)
    }

    /// The row with that key and what the answer is based on. `None` from an incomplete answer
    /// only says that the row is not here.
    pub async fn get_with(
        &self,
        table: &str,
        key: &Row,
        options: ReadOptions,
    ) -> Result<(Option<Row>, Coverage)> {
        self.know_for(table, options).await?;
        let spec = self.inner.engine.read().table(table)?.spec.clone();
        let encoded = spec.key_of(key)?;
        let extent = extent_of(&spec, key)?;
        let partition = spec.partition_of(key)?.unwrap_or_default();
        let range = KeyRange::of_key(&encoded, partition);
        let (end, rows_max) = (End::First, usize::MAX);
        let read = Reading { table, extent, range, end, rows_max, enough: &|_| Ok(true) };
        let (rows, coverage) = self.read(read, options).await?;
        let live = rows.iter().find(|(k, row)| **k == *encoded && row.state.is_live());
        let row = live.map(|(key, row)| visible_row(&spec, key, &row.state)).transpose()?;
        Ok((row, coverage))
    }

    /// Rows in key order.
    pub async fn scan(&self, table: &str, scan: Scan) -> Result<Scanned> {
        self.scan_with(table, scan, ReadOptions::default()).await
    }

    /// Rows in key order, read as `options` say.
    pub async fn scan_with(
        &self,
        table: &str,
        mut scan: Scan,
        options: ReadOptions,
    ) -> Result<Scanned> {
        self.know_for(table, options).await?;
        let spec = self.inner.engine.read().table(table)?.spec.clone();
        scan.check(&spec)?;
        scan::check_limit(scan.limit.unwrap_or(0), SCAN_ROWS_MAX)?;
        scan.limit.get_or_insert(SCAN_ROWS_MAX);
        let (range, extent) = scan.range(&spec)?;
        let enough = |rows: &[KeyedRow]| Ok(scan.pick(&spec, rows.to_vec())?.1);
        let end = if scan.reverse { End::Last } else { End::First };
        let rows_max = scan.page_rows();
        let read = Reading { table, extent, range, end, rows_max, enough: &enough };
        let (rows, coverage) = self.read(read, options).await?;
        let (rows, truncated) = scan.pick(&spec, rows)?;
        Ok(Scanned { rows, coverage, truncated })
    }

    /// Rows in key order as an Arrow batch.
    pub async fn scan_arrow(&self, table: &str, scan: Scan) -> Result<(RecordBatch, Coverage)> {
        let scanned = self.scan(table, scan.clone()).await?;
        let spec = self.inner.engine.read().table(table)?.spec.clone();
        Ok((scanned.to_arrow(&spec, &scan)?, scanned.coverage))
    }

    /// Brings a replica of the whole table here, unless it is here, and keeps it fresh.
    pub async fn replicate(&self, table: &str) -> Result<()> {
        self.know(table).await?;
        match self.inner.tree.get() {
            Some(tree) => tree.acquire(table, &Extent::Whole).await,
            None if self.inner.engine.is_root() => Ok(()),
            None => Err(Error::Unreachable {
                what: format!("table {table:?}"),
                reason: "this site is not in the tree".into(),
            }),
        }
    }

    /// Stores bytes durably and returns their key.
    pub async fn put_blob(&self, bytes: Bytes) -> Result<BlobKey> {
        let key = BlobKey::of(self.site(), &bytes);
        blob::store(&self.inner.engine.objects, &key, bytes).await?;
        Ok(key)
    }

    /// The blob with that key, from here or from the site that took it; verified. `None` if
    /// that site does not have it.
    pub async fn get_blob(&self, key: &BlobKey) -> Result<Option<Bytes>> {
        let engine = &self.inner.engine;
        if let Some(bytes) = blob::load(&engine.objects, key).await? {
            return Ok(Some(bytes));
        }
        match self.inner.tree.get() {
            Some(tree) if key.site() != self.site() => tree.fetch_blob(key).await,
            None if key.site() != self.site() => Err(Error::Unreachable {
                what: format!("blob {key}"),
                reason: "this site is not in the tree".into(),
            }),
            _ => Ok(None),
        }
    }

    /// True if the blob is on this site's disk.
    pub async fn has_blob(&self, key: &BlobKey) -> Result<bool> {
        Ok(blob::len(&self.inner.engine.objects, key).await?.is_some())
    }

    /// Part of a blob, clipped to its end; it is brought here whole first.
    pub async fn get_blob_range(
        &self,
        key: &BlobKey,
        start: u64,
        end: u64,
    ) -> Result<Option<Bytes>> {
        if !self.has_blob(key).await? && self.get_blob(key).await?.is_none() {
            return Ok(None);
        }
        blob::load_range(&self.inner.engine.objects, key, start, end).await.map(Some)
    }

    /// Writes all changes to segments and lets go of the log as far as the parent has it.
    pub async fn flush(&self) -> Result<()> {
        self.inner.engine.flush().await
    }

    /// Writes the visible rows of a table to a Parquet file; returns their number.
    pub async fn export_parquet(&self, table: &str, path: &Path) -> Result<u64> {
        let spec = self.table(table).await?;
        let columns: Vec<&ColumnSpec> = spec.columns.iter().collect();
        let io = |e: std::io::Error| Error::io(path.display().to_string(), e);
        let side = path.with_extension("unfinished");
        let file = std::fs::File::create(&side).map_err(io)?;
        let mut writer = segment::ParquetFile::begin(file, &spec).map_err(io)?;
        let mut scan = Scan { limit: Some(EXPORT_ROWS), ..Scan::default() };
        let mut written = 0;
        loop {
            let scanned = self.scan(table, scan.clone()).await?;
            written += scanned.rows.len() as u64;
            writer.write(&visible_batch(&spec, &columns, &scanned.rows)?).map_err(io)?;
            match scanned.rows.last() {
                Some(last) if scanned.truncated => scan.after = spec.key_part(last),
                _ => break,
            }
        }
        writer.finish().map_err(io)?;
        std::fs::rename(&side, path).map_err(io)?;
        Ok(written)
    }

    /// Answers a request that has come in for this site: the operations of [`op`] from other
    /// stores (whose errors are part of the answer), and the JSON operations of clients, `get`,
    /// `scan`, `put`, `patch`, `delete`, `increment`, `create`, `tables`, `status`. `from` is the
    /// path of the asking site, as the network vouches for it.
    pub async fn serve(&self, op: &str, from: &str, payload: Bytes) -> Result<Bytes> {
        serve::serve(self, op, from, payload).await
    }

    async fn change(&self, table: &str, changes: Vec<Change<'_>>, level: Level) -> Result<Ack> {
        self.know(table).await?;
        let ack = self.inner.engine.change(table, &changes, level).await?;
        match level {
            Level::Parent => self.wait(&ack, Level::Parent).await,
            _ => Ok(ack),
        }
    }

    /// Makes sure that the table is known here.
    async fn know(&self, table: &str) -> Result<()> {
        if self.inner.engine.read().tables.contains_key(table) {
            return Ok(());
        }
        match self.inner.tree.get() {
            Some(tree) if !self.inner.engine.is_root() => match tree.describe(table).await {
                Err(Error::Unreachable { reason, .. }) => Err(Error::Unreachable {
                    what: format!("table {table:?} is unknown here and the parent"),
                    reason,
                }),
                other => other,
            },
            _ => Err(Error::UnknownTable(table.into())),
        }
    }

    async fn know_for(&self, table: &str, options: ReadOptions) -> Result<()> {
        if options.local_only {
            return self.inner.engine.read().table(table).map(|_| ());
        }
        let deadline = Duration::from_millis(options.deadline_ms.unwrap_or(u64::MAX >> 20));
        match tokio::time::timeout(deadline, self.know(table)).await {
            Ok(known) => known,
            Err(_) => Err(Error::Deadline(format!("table {table:?}"))),
        }
    }

    /// Reads from here if that is complete or wanted; else from above, and from here alone if
    /// nobody above answers.
    async fn read(
        &self,
        read: Reading<'_>,
        options: ReadOptions,
    ) -> Result<(Vec<KeyedRow>, Coverage)> {
        let engine = &self.inner.engine;
        let complete = engine.is_root() || engine.read().table(read.table)?.holds(&read.extent);
        if !complete
            && !options.local_only
            && let Some(tree) = self.inner.tree.get()
        {
            tree.wish(read.table, &read.extent);
            let timeout_ms = options.deadline_ms.unwrap_or(engine.config.request_timeout_ms);
            let asking = read_above(tree, &read);
            match tokio::time::timeout(Duration::from_millis(timeout_ms), asking).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if !error.retryable() => return Err(error),
                Ok(Err(error)) => {
                    tracing::debug!(table = read.table, %error, "answered from here alone");
                }
                Err(_) => tracing::debug!(table = read.table, "no answer in time"),
            }
        }
        let rows = read_here(engine, &read).await?;
        let age_ms = self.inner.tree.get().map_or(0, |tree| tree.age_ms(read.table));
        let source = engine.config.site.clone();
        Ok((rows, Coverage { complete, source, age_ms: if complete { age_ms } else { 0 } }))
    }

    fn table_status(&self, table: &engine::Table) -> TableStatus {
        let partitions = table.partitions.values();
        let segments: Vec<_> = partitions.clone().flat_map(|p| p.segments.iter()).collect();
        let frozen = |p: &engine::Partition| p.frozen.as_ref().map_or(0, |f| f.len());
        let is_partition = |e: &&Extent| matches!(e, Extent::Partition(_));
        let tree = self.inner.tree.get();
        TableStatus {
            spec: (*table.spec).clone(),
            partitions: table.partitions.len(),
            segments: segments.len(),
            segment_rows: segments.iter().map(|s| s.meta.rows).sum(),
            segment_bytes: segments.iter().map(|s| s.meta.bytes).sum(),
            memory_rows: partitions.map(|p| p.active.len() + frozen(p)).sum(),
            complete: self.inner.engine.is_root() || table.extents.contains(&Extent::Whole),
            replicated_partitions: table.extents.iter().filter(is_partition).count(),
            age_ms: tree.map_or(0, |tree| tree.age_ms(&table.spec.name)),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(flusher) = lock(&self.flusher).take() {
            flusher.abort();
        }
        if let Some(tree) = self.tree.get() {
            tree.abandon();
        }
    }
}

/// What a read is about.
struct Reading<'a> {
    table: &'a str,
    extent: Extent,
    range: KeyRange,
    end: End,
    /// Rows to read at a time.
    rows_max: usize,
    /// True if the rows so far satisfy the caller.
    enough: &'a (dyn Fn(&[KeyedRow]) -> Result<bool> + Sync),
}

/// Rows from here.
async fn read_here(engine: &Engine, read: &Reading<'_>) -> Result<Vec<KeyedRow>> {
    let (mut range, mut rows_max) = (read.range.clone(), read.rows_max);
    let mut rows: Vec<KeyedRow> = Vec::new();
    loop {
        let (more, left) = engine.page(read.table, &range, read.end, rows_max).await?;
        rows = join(rows, more, read.end);
        match left {
            Some(left) if !(read.enough)(&rows)? => range = left,
            _ => return Ok(rows),
        }
        rows_max = rows_max.saturating_mul(4);
    }
}

/// Adds a page to those before it.
fn join(rows: Vec<KeyedRow>, more: Vec<KeyedRow>, end: End) -> Vec<KeyedRow> {
    match end {
        End::First => [rows, more].concat(),
        End::Last => [more, rows].concat(),
    }
}

/// Rows from the nearest ancestor that holds them, with what is here merged in.
async fn read_above(tree: &Arc<Tree>, read: &Reading<'_>) -> Result<(Vec<KeyedRow>, Coverage)> {
    let mut request = Range {
        table: read.table.into(),
        extent: read.extent.clone(),
        from: read.range.from.clone(),
        to: read.range.to.clone(),
        reverse: read.end == End::Last,
        rows_max: read.rows_max as u64,
    };
    let mut rows: Vec<KeyedRow> = Vec::new();
    loop {
        let page = tree.page(&request).await?;
        let more = tree.localize(&page.rows)?;
        rows = join(rows, more, read.end);
        request.rows_max = request.rows_max.saturating_mul(4);
        let coverage = Coverage { complete: true, source: page.site, age_ms: page.age_ms };
        match page.rest {
            Some(rest) if !(read.enough)(&rows)? => match read.end {
                End::Last => request.to = Some(rest),
                End::First => request.from = rest,
            },
            _ => {
                return Ok((rows, coverage));
            }
        }
    }
}

async fn flush_when_due(engine: Arc<Engine>, closing: Arc<AtomicBool>) {
    loop {
        engine.flush_due.notified().await;
        if closing.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = engine.flush().await {
            tracing::error!(%error, "flush failed, the log keeps everything");
        }
    }
}

/// Locks a mutex whose holders never leave it half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// 64 random bits from the seed that the standard library draws for its hash maps.
pub(crate) fn entropy() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

#[cfg(test)]
mod tests;
