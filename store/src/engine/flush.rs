//! Moving changes from memory to segments, merging segments, and letting go of the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use crate::columns::Columns;
use crate::error::{Error, Result};
use crate::manifest::{self, Manifest};
use crate::record::Body;
use crate::run::{Run, Slice, kept, merge};
use crate::runtime;
use crate::schema::Schema;
use crate::segment::{self, Segment, SegmentMeta};

use super::forget::without_deletes;
use super::state::Segments;
use super::{End, Engine, Memtable, Partition, snapshot_entry};

/// Partitions with so few bytes of changes and segments are flushed several at a time.
const SMALL_BYTES: u64 = 1 << 20;
const SMALL_AT_ONCE: usize = 8;

/// Partitions that a store which is closed flushes at most: each costs some syncs.
const CLOSE_PARTITIONS_MAX: usize = 32;
/// How long a flush may take that is made because the store is closed.
const CLOSE_FLUSH_MAX: Duration = Duration::from_secs(2);

/// A partition with changes to flush.
struct Job {
    schema: Arc<Schema>,
    partition: Vec<u8>,
    frozen: Arc<Memtable>,
    segments: Segments,
    manifest: u64,
    forgotten: u64,
    /// The partition or its table is near its limit.
    is_pressed: bool,
}

/// A partition's changes as a segment that is to be written.
struct Encoded {
    /// None if no row is left.
    segment: Option<(SegmentMeta, Bytes, Arc<Run>)>,
    /// The last entry of the deletes that were left out.
    forgotten: u64,
}

/// What a flush has made of a partition's changes.
struct Written {
    /// None if no row is left.
    segment: Option<Segment>,
    /// The last entry of the deletes that were left out.
    forgotten: u64,
}

impl Engine {
    /// Writes every change up to now to segments. Log files that are no longer needed go.
    pub async fn flush(&self) -> Result<()> {
        let _turn = self.flushing.lock().await;
        let flushed = self.flush_all().await;
        if flushed.is_err() {
            self.flush_failures.fetch_add(1, Ordering::Relaxed);
        }
        flushed
    }

    /// Flushes before the store is closed, so that whoever opens it has little log to read: if
    /// there is much in memory, in few partitions, and the log can go. Without it nothing is lost.
    pub async fn flush_to_close(&self) {
        let is_cheap = {
            let state = self.read();
            let partitions = state.tables.values().flat_map(|t| t.partitions.values());
            let changed = partitions.filter(|p| !p.active.is_empty() || p.frozen.is_some());
            state.active_bytes + state.frozen_bytes > self.config.close_bytes
                && changed.count() <= CLOSE_PARTITIONS_MAX
                && (self.is_root() || state.acked >= state.seq)
        };
        if !is_cheap {
            return;
        }
        match runtime::timeout(CLOSE_FLUSH_MAX, self.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::info!(%error, "not flushed, the log keeps everything"),
            Err(_) => tracing::info!("not flushed in time, the log keeps everything"),
        }
    }

    /// Removes the log files that hold only what is in segments and what the parent has
    /// acknowledged.
    pub async fn trim_log(&self) -> Result<()> {
        let flushed = self.flushed.load(Ordering::Acquire);
        let (seq, climbed) = {
            let state = self.read();
            (state.acked, state.climbed)
        };
        let unneeded = if self.is_root() { flushed } else { flushed.min(seq) };
        if !self.wal.can_remove_through(unneeded) {
            return Ok(());
        }
        if !self.is_root() {
            // What the parent has must be known for sure before the log forgets it: should the
            // parent lose it, that is how we notice.
            let noted = self.note(Body::Acked { seq, climbed })?;
            self.wal.wait(noted).await?;
        }
        self.wal.remove_through(unneeded)
    }

    async fn flush_all(&self) -> Result<()> {
        // Leftovers of a flush that failed come first: their log entries lie in older files.
        self.flush_frozen().await?;
        let Some(boundary) = self.freeze() else { return Ok(()) };
        self.wal.wait(boundary).await?;
        self.flush_frozen().await?;
        self.flushed.store(boundary, Ordering::Release);
        self.trim_log().await
    }

    /// Sets all changes aside for flushing and starts a new log file behind them. `None` if
    /// there is nothing to flush.
    fn freeze(&self) -> Option<u64> {
        let (mut state, now_ms) = (self.write(), self.now_ms());
        let mut any = false;
        for table in state.tables.values_mut() {
            let due = |p: &Partition| !p.active.is_empty() || table.may_shrink(p, now_ms);
            let due = table.partitions.iter().filter(|(_, p)| due(p));
            let due: Vec<Vec<u8>> = due.map(|(key, _)| key.to_vec()).collect();
            for key in due {
                if let Some(partition) = table.partitions.get_mut(&key) {
                    partition.frozen = Some(Arc::new(std::mem::take(&mut partition.active)));
                    any = true;
                }
            }
        }
        if !any {
            return None;
        }
        state.frozen_bytes += std::mem::take(&mut state.active_bytes);
        state.seq += 1;
        self.wal.rotate(state.seq, snapshot_entry(&state));
        Some(state.seq)
    }

