//! Segments that do not read: each is named to whoever asks for its rows, and shown in the status.
//! Everything else goes on: flushes leave it as it is and merge the others
//! (`docs/decisions/0140-what-is-damaged-holds-up-nothing-else.md`).

use std::sync::Arc;

use crate::columns::Columns;
use crate::error::{Error, Result};
use crate::run::Run;
use crate::schema::Schema;
use crate::segment::{Few, Found, Segment};
use crate::status::DamagedSegment;

use super::Engine;

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
                Err(Error::corrupt(&segment.meta.name, "the segment is listed but does not exist"))
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
