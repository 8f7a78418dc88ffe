//! Segments that do not read: each is named to whoever asks for its rows, and shown in the status.
//! Everything else goes on: flushes leave it as it is and merge the others
//! (`docs/decisions/0140-what-is-damaged-holds-up-nothing-else.md`). One that nobody can put back
//! is given up, if somebody says so.

use std::sync::Arc;

use crate::columns::Columns;
use crate::error::{Error, Result};
use crate::manifest::{self, Manifest};
use crate::run::Run;
use crate::scan::key_to_json;
use crate::schema::Schema;
use crate::segment::{self, Few, Found, Segment};
use crate::spec::Merge;
use crate::status::DamagedSegment;

use super::salvage::GivenUp;
use super::{Engine, snapshot_entry};

/// What is wrong with a segment whose object is gone and that was not merged away.
const GONE: &str = "the segment is listed but does not exist";

/// A listed segment and where it is listed.
struct Place {
    schema: Arc<Schema>,
    partition: Vec<u8>,
    segment: Arc<Segment>,
}

impl Engine {
    /// The rows of a segment, with these columns; `None` if it has been merged away.
    pub(super) async fn run_of(
        &self,
        schema: &Arc<Schema>,
        columns: &Columns,
        segment: &Arc<Segment>,
    ) -> Result<Option<Arc<Run>>> {
        let keep = || {
            crate::lock(&self.cache).keep(segment, self.config.cache_bytes);
            // Some columns say nothing of the others.
            if *columns == Columns::All {
                segment.note_fault(None);
            }
        };
        let read = segment.run(schema, columns, &self.objects, keep).await;
        self.told(schema, segment, read, |run| run.is_none())
    }

    /// A few rows of a segment, as [`Segment::few`] finds them.
    pub(super) async fn few_of(
        &self,
        schema: &Arc<Schema>,
        columns: &Columns,
        segment: &Arc<Segment>,
        few: &Few,
    ) -> Result<Found> {
        let read = segment.few(schema, columns, &self.objects, few).await;
        self.told(schema, segment, read, |found| matches!(found, Found::Gone))
    }

