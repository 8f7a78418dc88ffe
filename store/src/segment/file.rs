//! The object of a segment: a Parquet file, and which of its bytes are read.
//!
//! Each column chunk has a checksum, listed in the file's own metadata. What follows the last
//! chunk, the metadata among it, has one in the manifest. So whoever wants some columns reads the
//! bytes of these, and nothing that is not proved.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::Schema as ArrowSchema;
use bytes::{Buf, Bytes};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, PageIndexPolicy, RowGroupMetaData};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{ChunkReader, Length};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::import::guarded;
use crate::objects::Objects;

use super::SegmentMeta;

/// The entry of the file's metadata with the CRC32C of each column chunk, row group by row group, 8
/// hexadecimal digits each.
const CHECKSUMS: &str = "edgescale.crc32c";
/// Objects of so many bytes are read whole: a second question would cost more than the bytes.
const WHOLE_BYTES_MAX: u64 = 64 << 10;
/// Threads that decode one file at most, and how many values are worth another one.
const DECODERS_MAX: usize = 4;
const DECODER_VALUES: usize = 128 << 10;

/// Threads that decode one file where there is enough in it.
static DECODERS: LazyLock<usize> = LazyLock::new(|| {
    std::thread::available_parallelism().map_or(1, |threads| threads.get().min(DECODERS_MAX))
});

/// What follows the last column chunk of a file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// Where it begins.
    pub at: u64,
    /// CRC32C of it.
    pub crc32c: u32,
}

/// Makes a file of a batch.
pub fn write(
    batch: &RecordBatch,
    properties: WriterProperties,
) -> Result<(Bytes, Tail), ParquetError> {
    let out = Vec::with_capacity(batch.get_array_memory_size() / 2);
    let mut writer = ArrowWriter::try_new(out, batch.schema(), Some(properties))?;
    writer.write(batch)?;
    writer.flush()?;
    writer.sync()?;
    let (mut checksums, mut at) = (String::new(), 0);
    for chunk in writer.flushed_row_groups().iter().flat_map(chunks) {
        at = at.max(chunk.end);
        let bytes = &writer.inner()[chunk.start as usize..chunk.end as usize];
        checksums += &format!("{:08x}", crc32c::crc32c(bytes));
    }
    writer.append_key_value_metadata(KeyValue::new(CHECKSUMS.into(), checksums));
    let bytes = Bytes::from(writer.into_inner()?);
    let crc32c = crc32c::crc32c(&bytes[at as usize..]);
    Ok((bytes, Tail { at, crc32c }))
}

/// Whether the pages of columns are to be found one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// All of a column is read.
    All,
    /// Some rows are.
    Some,
}

/// A file whose metadata was read, with the bytes of it that were read so far.
#[derive(Clone, Debug)]
pub struct File {
    name: String,
    metadata: ArrowReaderMetadata,
    /// Those of the column chunks; none where the whole file was proved.
    checksums: Option<Arc<[u32]>>,
    pieces: Pieces,
    /// Chunks that were read and are not proved yet.
    unproved: Vec<usize>,
}

impl File {
    /// Reads the metadata of a segment's file; `None` if the object is gone.
    pub async fn open(meta: &SegmentMeta, objects: &Objects, pages: Pages) -> Result<Option<File>> {
        let is_apart = |tail: &Tail| meta.bytes > WHOLE_BYTES_MAX && tail.at <= meta.bytes;
        let Some(tail) = meta.tail.filter(is_apart) else {
            let bytes = objects.read(&meta.name).await?;
            return bytes.map(|bytes| File::whole(meta, bytes, pages)).transpose();
        };
        let ranges = std::iter::once(tail.at..meta.bytes).collect();
        let Some(mut read) = objects.read_ranges(&meta.name, ranges).await? else {
            return Ok(None);
        };
        let bytes = read.pop().unwrap_or_default();
        if crc32c::crc32c(&bytes) != tail.crc32c {
            return Err(damaged(&meta.name));
        }
        let pieces = Pieces { len: meta.bytes, read: vec![(tail.at, bytes)].into() };
        File::of(&meta.name, pieces, pages, true).map(Some)
    }

