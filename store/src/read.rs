//! Reading rows: from here if that is complete, else from above.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::EdgeStore;
use crate::columns::Columns;
use crate::commit::Version;
use crate::engine::{End, Engine, KeyRange, PageMax, Turn, extent_of};
use crate::error::{Error, Result};
use crate::record::Extent;
use crate::run::{Run, Slice, visible_row};
use crate::scan::{self, Coverage, Scan, Scanned};
use crate::schema::Schema;
use crate::tree::Tree;
use crate::tree::wire::Range;
use crate::value::Row;

/// Rows that one scan returns at most; more is an error that asks for a limit.
pub const SCAN_ROWS_MAX: usize = 1_000_000;
/// Keys of one multi-get.
pub const GET_KEYS_MAX: usize = 10_000;
/// Rows of a multi-get that are read at a time.
const GETS_AT_ONCE: usize = 16;
/// Rows of a page at most: a run has fewer.
const PAGE_ROWS_MAX: usize = u32::MAX as usize;
/// How much more than its answer a scan without conditions reads at a time: some of what is read
/// may be deleted, and what a reader does not see of a row counts as well.
const SPARE_PARTS: usize = 4;

/// How a read may be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOptions {
    /// Answer from what is here, even if it is not complete.
    pub local_only: bool,
    /// Give up after so many milliseconds; none is the request time-out of the configuration.
    pub deadline_ms: Option<u64>,
}

/// A row and its version, if there is one.
pub type Found = Option<(Row, Version)>;

impl EdgeStore {
    /// The row with that key, wherever it is.
    pub async fn get(&self, table: &str, key: &Row) -> Result<Option<Row>> {
        if let Ok(Some(row)) = self.inner.engine.row_now(table, key) {
            return Ok(row);
        }
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
        if let Ok(Some(row)) = self.inner.engine.row_now(table, key) {
            return Ok((row, self.own_coverage(table, true)));
        }
        let (found, coverage) = self.find(table, key, options).await?;
        Ok((found.map(|(row, _)| row), coverage))
    }

    /// Like [`EdgeStore::get_with`], with the row's version for [`crate::Expect::Version`].
    pub async fn find(
        &self,
        table: &str,
        key: &Row,
        options: ReadOptions,
    ) -> Result<(Found, Coverage)> {
        self.know_for(table, options).await?;
        let schema = self.inner.engine.read().table(table)?.schema.clone();
        let encoded = schema.key_of(key)?;
        let extent = extent_of(&schema, key)?;
        let partition = schema.partition_of(key)?.unwrap_or_default();
        let range = KeyRange::of_key(&encoded, partition);
        let read = Reading {
            table,
            extent,
            range,
            columns: Columns::All,
            end: End::First,
            max: PageMax::NONE,
            take: Take::All(&|_, _| Ok(true)),
        };
        let (rows, coverage) = self.read(read, options).await?;
        let found = rows.slices.iter().find_map(|slice| {
            let at = slice.lower_bound(&encoded);
            let is_there = at < slice.to && *slice.run.key(at) == *encoded;
            (is_there && !slice.run.is_dead(at)).then_some((&slice.run, at))
        });
        let found = match found {
            Some((run, at)) => {
                let state = run.state(at)?;
                let version = Version::of(&rows.schema, &state);
                Some((visible_row(&rows.schema, &encoded, &state)?, version))
            }
            None => None,
        };
        Ok((found, coverage))
    }

    /// The rows with these keys, in their order, each wherever it is; and whether all answers
    /// were complete.
    pub async fn get_many(
        &self,
        table: &str,
        keys: &[Row],
        options: ReadOptions,
    ) -> Result<(Vec<Option<Row>>, bool)> {
        if keys.len() > GET_KEYS_MAX {
            return Err(Error::BadRequest(format!(
                "{} keys at once; {GET_KEYS_MAX} are the most, ask several times",
                keys.len()
            )));
        }
        let gets: Vec<BoxFuture<'_, _>> =
            keys.iter().map(|key| self.get_with(table, key, options).boxed()).collect();
        let found: Vec<(Option<Row>, Coverage)> =
            futures::stream::iter(gets).buffered(GETS_AT_ONCE).try_collect().await?;
        let complete = found.iter().all(|(_, coverage)| coverage.complete);
        Ok((found.into_iter().map(|(row, _)| row).collect(), complete))
    }