    /// Those of some segments that read, with their rows. The others are left out: what a flush
    /// does not merge it keeps, and whoever has rows to flush has no part in the damage.
    pub(super) async fn readable(
        &self,
        schema: &Arc<Schema>,
        segments: &[Arc<Segment>],
    ) -> Vec<(Arc<Segment>, Arc<Run>)> {
        let mut readable = Vec::with_capacity(segments.len());
        for segment in segments {
            match self.run_of(schema, &Columns::All, segment).await {
                Ok(Some(run)) => readable.push((segment.clone(), run)),
                // Only flushes merge, one at a time: nobody has replaced it meanwhile.
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "not merged"),
            }
        }
        readable
    }

    /// The segments that did not read when that was last tried.
    pub fn damaged_segments(&self) -> Vec<DamagedSegment> {
        let state = self.read();
        let mut damaged = Vec::new();
        for table in state.tables.values() {
            let segments = table.partitions.values().flat_map(|p| p.segments.iter());
            damaged.extend(segments.filter_map(|segment| {
                let reason = segment.fault()?.to_string();
                let (object, rows) = (segment.meta.name.clone(), segment.meta.rows);
                Some(DamagedSegment { table: table.schema.name.clone(), object, rows, reason })
            }));
        }
        damaged
    }

    /// Notes the segments that were not there when the store was opened, so that they are named
    /// before somebody needs them.
    pub(super) fn note_missing(&self, found: &[manifest::Found]) {
        for name in found.iter().flat_map(|found| &found.missing) {
            if let Some(place) = self.place_of(name) {
                place.segment.note_fault(Some(GONE));
                tracing::error!(table = place.schema.name, object = name, "{GONE}");
            }
        }
    }

    fn place_of(&self, object: &str) -> Option<Place> {
        let state = self.read();
        state.tables.values().find_map(|table| {
            table.partitions.iter().find_map(|(key, partition)| {
                let segment = partition.segments.iter().find(|s| s.meta.name == object)?.clone();
                Some(Place { schema: table.schema.clone(), partition: key.to_vec(), segment })
            })
        })
    }

    /// Takes a segment that does not read out of its partition, for good: what it knew of the keys
    /// that it spans is lost here. Its object is kept beside, if there is one. A site below the
    /// root holds nothing of the table as a whole then, so that it asks above for what it lacks.
    ///
    /// # Errors
    /// [`Error::BadRequest`] if there is no such segment, if it reads, or if what is lost would
    /// spoil other sites' rows.
    pub(super) async fn give_up(&self, object: &str) -> Result<GivenUp> {
        let _turn = self.flushing.lock().await;
        let Some(Place { schema, partition, segment }) = self.place_of(object) else {
            let text =
                format!("no manifest lists a segment {object:?}; `status` names the damaged");
            return Err(Error::BadRequest(text));
        };
        let reason = match self.run_of(&schema, &Columns::All, &segment).await {
            Ok(_) => return Err(Error::BadRequest(format!("segment {object} reads, so it stays"))),
            Err(Error::Corrupt { reason, .. }) => reason,
            Err(error) => return Err(error),
        };
        // Sums go on from what this site has counted, which others know by its name.
        let is_built_on = [Merge::Counter, Merge::Max, Merge::Min];
        if !self.is_root() && is_built_on.iter().any(|merge| schema.merges_by(*merge)) {
            return Err(Error::BadRequest(format!(
                "table {:?} has columns that go on from what segment {object} knew, and other \
                 sites would take that for newer than what they know; put a sound copy in its \
                 place, or begin with an empty store here",
                schema.name
            )));
        }
        let kept_as = manifest::set_aside(&self.objects, object).await?;
        self.unlist(&schema, &partition, &segment).await?;
        let end = |key: &[u8]| schema.key_row(key).map(|key| key_to_json(&key));
        Ok(GivenUp {
            object: object.to_owned(),
            table: schema.name.clone(),
            rows: segment.meta.rows,
            first: end(segment.min_key())?,
            last: end(segment.max_key())?,
            reason,
            kept_as,
        })
    }

    /// Writes a manifest without a segment; nobody flushes meanwhile.
    async fn unlist(&self, schema: &Arc<Schema>, key: &[u8], segment: &Arc<Segment>) -> Result<()> {
        let mut manifest = {
            let state = self.read();
            let partition = state.table(&schema.table)?.partitions.get(key);
            let partition = partition.ok_or_else(|| Error::UnknownTable(schema.name.clone()))?;
            let left = partition.segments.iter().filter(|s| !Arc::ptr_eq(s, segment));
            Manifest {
                format: manifest::FORMAT,
                number: partition.manifest + 1,
                writer: self.writer(),
                spec: (***schema).clone(),
                partition: segment::hex(key),
                segments: left.map(|s| s.meta.clone()).collect(),
                forgotten_seq: partition.forgotten,
            }
        };
        manifest.commit(&self.objects).await?;
        let last = {
            let mut state = self.write();
            if let Some(table) = state.tables.get_mut(&*schema.table)
                && let Some(partition) = table.partitions.get_mut(key)
            {
                let left = partition.segments.iter().filter(|s| !Arc::ptr_eq(s, segment));
                partition.segments = Arc::new(left.cloned().collect());
                partition.manifest = manifest.number;
                table.stored_bytes = table.stored_bytes.saturating_sub(segment.meta.bytes);
                table.extents.clear();
                table.followed = None;
            }
            // Of what is held the log learns by a snapshot, with which a file begins.
            state.seq += 1;
            self.wal.rotate(state.seq, snapshot_entry(&state));
            state.seq
        };
        self.wal.wait(last).await?;
        manifest.tidy(&self.objects, true).await;
        Ok(())
    }

    /// Notes what a read has shown of a segment. One whose object is gone was merged away, or else
    /// it is damaged.
    fn told<T>(
        &self,
        schema: &Schema,
        segment: &Arc<Segment>,
        read: Result<T>,
        is_gone: impl Fn(&T) -> bool,
    ) -> Result<T> {
        let read = match read {
            Ok(found) if is_gone(&found) && self.lists(schema, segment) => {
                Err(Error::corrupt(&segment.meta.name, GONE))
            }
            read => read,
        };
        let reason = match &read {
            Err(Error::Corrupt { reason, .. }) => reason.clone(),
            // A bucket that does not answer says nothing of what it holds.
            Err(Error::Io { source, .. }) if !self.objects.is_shared() => source.to_string(),
            _ => return read,
        };
        if segment.note_fault(Some(&reason)) {
            let object = &segment.meta.name;
            tracing::error!(table = schema.name, object, reason, "a segment does not read");
        }
        read
    }

    /// True if a segment is still one of its table. Its object is removed after it is none.
    fn lists(&self, schema: &Schema, segment: &Arc<Segment>) -> bool {
        let state = self.read();
        let table = state.tables.get(&*schema.table);
        let mut partitions = table.into_iter().flat_map(|table| table.partitions.values());
        partitions.any(|p| p.segments.iter().any(|listed| Arc::ptr_eq(listed, segment)))
    }
}