    /// A file whose bytes are all there.
    pub fn whole(meta: &SegmentMeta, bytes: Bytes, pages: Pages) -> Result<File> {
        if bytes.len() as u64 != meta.bytes || crc32c::crc32c(&bytes) != meta.crc32c {
            return Err(damaged(&meta.name));
        }
        let pieces = Pieces { len: meta.bytes, read: vec![(0, bytes)].into() };
        File::of(&meta.name, pieces, pages, false)
    }

    /// A file that is all there and of which nothing else is known: its columns are proved by their
    /// checksums, and what follows them only by being read.
    pub fn unlisted(name: &str, bytes: Bytes) -> Result<(File, Tail)> {
        let pieces = Pieces { len: bytes.len() as u64, read: vec![(0, bytes.clone())].into() };
        let mut file = File::of(name, pieces, Pages::All, true)?;
        let chunks = file.metadata.metadata().row_groups().iter().flat_map(chunks);
        let ends: Vec<u64> = chunks.map(|chunk| chunk.end).collect();
        file.unproved = (0..ends.len()).collect();
        let at = ends.into_iter().max().unwrap_or(0);
        let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..));
        let crc32c = rest.map(crc32c::crc32c).ok_or_else(|| damaged(name))?;
        Ok((file, Tail { at, crc32c }))
    }

    fn of(name: &str, pieces: Pieces, pages: Pages, in_part: bool) -> Result<File> {
        let broken = |e: ParquetError| Error::corrupt(name, e.to_string());
        let policy = match pages {
            Pages::All => PageIndexPolicy::Skip,
            Pages::Some => PageIndexPolicy::Optional,
        };
        let how = ArrowReaderOptions::new().with_offset_index_policy(policy);
        let load = || ArrowReaderMetadata::load(&pieces, how);
        let metadata = guarded(ParquetError::General, load).map_err(broken)?;
        let checksums =
            match in_part {
                true => Some(checksums(&metadata).ok_or_else(|| {
                    Error::corrupt(name, "the checksums of its columns are missing")
                })?),
                false => None,
            };
        let (name, unproved) = (name.to_owned(), Vec::new());
        Ok(File { name, metadata, checksums, pieces, unproved })
    }

    /// True if there is a column of that name.
    pub fn has(&self, column: &str) -> bool {
        self.metadata.schema().column_with_name(column).is_some()
    }

    /// Reads these columns, of all row groups or of those with some rows; false if the object is
    /// gone.
    pub async fn fetch(
        &mut self,
        objects: &Objects,
        is_wanted: impl Fn(&str) -> bool,
        rows: Option<&Range<usize>>,
    ) -> Result<bool> {
        if self.checksums.is_none() {
            return Ok(true);
        }
        let mut lacking = self.ranges(is_wanted, rows);
        lacking.retain(|(_, range)| self.pieces.slice(range).is_none());
        lacking.sort_by_key(|(_, range)| range.start);
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (_, next) in &lacking {
            match ranges.last_mut() {
                Some(last) if last.end == next.start => last.end = next.end,
                _ => ranges.push(next.clone()),
            }
        }
        if ranges.is_empty() {
            return Ok(true);
        }
        let starts: Vec<u64> = ranges.iter().map(|range| range.start).collect();
        let Some(read) = objects.read_ranges(&self.name, ranges).await? else { return Ok(false) };
        self.pieces.add(starts.into_iter().zip(read));
        self.unproved.extend(lacking.into_iter().map(|(chunk, _)| chunk));
        Ok(true)
    }

    /// Where these columns lie, of all row groups or of those with some rows: chunks and bytes.
    pub fn ranges(
        &self,
        is_wanted: impl Fn(&str) -> bool,
        rows: Option<&Range<usize>>,
    ) -> Vec<(usize, Range<u64>)> {
        let wanted = self.leaves(is_wanted);
        let groups = self.metadata.metadata().row_groups();
        let of_group = |group: usize| {
            let all: Vec<_> = chunks(&groups[group]).collect();
            let found = |leaf: &usize| Some((group * all.len() + leaf, all.get(*leaf)?.clone()));
            wanted.iter().filter_map(found).collect::<Vec<_>>()
        };
        self.groups(rows).into_iter().flat_map(of_group).collect()
    }

    /// Decodes columns, which were fetched, of all rows: each share beside the others.
    pub async fn side_by_side(self, shares: Vec<Vec<usize>>) -> Result<RecordBatch> {
        let decode = |leaves: Vec<usize>| {
            let mut file = self.clone();
            crate::runtime::aside(move || file.decode(&leaves, None))
        };
        let decoding: Vec<_> = shares.into_iter().map(decode).collect();
        let broken = |e: String| Error::corrupt(&self.name, e);
        let mut batches = Vec::with_capacity(decoding.len());
        for share in decoding {
            batches.push(share.await.map_err(|e| broken(e.to_string()))??);
        }
        let fields = batches.iter().flat_map(|batch| batch.schema_ref().fields().iter().cloned());
        let schema = Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()));
        let columns = batches.iter().flat_map(|batch| batch.columns().iter().cloned()).collect();
        RecordBatch::try_new(schema, columns).map_err(|e| broken(e.to_string()))
    }

    /// These columns in shares that take about as long to decode each: one, unless there is much.
    pub fn shares(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<Vec<usize>> {
        let leaves = self.leaves(is_wanted);
        let groups = self.metadata.metadata().row_groups();
        let values = self.row_counts().sum::<usize>().saturating_mul(leaves.len());
        let count = (values / DECODER_VALUES).min(leaves.len()).clamp(1, *DECODERS);
        let bytes = |leaf: &usize| -> i64 {
            let sizes = groups.iter().filter_map(|group| group.columns().get(*leaf));
            sizes.map(|chunk| chunk.uncompressed_size().max(0)).sum()
        };
        let mut sized: Vec<(i64, usize)> = leaves.iter().map(|leaf| (bytes(leaf), *leaf)).collect();
        sized.sort_unstable_by(|a, b| b.cmp(a));
        let mut shares = vec![(0, Vec::new()); count];
        for (bytes, leaf) in sized {
            let least = shares.iter_mut().min_by_key(|(bytes, leaves)| (*bytes, leaves.len()));
            let (all, leaves) = least.expect("there is at least one share");
            *all += bytes;
            leaves.push(leaf);
        }
        shares.into_iter().map(|(_, leaves)| leaves).collect()
    }

    /// Decodes these columns, which were fetched, of some rows that lie next to each other, or of
    /// all.
    pub fn rows(
        &mut self,
        is_wanted: impl Fn(&str) -> bool,
        rows: Option<Range<usize>>,
    ) -> Result<RecordBatch> {
        let leaves = self.leaves(is_wanted);
        self.decode(&leaves, rows)
    }

    fn decode(&mut self, leaves: &[usize], rows: Option<Range<usize>>) -> Result<RecordBatch> {
        self.prove(leaves)?;
        let broken = |e: String| Error::corrupt(&self.name, e);
        let leaves = leaves.iter().copied();
        let wanted = ProjectionMask::leaves(self.metadata.parquet_schema(), leaves);
        let (pieces, metadata) = (self.pieces.clone(), self.metadata.clone());
        let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(pieces, metadata);
        let mut count = self.row_counts().sum::<usize>();
        if let Some(rows) = rows {
            let groups = self.groups(Some(&rows));
            let counts: Vec<usize> = self.row_counts().collect();
            let before: usize = groups.first().map_or(0, |first| counts[..*first].iter().sum());
            let all: usize = groups.iter().map(|group| counts[*group]).sum();
            let range = rows.start - before..(rows.end - before).min(all);
            count = range.len();
            let selected = RowSelection::from_consecutive_ranges(std::iter::once(range), all);
            reader = reader.with_row_groups(groups).with_row_selection(selected);
        }
        // Row groups that one batch spans are joined as they are read.
        let reader = reader.with_batch_size(count.clamp(1, 1 << 24)).with_projection(wanted);
        let reader = reader.build().map_err(|e| broken(e.to_string()))?;
        let schema = arrow::array::RecordBatchReader::schema(&reader);
        let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|e| broken(e.to_string()))?;
        match <[RecordBatch; 1]>::try_from(batches) {
            Ok([one]) => Ok(one),
            Err(several) => concat_batches(&schema, &several).map_err(|e| broken(e.to_string())),
        }
    }

    /// Compares what was read of these columns with its checksums.
    fn prove(&mut self, leaves: &[usize]) -> Result<()> {
        let Some(checksums) = &self.checksums else { return Ok(()) };
        let groups = self.metadata.metadata().row_groups();
        let chunks: Vec<_> = groups.iter().flat_map(chunks).collect();
        let columns = self.metadata.parquet_schema().num_columns().max(1);
        let unproved = std::mem::take(&mut self.unproved).into_iter();
        let (now, later): (Vec<usize>, Vec<usize>) =
            unproved.partition(|chunk| leaves.contains(&(chunk % columns)));
        self.unproved = later;
        for chunk in now {
            let bytes = self.pieces.slice(&chunks[chunk]);
            if bytes.map(|bytes| crc32c::crc32c(&bytes)) != checksums.get(chunk).copied() {
                return Err(damaged(&self.name));
            }
        }
        Ok(())
    }

    fn leaves(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<usize> {
        let leaves = self.metadata.parquet_schema();
        let is_wanted = |leaf: &usize| {
            leaves.column(*leaf).path().parts().first().is_none_or(|name| is_wanted(name))
        };
        (0..leaves.num_columns()).filter(is_wanted).collect()
    }

    /// The row groups with some of these rows.
    fn groups(&self, rows: Option<&Range<usize>>) -> Vec<usize> {
        let mut end = 0;
        let has = |(group, count): (usize, usize)| {
            let from = end;
            end += count;
            rows.is_none_or(|rows| rows.start < end && from < rows.end).then_some(group)
        };
        self.row_counts().enumerate().filter_map(has).collect()
    }

    fn row_counts(&self) -> impl Iterator<Item = usize> {
        self.metadata.metadata().row_groups().iter().map(|group| group.num_rows().max(0) as usize)
    }
}

