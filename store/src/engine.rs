//! The local engine: log, memory, segments. Knows nothing of other sites but what entries say.
//!
//! A write is numbered, applied to memory and queued for the log under one lock, and
//! acknowledged when the log has synced it. Readers of this site may see it a moment before it
//! is durable; other sites are told only of durable entries.

mod cache;
mod change;
mod damage;
mod flush;
mod forget;
mod ground;
mod limits;
mod look;
mod memtable;
mod partitions;
mod read;
mod recent;
mod salvage;
mod state;
mod turns;
mod write;

use std::fs::File;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, watch};

use crate::blob::kept::Blobs;
use crate::config::{Config, is_root};
use crate::error::{Error, Result};
use crate::hlc;
use crate::manifest::{self, Found, Listed};
use crate::objects::Objects;
use crate::record::plain::PlainRows;
use crate::record::{self, Batch, Body, Entry, Extent, Snapshot, Source};
use crate::runtime;
use crate::schema::Schema;
use crate::spec::TableSpec;
use crate::value::Row;
use crate::wal::{OnRot, Recovered, Wal};

pub use change::Change;
pub use ground::Ground;
pub use memtable::Memtable;
#[cfg(test)]
pub use memtable::Remembered;
pub use read::{End, KeyRange, PageMax, merge_layers};
pub use recent::Logged;
#[cfg(test)]
pub use salvage::salvage_on;
pub use salvage::{GivenUp, Mended, Salvaged, check_log, check_manifests, salvage};
pub use state::{Partition, State, Table};
pub use turns::Turn;
pub use write::{CALL_ROWS_MAX, Unit, Work};

use cache::Cache;
use ground::ground_of;
use recent::Recent;
use turns::SCANS_AT_ONCE;
use write::cut;

/// Calls that may wait for the log at once; more wait for their turn.
const WRITES_UNDER_WAY_MAX: usize = 4096;
/// Entries that a store may log per millisecond on average, as a power of two, without the numbers
/// of its history running ahead of the wall clock.
const NUMBERS_PER_MS_BITS: u32 = 20;
/// Bytes of entries of the log that are decoded at a time, and how often before they are carried
/// out: what lies between the two shall be in the processor's cache still.
const DECODED_BYTES: usize = 64 << 10;
const DECODED_AHEAD: usize = 4;
/// Rows logged at a time when everything is logged again.
const LOG_AGAIN_ROWS: usize = 1024;

/// How far a write has got.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Visible at this site; a crash may undo it.
    Memory,
    /// Synced to this site's disk.
    LocalSync,
    /// Synced to the parent's disk as well.
    Parent,
    /// Synced to the disk of the root: what a conditional commit reaches.
    Root,
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
    /// First number of this opening.
    opened_at: u64,
    /// Tells this opening from one of a copy in the same millisecond.
    drawn: u64,
    pub objects: Objects,
    pub blobs: Arc<Blobs>,
    pub wal: Wal,
    /// What recovery cut off or set aside.
    pub recovered: Recovered,
    state: RwLock<State>,
    recent: Mutex<Recent>,
    writes: Semaphore,
    /// Turns of scans that take much memory.
    pub scans: Arc<Semaphore>,
    flushing: tokio::sync::Mutex<()>,
    cache: Mutex<Cache>,
    /// Set when enough has gathered in memory.
    pub flush_due: Notify,
    /// Set when a flush has made room in memory.
    room_made: Notify,
    /// Bytes of changes in memory, roughly.
    bytes: AtomicUsize,
    flush_failures: AtomicU64,
    acked: watch::Sender<u64>,
    /// Entries up to here are in segments.
    flushed: AtomicU64,
    /// Held as long as the store is open.
    lock: Mutex<Option<File>>,
}

impl Engine {
    /// Opens the store in `config.dir`.
    pub async fn open(config: Config) -> Result<Self> {
        let ground = ground_of(&config).await?;
        Engine::open_on(config, ground).await
    }

    /// Opens a store on the given ground.
    pub async fn open_on(config: Config, ground: Ground) -> Result<Self> {
        let Ground { disk, objects, id, lock } = ground;
        let mut state = State::default();
        let Listed { mut found, unread } = manifest::newest(&objects).await?;
        let recovered = Wal::recover(&*disk, OnRot::Refuse)?;
        for unread in unread {
            let writer = format!("{id:016x}-opening-{:016x}", crate::entropy());
            found.push(unread.fall_back(&objects, recovered.first_seq(), writer).await?);
        }
        found.iter().try_for_each(|found| state.adopt(&found.manifest))?;
        replay(&recovered.entries, &mut state)?;
        state.seq = first_number(state.seq, (config.wall_clock)());
        let opened_at = state.seq;
        let first = snapshot_entry(&state);
        let acked = watch::Sender::new(state.acked);
        let wal = Wal::open(disk, &recovered, state.seq, first)?;
        let engine = Engine {
            config,
            id,
            opened_at,
            drawn: crate::entropy(),
            blobs: Arc::new(Blobs::new(objects.clone())),
            objects,
            wal,
            recovered: Recovered { entries: Vec::new(), ..recovered },
            state: RwLock::new(state),
            recent: Mutex::default(),
            writes: Semaphore::new(WRITES_UNDER_WAY_MAX),
            scans: Arc::new(Semaphore::new(SCANS_AT_ONCE)),
            flushing: Default::default(),
            cache: Mutex::default(),
            flush_due: Notify::new(),
            room_made: Notify::new(),
            bytes: AtomicUsize::new(0),
            flush_failures: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            acked,
            lock: Mutex::new(lock),
        };
        engine.note_bytes(&engine.read());
        engine.note_missing(&found);
        engine.clear_up(found).await?;
        Ok(engine)
    }

