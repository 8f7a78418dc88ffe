//! What a store holds in memory, and how an entry of its history changes that. Pure: the same
//! code runs when an entry is written, when it is received and when the log is read back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::hash::Hashed;
use crate::hlc::Clock;
use crate::key::is_same;
use crate::manifest::Manifest;
use crate::record::plain::PlainRows;
use crate::record::{Batch, Body, Entry, Extent, Snapshot, Source, TableState};
use crate::row::RowState;
use crate::run::Versioned;
use crate::schema::Schema;
use crate::segment::Segment;
use crate::spec::TableSpec;

use super::memtable::{Memtable, Remembered};
use super::partitions::Partitions;

/// Everything of a store that is not on disk only.
#[derive(Default)]
pub struct State {
    /// Last entry.
    pub seq: u64,
    /// This site's clock.
    pub clock: Clock,
    /// Tables by name.
    pub tables: BTreeMap<String, Table>,
    /// Children by store identity: site path and last entry received.
    pub children: BTreeMap<u64, (String, u64)>,
    /// Everything up to here has been looked at for the parent, which has what climbs.
    pub acked: u64,
    /// The last entry of these that climbs.
    pub climbed: u64,
    /// Bytes of changes in memory since the last flush began, roughly.
    pub active_bytes: usize,
    /// Bytes of changes that are being flushed, roughly.
    pub frozen_bytes: usize,
}

/// One table.
pub struct Table {
    /// The specification.
    pub schema: Arc<Schema>,
    /// Last entry that touched the table.
    pub last_seq: u64,
    /// The parent's store and its entry up to which the replicas are complete.
    pub followed: Option<(u64, u64)>,
    /// What is replicated from the parent.
    pub extents: BTreeSet<Extent>,
    /// Partitions by encoded partition columns.
    pub partitions: Partitions<Partition>,
    /// Bytes of the segments of all partitions.
    pub stored_bytes: u64,
    /// Bytes of changes in memory, roughly.
    pub memory_bytes: usize,
    /// When it was last asked for a flush because the table is near its limits.
    pub pressed_ms: u64,
}

/// The segments of a partition; replaced as a whole.
pub type Segments = Arc<Vec<Arc<Segment>>>;

/// Partition, key and state of a row in this store's column numbers.
pub type LocalRow = (Vec<u8>, Vec<u8>, RowState);

/// One partition. A row's state is the merge of what the three layers know of it.
#[derive(Default)]
pub struct Partition {
    /// Changes since the last flush began.
    pub active: Memtable,
    /// Changes being flushed.
    pub frozen: Option<Arc<Memtable>>,
    /// Flushed changes.
    pub segments: Segments,
    /// Number of the newest manifest.
    pub manifest: u64,
    /// The last entry of the deletes that were forgotten: whatever entries up to here changed is in
    /// the segments, or gone.
    pub forgotten: u64,
    /// When it was last flushed (milliseconds since 1970); 0 is before the store was opened.
    pub flushed_ms: u64,
}

impl State {
    /// The table of that name.
    pub fn table(&self, name: &str) -> Result<&Table> {
        self.tables.get(name).ok_or_else(|| Error::UnknownTable(name.into()))
    }

    /// Carries out an entry. Entries must come in order; one whose rows do not fit is refused
    /// and changes nothing.
    pub fn apply(&mut self, entry: Entry) -> Result<()> {
        let Entry { seq, source, body } = entry;
        match body {
            Body::Table(spec) => self.define(spec, seq)?,
            Body::Rows(batch) => self.apply_rows(batch, seq, source)?,
            Body::Hold { table, extent, parent, seq } => {
                if let Some(table) = self.tables.get_mut(&table) {
                    table.hold(extent, parent, seq);
                }
            }
            Body::Acked { seq, climbed } => self.acknowledge(seq, climbed),
            Body::Child { store, site, seq } => {
                let child = self.children.entry(store).or_default();
                *child = (site, child.1.max(seq));
            }
            Body::Snapshot(snapshot) => self.restore(&snapshot),
        }
        self.seq = self.seq.max(seq);
        if let Source::Child { store, seq } = source {
            let child = self.children.entry(store).or_default();
            child.1 = child.1.max(seq);
        }
        Ok(())
    }

    /// Carries out an entry of this store's own log, as [`State::apply`] does, if that can be done
    /// without looking at its cells: false, and nothing is changed, if its columns are not those of
    /// the table.
    pub fn apply_plain(&mut self, rows: &PlainRows) -> Result<bool> {
        let Some(table) = self.tables.get_mut(&rows.table) else { return Ok(false) };
        let schema = table.schema.clone();
        if !schema.dropped.is_empty() || rows.columns != schema.names {
            return Ok(false);
        }
        let partitions = rows.iter().map(|row| schema.partition_of_key(row.key.key));
        let partitions = partitions.collect::<Result<Vec<_>>>()?;
        let (mut newest, mut grown) = (0, 0);
        let mut rows_left = rows.iter().zip(&partitions).peekable();
        while let Some((_, key)) = rows_left.peek().copied() {
            let partition = table.partitions.at(key.clone());
            while let Some((row, _)) = rows_left.next_if(|(_, next)| is_same(next, key)) {
                newest = newest.max(row.written.hlc);
                if rows.seq > partition.forgotten {
                    grown += partition.active.merge_plain(row, rows.seq);
                }
            }
        }
        table.memory_bytes += grown;
        self.active_bytes += grown;
        table.last_seq = table.last_seq.max(rows.seq);
        self.clock.observe(newest);
        self.seq = self.seq.max(rows.seq);
        Ok(true)
    }