    /// Rows in key order.
    pub async fn scan(&self, table: &str, scan: Scan) -> Result<Scanned> {
        self.scan_with(table, scan, ReadOptions::default()).await
    }

    /// Rows in key order, read as `options` say.
    pub async fn scan_with(
        &self,
        table: &str,
        scan: Scan,
        options: ReadOptions,
    ) -> Result<Scanned> {
        self.scan_within(usize::MAX, table, scan, options).await
    }

    /// The same, of no more than about so many bytes.
    pub(crate) async fn scan_within(
        &self,
        bytes_max: usize,
        table: &str,
        mut scan: Scan,
        options: ReadOptions,
    ) -> Result<Scanned> {
        let (found, coverage) = self.read_for(bytes_max, table, &mut scan, options).await?;
        let (rows, truncated) = scan.rows(&found.schema, &found.slices)?;
        Ok(Scanned { rows, coverage, truncated: truncated || found.is_cut })
    }

    /// Rows in key order as an Arrow batch.
    pub async fn scan_arrow(&self, table: &str, scan: Scan) -> Result<(RecordBatch, Coverage)> {
        let (batch, coverage, _) =
            self.scan_arrow_with(table, scan, ReadOptions::default()).await?;
        Ok((batch, coverage))
    }

    /// Like [`EdgeStore::scan_arrow`], read as `options` say, with whether the answer was cut short
    /// as [`Scanned::truncated`] says.
    pub async fn scan_arrow_with(
        &self,
        table: &str,
        scan: Scan,
        options: ReadOptions,
    ) -> Result<(RecordBatch, Coverage, bool)> {
        self.scan_arrow_within(usize::MAX, table, scan, options).await
    }

    /// The same, of no more than about so many bytes.
    pub(crate) async fn scan_arrow_within(
        &self,
        bytes_max: usize,
        table: &str,
        mut scan: Scan,
        options: ReadOptions,
    ) -> Result<(RecordBatch, Coverage, bool)> {
        let (found, coverage) = self.read_for(bytes_max, table, &mut scan, options).await?;
        let (batch, truncated) = scan.batch(&found.schema, &found.slices)?;
        Ok((batch, coverage, truncated || found.is_cut))
    }

    /// The rows that a scan has to choose from; checks the scan.
    async fn read_for(
        &self,
        bytes_max: usize,
        table: &str,
        scan: &mut Scan,
        options: ReadOptions,
    ) -> Result<(Rows, Coverage)> {
        self.know_for(table, options).await?;
        let schema = self.inner.engine.read().table(table)?.schema.clone();
        scan.check(&schema)?;
        scan::check_limit(scan.limit.unwrap_or(0), SCAN_ROWS_MAX)?;
        scan.limit.get_or_insert(SCAN_ROWS_MAX);
        let (range, extent) = scan.range(&schema)?;
        let columns = scan.columns_read(&schema)?;
        let scan = &*scan;
        let end = if scan.reverse { End::Last } else { End::First };
        let memory = self.inner.engine.config.scan_memory_bytes;
        let bytes = match scan.filter.is_empty() {
            true => memory.min(bytes_max.saturating_mul(SPARE_PARTS)),
            false => memory,
        };
        let max = PageMax { rows: scan.page_rows(), bytes };
        let take = Take::Asked { scan, bytes_max: bytes_max.min(memory / 2) };
        let read = Reading { table, extent, range, columns, end, max, take };
        self.read(read, options).await
    }