    /// Removes the segments that crashes left behind. Where others could write, a manifest of this
    /// opening comes first: whoever was about to list one of them cannot any more.
    async fn clear_up(&self, found: Vec<Found>) -> Result<()> {
        for Found { mut manifest, leftovers, .. } in
            found.into_iter().filter(|f| !f.leftovers.is_empty())
        {
            if self.objects.is_shared() {
                manifest.number += 1;
                manifest.writer = self.writer();
                manifest.commit(&self.objects).await?;
                let mut state = self.write();
                let table = state.tables.get_mut(&manifest.spec.name);
                let key = manifest.partition_key()?;
                if let Some(partition) = table.and_then(|t| t.partitions.get_mut(&key)) {
                    partition.manifest = manifest.number;
                }
            }
            for name in leftovers {
                match self.objects.remove(&name).await {
                    Err(error) if !self.objects.is_shared() => {
                        tracing::warn!(name, %error, "a segment that nobody lists stays for now");
                    }
                    removed => removed?,
                }
            }
        }
        Ok(())
    }

    /// Who writes manifests: this store, and this opening of it.
    fn writer(&self) -> String {
        format!("{:016x}-{}-{:016x}", self.id, self.opened_at, self.drawn)
    }

    /// Creates a table or adds columns to it; an equal definition changes nothing.
    pub async fn create_table(&self, spec: &TableSpec, source: Source) -> Result<()> {
        spec.validate()?;
        let seq = {
            let mut state = self.write();
            if let (Source::Own, Some(table)) = (source, state.tables.get(&spec.name)) {
                table.schema.check_change(spec)?;
            }
            match state.tables.get(&spec.name) {
                Some(table) if table.schema.evolve(spec)? == **table.schema => state.seq,
                _ => self.log(&mut state, source, vec![Body::Table(spec.clone())])?,
            }
        };
        self.wal.wait(seq).await
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
                    if table.schema.evolve(&spec)? == **table.schema
                        && keep_empty == KeepEmpty::No =>
                {
                    return Ok(state.seq);
                }
                _ => Body::Table(spec),
            },
            _ => return Err(Error::BadRequest("an entry of this sort does not travel".into())),
        };
        self.log(&mut state, source, vec![body])
    }

    /// Waits until memory has room for changes: flushes are behind, so whoever writes waits, too.
    pub async fn room(&self) -> Result<()> {
        let has_room = || self.bytes.load(Ordering::Acquire) <= self.config.memory_bytes;
        if has_room() {
            return Ok(());
        }
        let patience = Duration::from_millis(self.config.request_timeout_ms);
        let waiting = async {
            loop {
                let made = self.room_made.notified();
                if has_room() {
                    return;
                }
                self.flush_due.notify_one();
                made.await;
            }
        };
        runtime::timeout(patience, waiting).await.map_err(|_| {
            let max = self.config.memory_bytes;
            Error::Busy(format!("memory for changes: {max} bytes wait to be flushed to disk"))
        })
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
        let reading = runtime::aside(move || engine.read_log(seq, durable, bytes_max));
        reading.await.map_err(|e| Error::io("log", e))?
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
        let schemas: Vec<Arc<Schema>> =
            self.read().tables.values().map(|t| t.schema.clone()).collect();
        for schema in schemas {
            let rows = self.range(&schema.table, &KeyRange::default()).await?;
            self.log(&mut self.write(), Source::Own, vec![Body::Table((**schema).clone())])?;
            for rows in rows.chunks(LOG_AGAIN_ROWS) {
                let rows = rows.iter().map(|(k, r)| (k.to_vec(), r.state.clone())).collect();
                let (table, columns) = (schema.name.clone(), schema.names.clone());
                let batch = Batch { table, columns, rows };
                let bodies = cut(batch)?.into_iter().map(Body::Rows).collect();
                let seq = self.log(&mut self.write(), Source::Own, bodies)?;
                self.wal.wait(seq).await?;
            }
        }
        Ok(())
    }

    /// Writes out the log, ends its thread and lets go of the folder.
    pub fn close(&self) {
        self.wal.close();
        crate::lock(&self.lock).take();
    }

    /// Looks at the state.
    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Flushes that failed since the store was opened.
    pub fn flush_failures(&self) -> u64 {
        self.flush_failures.load(Ordering::Relaxed)
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

    fn note_bytes(&self, state: &State) {
        self.bytes.store(state.active_bytes + state.frozen_bytes, Ordering::Release);
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
                    found.push(Logged { seq, source, table: None, bytes: (*encoded).into() });
                }
            }
        }
        Ok(found)
    }

    /// Numbers, applies and queues entries. A body that is refused changes nothing and ends the
    /// list; those before it count.
    fn log(&self, state: &mut State, source: Source, bodies: Vec<Body>) -> Result<u64> {
        if let Some(reason) = self.wal.failed() {
            return Err(Error::ReadOnly(reason.to_string()));
        }
        let mut queued = Vec::with_capacity(bodies.len());
        for body in bodies {
            let entry = Entry { seq: state.seq + 1, source, body };
            let bytes: Arc<[u8]> = record::encode(&entry).into();
            let table = touched(&entry.body).map(|name| match state.tables.get(name) {
                Some(table) => (table.schema.table.clone(), table.last_seq),
                None => (Arc::from(name), 0),
            });
            if let Err(refusal) = state.apply(entry) {
                self.wal.append(state.seq, queued);
                return Err(refusal);
            }
            let logged = Logged { seq: state.seq, source, table, bytes: bytes.clone() };
            crate::lock(&self.recent).push(logged);
            queued.push(bytes);
        }
        self.wal.append(state.seq, queued);
        self.note_bytes(state);
        if state.active_bytes > self.config.flush_bytes {
            self.flush_due.notify_one();
        }
        Ok(state.seq)
    }
}