    /// Small partitions mostly wait for the disk, so several are flushed at a time. After a failure
    /// no more are begun, and those under way end as they do.
    async fn flush_frozen(&self) -> Result<()> {
        let (small, large): (Vec<Job>, Vec<Job>) = self.jobs().into_iter().partition(Job::is_small);
        for job in large {
            self.flush_partition(job).await?;
        }
        let mut waiting = small.into_iter();
        let first = waiting.by_ref().take(SMALL_AT_ONCE);
        let mut under_way: FuturesUnordered<_> =
            first.map(|job| self.flush_partition(job).boxed()).collect();
        let mut outcome = Ok(());
        while let Some(flushed) = under_way.next().await {
            outcome = outcome.and(flushed);
            if outcome.is_ok()
                && let Some(job) = waiting.next()
            {
                under_way.push(self.flush_partition(job).boxed());
            }
        }
        outcome
    }

    fn jobs(&self) -> Vec<Job> {
        let state = self.read();
        let mut jobs = Vec::new();
        for table in state.tables.values() {
            for (key, partition) in table.partitions.iter() {
                let Some(frozen) = partition.frozen.clone() else { continue };
                jobs.push(Job {
                    schema: table.schema.clone(),
                    partition: key.to_vec(),
                    frozen,
                    segments: partition.segments.clone(),
                    manifest: partition.manifest,
                    forgotten: partition.forgotten,
                    is_pressed: table.is_pressed_at(partition),
                });
            }
        }
        jobs
    }

    async fn flush_partition(&self, job: Job) -> Result<()> {
        let bytes: Vec<u64> = job.segments.iter().map(|s| s.meta.bytes).collect();
        let count = match job.is_pressed {
            true => that_fit(&bytes, self.config.merge_bytes_max),
            false => merged_with(&bytes, self.config.segments_max, self.config.merge_bytes_max),
        };
        let newest = &job.segments[job.segments.len() - count..];
        let merged = self.readable(&job.schema, newest).await;
        let (mut kept, runs) = job.without(merged);
        let merges = !runs.is_empty();
        let made = match self.encoded(&job, &kept, runs).await {
            // They read, and yet something is wrong with them.
            Err(error) if merges => {
                tracing::error!(table = job.schema.name, %error, "segments cannot be merged");
                kept = job.segments.to_vec();
                self.encoded(&job, &kept, Vec::new()).await?
            }
            made => made?,
        };
        let Written { segment, forgotten } = self.write_segment(made).await?;
        let written = segment.map(Arc::new);
        if let Some(written) = &written {
            crate::lock(&self.cache).keep(written, self.config.cache_bytes);
        }
        let now_ms = self.now_ms();
        let kept = kept.iter().filter(|segment| !segment.is_expired(&job.schema, now_ms));
        let kept: Vec<_> = kept.cloned().collect();
        let mut some_go = kept.len() < job.segments.len();
        let mut segments = Vec::with_capacity(kept.len() + 1);
        for segment in kept {
            let left = match &written {
                Some(written) if job.is_pressed => self.rewritten(&job, &segment, written).await?,
                _ => None,
            };
            some_go |= left.is_some();
            segments.extend(left.unwrap_or(Some(segment)));
        }
        segments.extend(written);
        let mut manifest = Manifest {
            format: manifest::FORMAT,
            number: job.manifest + 1,
            writer: self.writer(),
            spec: (**job.schema).clone(),
            partition: segment::hex(&job.partition),
            segments: segments.iter().map(|s| s.meta.clone()).collect(),
            forgotten_seq: forgotten.max(job.forgotten),
        };
        manifest.commit(&self.objects).await?;
        self.install(&job, segments, &manifest);
        // Letting go of many rows takes a while, which nobody has to wait for.
        runtime::aside(move || drop(job));
        manifest.tidy(&self.objects, some_go).await;
        Ok(())
    }

    /// What has changed, merged with `runs`, as one segment; `older` ones stay. Rows that have
    /// lived their time are left out: nobody sees them again, whoever still has them.
    async fn encoded(
        &self,
        job: &Job,
        older: &[Arc<Segment>],
        runs: Vec<Arc<Run>>,
    ) -> Result<Encoded> {
        let name = job.new_name();
        let (schema, frozen) = (job.schema.clone(), job.frozen.clone());
        let (now_ms, forgets_before_ms) = (self.now_ms(), self.forgets_before_ms(&schema));
        let older = older.to_vec();
        let encoding = runtime::aside(move || -> Result<_> {
            let places = frozen.range(&[], None, End::First, usize::MAX);
            let changes = frozen.run(&schema, &Columns::All, &places)?;
            let slices = runs.into_iter().chain([Arc::new(changes)]).map(Slice::whole);
            let merged = merge(&schema, slices.collect())?;
            let living = kept(merged, |slice| slice.living(&schema, now_ms))?;
            let (left, forgotten) = match forgets_before_ms {
                Some(before_ms) => without_deletes(living, before_ms, &older)?,
                None => (living, 0),
            };
            let run = Slice::joined(&schema, &left)?;
            if run.len() == 0 {
                return Ok(Encoded { segment: None, forgotten });
            }
            // What was merged has as many bytes as what is made of it now.
            drop(left);
            let (meta, bytes) = segment::encode(name, &run)?;
            Ok(Encoded { segment: Some((meta, bytes, run)), forgotten })
        });
        encoding.await.map_err(|e| Error::io("segment", e))?
    }