    /// Notes what the parent has: see [`Body::Acked`].
    pub fn acknowledge(&mut self, seq: u64, climbed: u64) {
        self.acked = self.acked.max(seq);
        self.climbed = self.climbed.max(climbed);
    }

    /// Everything the log has to remember besides rows.
    pub fn snapshot(&self) -> Snapshot {
        let tables = self.tables.values().map(|t| TableState {
            spec: (**t.schema).clone(),
            last_seq: t.last_seq,
            followed: t.followed,
            extents: t.extents.iter().cloned().collect(),
        });
        let children = self.children.iter().map(|(id, (site, seq))| (*id, site.clone(), *seq));
        Snapshot {
            seq: self.seq,
            hlc: self.clock.last(),
            tables: tables.collect(),
            children: children.collect(),
            acked: (self.acked, self.climbed),
        }
    }

    /// Adds a partition found on disk.
    pub fn adopt(&mut self, manifest: &Manifest) -> Result<()> {
        self.define(manifest.spec.clone(), 0)?;
        let listed = |m| Segment::listed(m, None).map(Arc::new);
        let segments = manifest.segments.iter().cloned().map(listed);
        let segments = Arc::new(segments.collect::<Result<Vec<_>>>()?);
        let Manifest { number, forgotten_seq: forgotten, .. } = *manifest;
        let partition = Partition { segments, manifest: number, forgotten, ..Partition::default() };
        let seq = manifest.segments.iter().map(|s| s.max_seq).fold(forgotten, u64::max);
        self.seq = self.seq.max(seq);
        if let Some(table) = self.tables.get_mut(&manifest.spec.name) {
            table.last_seq = table.last_seq.max(seq);
            table.stored_bytes += partition.stored_bytes();
            *table.partitions.at(manifest.partition_key()?) = partition;
        }
        Ok(())
    }

    fn define(&mut self, spec: TableSpec, seq: u64) -> Result<()> {
        spec.validate()?;
        match self.tables.get_mut(&spec.name) {
            Some(table) => {
                table.become_of(table.schema.evolve(&spec)?);
                table.last_seq = table.last_seq.max(seq);
            }
            None => {
                self.tables.insert(spec.name.clone(), Table::new(spec, seq));
            }
        }
        Ok(())
    }

    fn apply_rows(&mut self, batch: Batch, seq: u64, source: Source) -> Result<()> {
        let table = self
            .tables
            .get_mut(&batch.table)
            .ok_or_else(|| Error::UnknownTable(batch.table.clone()))?;
        let (mut newest, mut grown) = (0, 0);
        for (partition, key, state) in table.localize_from(source, batch)? {
            newest = newest.max(state.newest_hlc());
            let partition = table.partitions.at(partition);
            // A log that is older than the segments would bring back what was deleted since.
            if seq <= partition.forgotten {
                continue;
            }
            grown += partition.active.merge(&key, state, seq);
        }
        table.memory_bytes += grown;
        self.active_bytes += grown;
        table.last_seq = table.last_seq.max(seq);
        if let Source::Parent { store, seq } = source {
            table.advance(store, seq);
        }
        self.clock.observe(newest);
        Ok(())
    }

    fn restore(&mut self, snapshot: &Snapshot) {
        self.seq = self.seq.max(snapshot.seq);
        self.clock.observe(snapshot.hlc);
        self.acknowledge(snapshot.acked.0, snapshot.acked.1);
        for (id, site, seq) in &snapshot.children {
            self.children.insert(*id, (site.clone(), *seq));
        }
        for kept in &snapshot.tables {
            let name = &kept.spec.name;
            let table = self
                .tables
                .entry(name.clone())
                .or_insert_with(|| Table::new(kept.spec.clone(), kept.last_seq));
            table.become_of(kept.spec.clone());
            table.last_seq = table.last_seq.max(kept.last_seq);
            table.followed = kept.followed;
            table.extents = kept.extents.iter().cloned().collect();
        }
    }
}

impl Table {
    fn new(spec: TableSpec, seq: u64) -> Self {
        Table {
            schema: Arc::new(Schema::new(spec)),
            last_seq: seq,
            followed: None,
            extents: BTreeSet::new(),
            partitions: Partitions::default(),
            stored_bytes: 0,
            memory_bytes: 0,
            pressed_ms: 0,
        }
    }