/// Carries out the entries of a log. One thread decodes what the other one carries out next: both
/// take about as long, and whoever opens a store waits for it.
fn replay(entries: &[Bytes], state: &mut State) -> Result<()> {
    let corrupt = |e: Error| Error::corrupt("log", e.to_string());
    let decode = |bytes: &[u8]| record::decode::<Entry>("log entry", bytes);
    let step = move |bytes: &Bytes| match PlainRows::read(bytes) {
        Some(rows) => Ok(Step::Rows(rows)),
        None => decode(bytes).map(|entry| Step::Entry(Box::new(entry))),
    };
    let (decoded, ahead) = sync_channel::<Vec<Result<Step>>>(DECODED_AHEAD);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut left = entries.iter();
            while !left.as_slice().is_empty() {
                let (mut steps, mut bytes) = (Vec::new(), 0);
                while bytes < DECODED_BYTES
                    && let Some(entry) = left.next()
                {
                    bytes += entry.len();
                    steps.push(step(entry));
                }
                // Who carries them out has given up if there is nobody to take them.
                if decoded.send(steps).is_err() {
                    return;
                }
            }
        });
        let mut steps = entries.iter().zip(ahead.into_iter().flatten());
        steps.try_for_each(|(bytes, step)| match step.map_err(corrupt)? {
            Step::Entry(entry) => state.apply(*entry).map_err(corrupt),
            Step::Rows(rows) => match state.apply_plain(&rows).map_err(corrupt)? {
                true => Ok(()),
                false => state.apply(decode(bytes).map_err(corrupt)?).map_err(corrupt),
            },
        })
    })
}

/// An entry of the log as it is carried out.
enum Step {
    Rows(PlainRows),
    Entry(Box<Entry>),
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
            Level::Memory => Level::Memory,
            _ => Level::LocalSync,
        }
    }
}

/// Leaves out the rows that memory knows already.
fn only_news(state: &State, mut batch: Batch) -> Result<Batch> {
    let table = state.table(&batch.table)?;
    let local = table.localize(batch.clone())?;
    let mut news = local.iter().map(|(partition, key, row)| {
        table.partitions.get(partition).is_none_or(|p| p.is_news(key, row))
    });
    batch.rows.retain(|_| news.next().unwrap_or(true));
    Ok(batch)
}

/// The first number that a store gives after it was opened with `last`. A store that was used
/// before goes on at the wall clock, so that it gives no number twice, even if it was restored
/// from an older copy or its disk lied about a sync: other sites may know more of it than it does.
fn first_number(last: u64, now_ms: u64) -> u64 {
    match last {
        0 => 1,
        last => (last + 1).max(now_ms << NUMBERS_PER_MS_BITS),
    }
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

/// True if stamps of `body` are further ahead of this site's wall clock than is allowed.
pub fn ahead_ms(body: &Body, now_ms: u64) -> Option<u64> {
    let Body::Rows(batch) = body else { return None };
    let newest = batch.rows.iter().map(|(_, state)| state.newest_hlc()).max()?;
    hlc::ahead_ms(newest, now_ms)
}

/// The extent of a table that a row or range needs.
pub fn extent_of(schema: &Schema, row: &Row) -> Result<Extent> {
    Ok(match schema.partition_of(row)? {
        Some(partition) if !schema.partition.is_empty() => Extent::Partition(partition),
        _ => Extent::Whole,
    })
}