    async fn write_segment(&self, made: Encoded) -> Result<Written> {
        let Encoded { segment, forgotten } = made;
        let Some((meta, bytes, run)) = segment else {
            return Ok(Written { segment: None, forgotten });
        };
        self.objects.create(&meta.name, bytes).await?;
        let segment = Some(Segment::listed(meta, Some(run))?);
        Ok(Written { segment, forgotten })
    }

    /// What is left of an older segment as another one, if that is much less; none in it if nothing
    /// is.
    async fn rewritten(
        &self,
        job: &Job,
        segment: &Arc<Segment>,
        newest: &Segment,
    ) -> Result<Option<Option<Arc<Segment>>>> {
        let Some(newest) = newest.in_memory(&job.schema, &Columns::All) else { return Ok(None) };
        let Some(left) = self.shrunk(&job.schema, segment, &newest).await? else { return Ok(None) };
        let (schema, name) = (job.schema.clone(), job.new_name());
        let encoding = runtime::aside(move || -> Result<_> {
            let run = Slice::joined(&schema, &left)?;
            if run.len() == 0 { Ok(None) } else { segment::encode(name, &run).map(Some) }
        });
        let encoded = encoding.await.map_err(|e| Error::io("segment", e))?;
        let Some((meta, bytes)) = encoded? else { return Ok(Some(None)) };
        self.objects.create(&meta.name, bytes).await?;
        Ok(Some(Some(Arc::new(Segment::listed(meta, None)?))))
    }

    /// Whoever waits for room in memory has that of the partition at once.
    fn install(&self, job: &Job, segments: Vec<Arc<Segment>>, manifest: &Manifest) {
        let mut state = self.write();
        let now_ms = self.now_ms();
        if let Some(table) = state.tables.get_mut(&*job.schema.table)
            && let Some(partition) = table.partitions.get_mut(&job.partition)
        {
            table.memory_bytes = table.memory_bytes.saturating_sub(job.frozen.weight);
            table.stored_bytes = table.stored_bytes.saturating_sub(partition.stored_bytes());
            partition.segments = Arc::new(segments);
            table.stored_bytes += partition.stored_bytes();
            partition.flushed_ms = now_ms;
            partition.frozen = None;
            partition.manifest = manifest.number;
            partition.forgotten = manifest.forgotten_seq;
        }
        state.frozen_bytes = state.frozen_bytes.saturating_sub(job.frozen.weight);
        self.note_bytes(&state);
        drop(state);
        self.room_made.notify_waiters();
    }
}

impl Job {
    /// The segments but for those that are merged, and the rows of these.
    fn without(&self, merged: Vec<(Arc<Segment>, Arc<Run>)>) -> (Vec<Arc<Segment>>, Vec<Arc<Run>>) {
        let stays = |segment: &&Arc<Segment>| !merged.iter().any(|(s, _)| Arc::ptr_eq(s, segment));
        let kept = self.segments.iter().filter(stays).cloned().collect();
        (kept, merged.into_iter().map(|(_, run)| run).collect())
    }

    /// For a segment. The random part keeps a retry after a crash from meeting its own leftovers.
    fn new_name(&self) -> String {
        let folder = manifest::folder(&self.schema.name, &self.partition);
        format!("{folder}/s/{:016x}-{:016x}.parquet", self.manifest + 1, crate::entropy())
    }

    fn is_small(&self) -> bool {
        let bytes: u64 = self.segments.iter().map(|segment| segment.meta.bytes).sum();
        bytes + self.frozen.weight as u64 <= SMALL_BYTES
    }
}

/// With how many of the newest segments a flush merges what it writes; `bytes` are theirs, oldest
/// first. A segment is taken in when all that is newer comes to at least half of it: so a row is
/// written again only as often as what it lies in grows by half.
fn merged_with(bytes: &[u64], segments_max: usize, bytes_max: u64) -> usize {
    if bytes.len() < segments_max {
        return 0;
    }
    let (mut count, mut newer) = (0, 0);
    for older in bytes.iter().rev() {
        if newer + older > bytes_max || count > 0 && *older > newer * 2 {
            break;
        }
        newer += older;
        count += 1;
    }
    count
}

/// The same where what there is shall take as little room as it can: with all that fit.
fn that_fit(bytes: &[u64], bytes_max: u64) -> usize {
    let newer = bytes.iter().rev().scan(0, |sum, bytes| {
        *sum += bytes;
        Some(*sum)
    });
    newer.take_while(|sum| *sum <= bytes_max).count()
}

#[cfg(test)]
mod tests;