    /// Reads from here if that is complete or wanted; else from above, and from here alone if
    /// nobody above answers.
    async fn read(&self, read: Reading<'_>, options: ReadOptions) -> Result<(Rows, Coverage)> {
        let engine = &self.inner.engine;
        let complete = engine.is_root() || engine.read().table(read.table)?.holds(&read.extent);
        if !complete
            && !options.local_only
            && let Some(tree) = self.inner.tree.get()
        {
            tree.wish(read.table, &read.extent);
            let timeout_ms = options.deadline_ms.unwrap_or(engine.config.request_timeout_ms);
            let asking = read_above(engine, tree, &read);
            match crate::runtime::timeout(Duration::from_millis(timeout_ms), asking).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if !error.retryable() => return Err(error),
                Ok(Err(error)) => {
                    tracing::debug!(table = read.table, %error, "answered from here alone");
                }
                Err(_) => tracing::debug!(table = read.table, "no answer in time"),
            }
        }
        let rows = read_here(engine, &read).await?;
        Ok((rows, self.own_coverage(read.table, complete)))
    }

    /// The rows of a part of a table, at one moment where they are here, up to about `limit`; only
    /// these of their columns are sure.
    pub(crate) async fn read_part(
        &self,
        table: &str,
        part: &Part,
        columns: Columns,
        reverse: bool,
        limit: Option<usize>,
        bytes_max: usize,
        options: ReadOptions,
    ) -> Result<(Vec<Slice>, Coverage)> {
        let scan = Scan { limit, reverse, ..Scan::default() };
        let enough = |schema: &Schema, slices: &[Slice]| match weight(slices) > bytes_max {
            true => Err(Error::TooLarge {
                what: format!(
                    "what the query reads of table {table:?} (bound the key in WHERE): it"
                ),
                bytes: weight(slices) as u64,
                max: bytes_max as u64,
            }),
            false => scan.is_exceeded(schema, slices),
        };
        let end = if reverse { End::Last } else { End::First };
        let rows_max = match limit {
            Some(_) => scan.page_rows(),
            None => usize::MAX,
        };
        let Part { extent, range } = part.clone();
        let (max, take) = (PageMax { rows: rows_max, bytes: bytes_max }, Take::All(&enough));
        let read = Reading { table, extent, range, columns, end, max, take };
        let (rows, coverage) = self.read(read, options).await?;
        Ok((rows.slices, coverage))
    }

    fn own_coverage(&self, table: &str, complete: bool) -> Coverage {
        let tree = self.inner.tree.get().filter(|_| complete);
        let age_ms = tree.map_or(0, |tree| tree.age_ms(table));
        Coverage { complete, source: self.inner.engine.config.site.clone(), age_ms }
    }
}

/// A part of a table that is read at a time.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub extent: Extent,
    pub range: KeyRange,
}

/// Bytes of the runs that slices are of.
pub(crate) fn weight(slices: &[Slice]) -> usize {
    let mut runs: Vec<&Arc<Run>> = slices.iter().map(|slice| &slice.run).collect();
    runs.sort_unstable_by_key(|run| Arc::as_ptr(run));
    runs.dedup_by_key(|run| Arc::as_ptr(run));
    runs.iter().map(|run| run.weight()).sum()
}

/// Rows in key order, deleted ones and others that were not asked for included.
struct Rows {
    schema: Arc<Schema>,
    slices: Vec<Slice>,
    /// True if more was asked for than there is memory for.
    is_cut: bool,
    /// Held as long as they are in memory.
    _turn: Turn,
}

/// What a read is about.
struct Reading<'a> {
    table: &'a str,
    extent: Extent,
    range: KeyRange,
    columns: Columns,
    end: End,
    /// How much to read at first, and how much may be in memory.
    max: PageMax,
    take: Take<'a>,
}

