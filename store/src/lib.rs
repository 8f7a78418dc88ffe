//! EdgeStore: tables and blobs that every site of the tree can read and write, connected or not.
//!
//! [`EdgeStore`] is the one entrance. Beneath it: a local engine (log, memory, Parquet segments),
//! rows as mergeable states (`row`), and the tree protocol (`tree`) over a narrow [`Link`].
//! The on-disk format is in `docs/format.md`. Nothing here knows NATS, devices or handlers.
#![forbid(unsafe_code)]

mod blob;
mod changes;
mod columns;
mod commit;
mod config;
mod csv;
mod engine;
mod error;
mod export;
mod hash;
pub mod hlc;
mod import;
mod ipc;
mod key;
pub mod link;
mod manifest;
mod objects;
mod read;
mod record;
mod row;
mod run;
mod runtime;
mod scan;
mod schema;
mod segment;
mod serve;
mod spec;
mod sql;
mod status;
mod tree;
mod value;
mod wal;
mod write;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

pub use blob::{BLOB_BYTES_MAX, BlobKeeper, BlobKey, NewBlob, Removed};
pub use changes::{CHANGES_MAX, Changed, Feed, Position};
pub use commit::{COMMIT_STEPS_MAX, Commit, Condition, Expect, Version, Write};
pub use config::{Config, WallClock};
pub use engine::{Ack, GivenUp, Level, Mended, Salvaged, check_log, check_manifests, salvage};
pub use error::{Error, Result};
pub use export::{Page, TableFile};
pub use import::{FileFormat, RowFile, RowStream, row_streams};
pub use link::{Link, LinkError, PAYLOAD_BYTES_MAX};
pub use manifest::Remade;
pub use objects::{Bucket, BucketKeys};
pub use read::{Found, GET_KEYS_MAX, ReadOptions, SCAN_ROWS_MAX};
pub use scan::{Compare, Coverage, Filter, Scan, Scanned};
pub use spec::{
    ColumnKind, ColumnSpec, LIMIT_BYTES, Limits, Merge, PARTITION_BYTES_MAX, TABLE_BYTES_MAX,
    TTL_SECONDS_MAX, TableSpec, Ttl,
};
pub use sql::{
    SQL_AT_ONCE, SQL_DEADLINE_MS, SQL_DEADLINE_MS_MAX, SQL_OPERATORS_MAX, SQL_ROWS_MAX,
    SQL_TEXT_BYTES_MAX, SQL_TOKENS_MAX, Sql, SqlAnswer, SqlColumn,
};
pub use status::{DamagedSegment, Status, TableStatus};
pub use tree::wire::op;
pub use value::{Row, Value, row_from_json, row_to_json};

use engine::Engine;
use record::{Extent, Source};
use runtime::Running;
use tree::Tree;

pub(crate) use runtime::entropy;

/// After a failed flush: the shortest time to the next attempt, and the longest.
const FLUSH_PAUSE: Duration = Duration::from_millis(100);
const FLUSH_RETRY: Duration = Duration::from_secs(5);