/// Where the column chunks of a row group lie.
fn chunks(group: &RowGroupMetaData) -> impl Iterator<Item = Range<u64>> {
    group.columns().iter().map(|chunk| {
        let (start, bytes) = chunk.byte_range();
        start..start.saturating_add(bytes)
    })
}

fn checksums(metadata: &ArrowReaderMetadata) -> Option<Arc<[u32]>> {
    let metadata = metadata.metadata();
    let entries = metadata.file_metadata().key_value_metadata()?;
    let digits = entries.iter().find(|entry| entry.key == CHECKSUMS)?.value.as_deref()?;
    let checksums = digits.as_bytes().chunks(8);
    let checksums: Option<Arc<[u32]>> = checksums
        .map(|digits| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
        .collect();
    let chunks: usize = metadata.row_groups().iter().map(RowGroupMetaData::num_columns).sum();
    checksums.filter(|checksums| checksums.len() == chunks)
}

fn damaged(name: &str) -> Error {
    Error::corrupt(name, "checksum differs")
}

/// Parts of a file, as the Parquet reader wants them.
#[derive(Clone, Debug)]
struct Pieces {
    len: u64,
    /// By where they begin.
    read: Arc<[(u64, Bytes)]>,
}

impl Pieces {
    fn add(&mut self, more: impl Iterator<Item = (u64, Bytes)>) {
        let mut read: Vec<_> = self.read.iter().cloned().chain(more).collect();
        read.sort_by_key(|(at, _)| *at);
        self.read = read.into();
    }

    /// What is there from a place on, in one piece.
    fn from(&self, at: u64) -> Option<Bytes> {
        let next = self.read.partition_point(|(start, _)| *start <= at);
        let (start, bytes) = self.read.get(next.checked_sub(1)?)?;
        let skipped = (at - start) as usize;
        (skipped <= bytes.len()).then(|| bytes.slice(skipped..))
    }

    fn slice(&self, range: &Range<u64>) -> Option<Bytes> {
        let len = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        let bytes = self.from(range.start)?;
        (bytes.len() >= len).then(|| bytes.slice(..len))
    }
}

impl Length for Pieces {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Pieces {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        self.from(start).map(Buf::reader).ok_or_else(|| unread(start))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let range = start..start.saturating_add(length as u64);
        self.slice(&range).ok_or_else(|| unread(start))
    }
}

fn unread(at: u64) -> ParquetError {
    ParquetError::EOF(format!("nothing was read at byte {at}"))
}