/// What is kept of the rows that are read.
enum Take<'a> {
    /// All, until they satisfy the caller.
    All(&'a (dyn Fn(&Schema, &[Slice]) -> Result<bool> + Sync)),
    /// Those that a scan asks for, up to its limit and about so many bytes.
    Asked { scan: &'a Scan, bytes_max: usize },
}

/// What has been kept so far.
#[derive(Default)]
struct Kept {
    slices: Vec<Slice>,
    rows: usize,
    bytes: usize,
    is_cut: bool,
}

/// How a read goes on after a page.
#[derive(PartialEq, Eq)]
enum GoOn {
    /// With the next page.
    Further,
    /// From the beginning: the table is another than before.
    Anew,
    /// That was all.
    Ends,
}

impl Kept {
    /// Adds a page. What is asked of it is copied, so that it can go, unless it is the last one.
    fn add(
        &mut self,
        read: &Reading<'_>,
        schema: &Arc<Schema>,
        page: Vec<Slice>,
        has_more: bool,
    ) -> Result<GoOn> {
        let (scan, bytes_max) = match &read.take {
            Take::Asked { scan, bytes_max } => (scan, *bytes_max),
            Take::All(enough) => {
                self.slices = join(schema, std::mem::take(&mut self.slices), page, read.end)?;
                let is_all = !has_more || enough(schema, &self.slices)?;
                return Ok(if is_all { GoOn::Ends } else { GoOn::Further });
            }
        };
        if self.slices.first().is_some_and(|slice| !slice.run.schema.is(schema)) {
            *self = Kept::default();
            return Ok(GoOn::Anew);
        }
        self.rows += scan.count(schema, &page)?;
        let is_all = !has_more || scan.limit.is_some_and(|limit| self.rows > limit);
        let more: Vec<Slice> = match is_all {
            true => page,
            false => scan.picked(schema, &page, &read.columns)?.into_iter().collect(),
        };
        if !is_all {
            self.bytes += more.iter().map(|s| s.run.bytes_between(s.from, s.to)).sum::<usize>();
            self.is_cut = self.bytes > bytes_max;
        }
        match read.end {
            End::First => self.slices.extend(more),
            End::Last => drop(self.slices.splice(..0, more)),
        }
        Ok(if is_all || self.is_cut { GoOn::Ends } else { GoOn::Further })
    }

    fn rows(self, schema: Arc<Schema>, turn: Turn) -> Rows {
        Rows { schema, slices: self.slices, is_cut: self.is_cut, _turn: turn }
    }
}

/// Rows from here.
async fn read_here(engine: &Engine, read: &Reading<'_>) -> Result<Rows> {
    let (mut turn, mut kept) = (engine.turn_to_scan(), Kept::default());
    let (mut range, mut rows_max) = (read.range.clone(), read.max.rows);
    loop {
        let bytes = read.max.bytes.saturating_sub(kept.bytes);
        let max = PageMax { rows: rows_max, bytes };
        let own = matches!(read.take, Take::Asked { .. }).then_some(&mut turn);
        let page = engine.page(read.table, &range, &read.columns, read.end, max, own).await?;
        let rows = page.slices.iter().map(Slice::len).sum();
        match (kept.add(read, &page.schema, page.slices, page.left.is_some())?, page.left) {
            (GoOn::Further, Some(left)) => range = left,
            (GoOn::Anew, _) => {
                (range, rows_max) = (read.range.clone(), read.max.rows);
                continue;
            }
            _ => return Ok(kept.rows(page.schema, turn)),
        }
        let read_rows = if rows_max == usize::MAX { rows } else { rows_max };
        rows_max = read_rows.max(1).saturating_mul(4).min(PAGE_ROWS_MAX);
        turn.take_for(kept.bytes).await?;
    }
}

/// Adds a page to those before it, which may be older than some columns.
fn join(
    schema: &Arc<Schema>,
    slices: Vec<Slice>,
    more: Vec<Slice>,
    end: End,
) -> Result<Vec<Slice>> {
    let slices = slices.into_iter().map(|slice| slice.of_schema(schema));
    let slices = slices.collect::<Result<Vec<_>>>()?;
    Ok(match end {
        End::First => [slices, more].concat(),
        End::Last => [more, slices].concat(),
    })
}

/// Rows from the nearest ancestor that holds them, with what is here merged in.
async fn read_above(
    engine: &Engine,
    tree: &Arc<Tree>,
    read: &Reading<'_>,
) -> Result<(Rows, Coverage)> {
    let first = Range {
        table: read.table.into(),
        extent: read.extent.clone(),
        from: read.range.from.clone(),
        to: read.range.to.clone(),
        reverse: read.end == End::Last,
        rows_max: read.max.rows as u64,
    };
    let (mut turn, mut kept) = (engine.turn_to_scan(), Kept::default());
    let mut request = first.clone();
    loop {
        let page = tree.page(&request).await?;
        let more = tree.localize(page.rows)?;
        let schema = tree.schema(read.table)?;
        let run = Run::of_rows(&schema, more.iter().map(|(key, row)| (&**key, &**row)))?;
        let slices = vec![Slice::whole(Arc::new(run))];
        request.rows_max = request.rows_max.saturating_mul(4);
        let coverage = Coverage { complete: true, source: page.site, age_ms: page.age_ms };
        match (kept.add(read, &schema, slices, page.rest.is_some())?, page.rest) {
            (GoOn::Further, Some(rest)) => match read.end {
                End::Last => request.to = Some(rest),
                End::First => request.from = rest,
            },
            (GoOn::Anew, _) => request = first.clone(),
            _ => return Ok((kept.rows(schema, turn), coverage)),
        }
        turn.take_for(kept.bytes).await?;
    }
}