/// A store of one site. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct EdgeStore {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<Engine>,
    tree: OnceLock<Arc<Tree>>,
    flusher: Mutex<Option<Running<()>>>,
    closing: Arc<AtomicBool>,
    /// Turns of queries in SQL.
    queries: Arc<Semaphore>,
    next_due: blob::due::NextDue,
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
        let flusher = runtime::spawn(flush_when_due(engine.clone(), closing.clone()));
        let flusher = Mutex::new(Some(flusher));
        let queries = Arc::new(Semaphore::new(SQL_AT_ONCE));
        let (tree, next_due) = (OnceLock::new(), Default::default());
        let inner = Inner { engine, tree, flusher, closing, queries, next_due };
        EdgeStore { inner: Arc::new(inner) }
    }

    /// Joins the tree over `link`. Without it the store works alone and keeps what has to climb.
    pub fn attach(&self, link: Arc<dyn Link>) -> Result<()> {
        let tree = Tree::join(self.inner.engine.clone(), link);
        self.inner.tree.set(tree).map_err(|_| {
            Error::BadRequest(format!("store of {} is in the tree already", self.site()))
        })
    }

    /// Leaves the tree, writes out the log and ends all tasks. What has gathered in memory goes to
    /// segments where that is cheap, so that the store is open again sooner. The store takes no
    /// writes after.
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
        engine.flush_to_close().await;
        if runtime::aside(move || engine.close()).await.is_err() {
            tracing::error!("closing the log was interrupted");
        }
    }

    /// Path of this site.
    pub fn site(&self) -> &str {
        &self.inner.engine.config.site
    }

    /// Creates a table, or changes it to what `spec` says: nullable columns are added, kinds widen,
    /// columns are dropped, and a higher revision may have another `ttl` and other `limits`. No row
    /// is rewritten. An equal definition changes nothing.
    pub async fn create_table(&self, spec: &TableSpec) -> Result<()> {
        self.inner.engine.create_table(spec, Source::Own).await
    }

    /// Says whether [`EdgeStore::create_table`] would take a definition; changes nothing.
    pub fn check_table(&self, spec: &TableSpec) -> Result<()> {
        spec.validate()?;
        match self.inner.engine.read().tables.get(&spec.name) {
            Some(table) => table.schema.check_change(spec),
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
        Ok((**self.inner.engine.read().table(name)?.schema).clone())
    }

    /// How the store is doing.
    pub fn status(&self) -> Status {
        let engine = &self.inner.engine;
        let damaged_segments = engine.damaged_segments();
        let state = engine.read();
        Status {
            site: engine.config.site.clone(),
            seq: state.seq,
            durable_seq: engine.wal.durable().borrow().seq,
            parent_seq: state.acked,
            torn_bytes: engine.recovered.torn_bytes,
            rotten_files: engine.recovered.rotten.clone(),
            damaged_segments,
            flush_failures: engine.flush_failures(),
            refusing: engine.wal.durable().borrow().failed.as_deref().map(str::to_owned),
            children: state.children_known().cloned().collect(),
        }
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

    /// Writes all changes to segments and lets go of the log as far as the parent has it.
    pub async fn flush(&self) -> Result<()> {
        self.inner.engine.flush().await
    }

    /// An operation on the rows of a table as clients ask for it in JSON, from within the site:
    /// `get`, `get-many`, `scan`, `put`, `patch`, `delete`, `discard`, `restore`, `increment`,
    /// `commit` or `changes`. What it is given and answers is as with [`EdgeStore::serve`].
    pub async fn ask(&self, op: &str, request: serde_json::Value) -> Result<serde_json::Value> {
        serve::ask(self, op, request).await
    }

    /// The same and `sql`, for who takes bytes: JSON, or an Arrow IPC stream where the request's
    /// `format` is `arrow` (`get`, `get-many`, `scan`, `changes`, `sql`). The rows of `put`,
    /// `patch`, `delete`, `discard` and `restore` and the keys of `get-many` may come as such a
    /// stream. The answer fits a message.
    pub async fn request(
        &self,
        op: &str,
        request: serde_json::Map<String, serde_json::Value>,
        rows: Option<Bytes>,
    ) -> Result<Bytes> {
        self.request_up_to(link::PAYLOAD_BYTES_MAX, op, request, rows).await
    }

    /// The same for who takes larger answers: those in Arrow may have so many bytes, and as many
    /// rows as the request says, up to [`SCAN_ROWS_MAX`].
    pub async fn request_up_to(
        &self,
        bytes_max: usize,
        op: &str,
        request: serde_json::Map<String, serde_json::Value>,
        rows: Option<Bytes>,
    ) -> Result<Bytes> {
        serve::request(self, op, request, rows, serve::Room::of(bytes_max)).await
    }

    /// Answers a request that has come in for this site: the operations of [`op`] from other
    /// stores (whose errors are part of the answer), and the JSON operations of clients, `get`,
    /// `scan`, `sql`, `put`, `patch`, `delete`, `increment`, `create`, `tables`, `status`,
    /// `rm-blob`. `from` is the path of the asking site, as the network vouches for it.
    pub async fn serve(&self, op: &str, from: &str, payload: Bytes) -> Result<Bytes> {
        self.serve_up_to(link::PAYLOAD_BYTES_MAX, op, from, payload).await
    }

    /// The same for who takes larger answers; see [`EdgeStore::request_up_to`].
    pub async fn serve_up_to(
        &self,
        bytes_max: usize,
        op: &str,
        from: &str,
        payload: Bytes,
    ) -> Result<Bytes> {
        serve::serve(self, op, from, payload, serve::Room::of(bytes_max)).await
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
        match runtime::timeout(deadline, self.know(table)).await {
            Ok(known) => known,
            Err(_) => Err(Error::Deadline(format!("table {table:?}"))),
        }
    }

    fn table_status(&self, table: &engine::Table) -> TableStatus {
        let partitions = table.partitions.values();
        let segments: Vec<_> = partitions.clone().flat_map(|p| p.segments.iter()).collect();
        let frozen = |p: &engine::Partition| p.frozen.as_ref().map_or(0, |f| f.len());
        let is_partition = |e: &&Extent| matches!(e, Extent::Partition(_));
        let tree = self.inner.tree.get();
        TableStatus {
            spec: (**table.schema).clone(),
            partitions: table.partitions.len(),
            segments: segments.len(),
            segment_rows: segments.iter().map(|s| s.meta.rows).sum(),
            segment_bytes: segments.iter().map(|s| s.meta.bytes).sum(),
            cached_bytes: segments.iter().map(|s| s.weight()).sum(),
            memory_rows: partitions.clone().map(|p| p.active.len() + frozen(p)).sum(),
            partition_bytes: partitions.map(|p| p.stored_bytes()).max().unwrap_or(0),
            partition_bytes_max: table.schema.limits.partition_bytes_max(),
            table_bytes_max: table.schema.limits.table_bytes_max(),
            complete: self.inner.engine.is_root() || table.extents.contains(&Extent::Whole),
            replicated_partitions: table.extents.iter().filter(is_partition).count(),
            age_ms: tree.map_or(0, |tree| tree.age_ms(&table.schema.table)),
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

/// Flushes when enough has gathered; after a failure again and again, as long as it takes.
async fn flush_when_due(engine: Arc<Engine>, closing: Arc<AtomicBool>) {
    let mut failed = false;
    loop {
        let due = engine.flush_due.notified();
        match failed {
            true => drop(runtime::timeout(FLUSH_RETRY, due).await),
            false => due.await,
        }
        if closing.load(Ordering::Acquire) {
            return;
        }
        let flushed = engine.flush().await;
        match &flushed {
            Err(error) if !failed => {
                tracing::error!(%error, "flush failed, the log keeps everything; trying again");
            }
            _ => {}
        }
        failed = flushed.is_err();
        if failed {
            runtime::sleep(FLUSH_PAUSE).await;
        }
    }
}

/// Locks a mutex whose holders never leave it half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests;