    /// The batch in this table's own column numbers, with the partition of each row. Rows come
    /// from other sites too, so everything is checked, but for what was made here just now.
    pub fn localize(&self, batch: Batch) -> Result<Vec<LocalRow>> {
        if batch.columns.is(&self.schema.names) {
            let place = |(key, state): (Vec<u8>, RowState)| {
                Ok((self.schema.partition_of_key(&key)?, key, state))
            };
            return batch.rows.into_iter().map(place).collect();
        }
        let numbers = batch.columns.iter().map(|name| self.schema.place_of(name));
        let numbers = numbers.collect::<Result<Vec<Option<u16>>>>()?;
        let rows = batch.rows.into_iter();
        rows.map(|(key, state)| self.localize_row(&numbers, key, state)).collect()
    }

    /// The same of a batch from `source`. One that this store made needs no check, also when its
    /// log gives it back, as long as the table still has the columns that it was made for.
    fn localize_from(&self, source: Source, batch: Batch) -> Result<Vec<LocalRow>> {
        let schema = &self.schema;
        let is_ours = source == Source::Own && schema.dropped.is_empty();
        match is_ours && batch.columns == schema.names {
            true => self.localize(Batch { columns: schema.names.clone(), ..batch }),
            false => self.localize(batch),
        }
    }

    /// True if the replicas cover the extent.
    pub fn holds(&self, extent: &Extent) -> bool {
        self.extents.contains(&Extent::Whole) || self.extents.contains(extent)
    }

    /// True if the replicas cover the partition, or all of a table that is one.
    pub fn holds_partition(&self, partition: &[u8]) -> bool {
        self.extents.contains(&Extent::Whole)
            || !partition.is_empty() && self.holds(&Extent::Partition(partition.to_vec()))
    }

    /// `numbers` says where each column goes here; cells of dropped ones go nowhere.
    fn localize_row(
        &self,
        numbers: &[Option<u16>],
        key: Vec<u8>,
        state: RowState,
    ) -> Result<LocalRow> {
        let (schema, mut state) = (&self.schema, state);
        state.cells.retain(|(number, _)| numbers.get(*number as usize) != Some(&None));
        for (number, cell) in &mut state.cells {
            let local = numbers.get(*number as usize).copied().flatten();
            match local.map(|n| (n, schema.column_at(n))) {
                Some((local, column)) if cell.fits(column) && !schema.key.contains(&local) => {
                    *number = local;
                }
                _ => {
                    return Err(Error::BadRequest(format!(
                        "a change to table {:?} holds a cell that fits no column",
                        schema.name
                    )));
                }
            }
        }
        state.cells.sort_by_key(|(number, _)| *number);
        state.cells.dedup_by_key(|(number, _)| *number);
        state.normalize();
        // Finding the partition also proves that the key is one.
        Ok((schema.partition_of_key(&key)?, key, state))
    }

    /// Takes another specification, unless it is the same.
    fn become_of(&mut self, spec: TableSpec) {
        if spec != **self.schema {
            self.schema = Arc::new(Schema::new(spec));
        }
    }

    fn hold(&mut self, extent: Extent, parent: u64, seq: u64) {
        self.extents.insert(extent);
        // A first replica starts the count; another one does not set it back or forward, because
        // what arrives meanwhile is taken for it as well.
        match self.followed {
            Some((store, at)) if store == parent && at <= seq => {}
            _ => self.followed = Some((parent, seq)),
        }
    }

    /// Notes that the replicas are complete up to the parent's entry `seq`.
    pub fn advance(&mut self, store: u64, seq: u64) {
        if let Some((followed, at)) = &mut self.followed
            && *followed == store
        {
            *at = (*at).max(seq);
        }
    }
}

impl Partition {
    /// Bytes of the segments.
    pub fn stored_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.meta.bytes).sum()
    }

    /// Bytes of changes in memory, roughly.
    pub fn memory_bytes(&self) -> usize {
        self.active.weight + self.frozen.as_ref().map_or(0, |frozen| frozen.weight)
    }

    /// What memory knows of a row; segments may know more.
    pub fn in_memory(&self, key: &[u8]) -> Option<Versioned> {
        let key = Hashed::of(key);
        let active = self.active.get(key).map(Remembered::versioned);
        let frozen = self.frozen.as_ref().and_then(|f| f.get(key)).map(Remembered::versioned);
        match (frozen, active) {
            (Some(mut known), Some(newer)) => {
                known.state.merge(&newer.state);
                known.seq = known.seq.max(newer.seq);
                Some(known)
            }
            (frozen, active) => frozen.or(active),
        }
    }

    /// True if merging `state` would change what memory knows of the row.
    pub fn is_news(&self, key: &[u8], state: &RowState) -> bool {
        match self.in_memory(key) {
            Some(mut known) => known.state.merge(state),
            None => true,
        }
    }
}

/// Merges what layers know of one row.
pub fn merge_versions<'a>(layers: impl Iterator<Item = &'a Arc<Versioned>>) -> Option<Versioned> {
    let mut merged: Option<Versioned> = None;
    for layer in layers {
        match &mut merged {
            None => merged = Some((**layer).clone()),
            Some(merged) => {
                merged.state.merge(&layer.state);
                merged.seq = merged.seq.max(layer.seq);
            }
        }
    }
    merged
}
