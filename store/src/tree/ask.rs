//! Reading what other sites hold, and answering such questions.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::blob::sums::{Summing, Sums};
use crate::blob::{self, BlobKey};
use crate::engine::{End, KeepEmpty, KeyRange, PageMax, merge_layers};
use crate::error::{Error, Result};
use crate::objects::Side;
use crate::record::{self, Batch, Body, Extent, Source};
use crate::row::RowState;
use crate::run::{KeyedRow, Versioned};
use crate::schema::Schema;

use super::Tree;
use super::wire::{
    self, Blob, CHUNK_BYTES, Describe, Described, Fetch, Heads, HeadsAre, Page, Range, RemoveBlob,
    op,
};

/// Rows in a page at most, so that an answer takes bounded time.
const PAGE_ROWS_MAX: usize = 10_000;
/// What is read for a page, of which a message takes what it has room for.
const PAGE_MAX: PageMax = PageMax { rows: PAGE_ROWS_MAX, bytes: 16 * CHUNK_BYTES };

impl Tree {
    /// The specification of a table that is not known here, from the nearest ancestor that has
    /// it; it is known here afterwards.
    pub async fn describe(&self, table: &str) -> Result<()> {
        if self.engine.is_root() {
            return Err(Error::UnknownTable(table.into()));
        }
        let described: Described =
            self.ask_parent(op::DESCRIBE, &Describe { table: table.into() }).await?;
        if described.spec.name != table {
            return Err(Error::BadRequest(format!("asked for table {table:?}, got another")));
        }
        described.spec.validate()?;
        let source = Source::Parent { store: 0, seq: 0 };
        let seq = self.engine.take_over(source, Body::Table(described.spec), KeepEmpty::No)?;
        self.engine.wal.wait(seq).await
    }

    /// Makes sure that the columns of a batch from above are known here.
    pub async fn know_columns(&self, batch: &Batch) -> Result<()> {
        let known = {
            let state = self.engine.read();
            let schema = &state.table(&batch.table)?.schema;
            batch.columns.iter().all(|name| schema.place_of(name).is_ok())
        };
        if known { Ok(()) } else { self.describe(&batch.table).await }
    }

    /// One page of a range, from here if the extent is held, else from further up with what is
    /// here merged in. Where a table was made here or below and its definition is still on its way
    /// up, nobody above has a row of it: what is here is all.
    pub async fn page(self: &Arc<Self>, range: &Range) -> Result<Page> {
        if !self.engine.read().tables.contains_key(&range.table) {
            self.describe(&range.table).await?;
        }
        if self.holds(&range.table, &range.extent) {
            return self.local_page(range).await;
        }
        let mut page: Page = match self.ask_parent(op::RANGE, range).await {
            Err(Error::UnknownTable(name)) if name == range.table => {
                return Ok(Page { age_ms: 0, ..self.local_page(range).await? });
            }
            page => page?,
        };
        let covered = covered(range, page.rest.as_deref());
        let end = end_of(range);
        let (ours, left) = self.engine.keyed_page(&range.table, &covered, end, PAGE_MAX).await?;
        self.know_columns(&page.rows).await?;
        let schema = self.schema(&range.table)?;
        let mut rows = self.localize(page.rows)?;
        if let Some(left) = &left {
            // What is here ends sooner, and so the page does.
            rows.retain(|(key, _)| match end {
                End::First => **key < *left.from,
                End::Last => left.to.as_deref().is_some_and(|to| **key >= *to),
            });
        }
        rows.extend(ours);
        let rest = rest_of(left, end).or(page.rest.take());
        let (rows, rest) = cut_page(merge_layers(rows), end, rest);
        (page.rows, page.rest) = (to_batch(&schema, &rows), rest);
        Ok(page)
    }

    /// Rows of a page in this store's column numbers.
    pub fn localize(&self, batch: Batch) -> Result<Vec<KeyedRow>> {
        let state = self.engine.read();
        let rows = state.table(&batch.table)?.localize(batch)?;
        let rows = rows.into_iter();
        let row = |state| Arc::new(Versioned { seq: 0, state });
        Ok(rows.map(|(_, key, state)| (key.into(), row(state))).collect())
    }

    /// Answers another store. `from` is the path of the asking site.
    pub async fn answer(self: &Arc<Self>, op: &str, from: &str, payload: &[u8]) -> Result<Bytes> {
        Ok(match op {
            op::UP => {
                let up = record::decode("changes of a child", payload)?;
                record::encode(&self.take_up(from, up).await?).into()
            }
            op::RANGE => {
                let range: Range = record::decode("request for rows", payload)?;
                record::encode(&self.page(&range).await?).into()
            }
            op::FETCH => {
                let fetch = record::decode("request for a replica", payload)?;
                self.engine.meet(from).await?;
                record::encode(&self.replica_page(fetch).await?).into()
            }
            op::HEADS => {
                let heads = record::decode("comparison", payload)?;
                record::encode(&self.heads(heads)).into()
            }
            op::DESCRIBE => {
                let describe: Describe = record::decode("question for a table", payload)?;
                let table = describe.table;
                if !self.engine.read().tables.contains_key(&table) {
                    self.describe(&table).await?;
                }
                let spec = (**self.schema(&table)?).clone();
                record::encode(&Described { spec }).into()
            }
            op::DECIDE => {
                let commit = record::decode("commit", payload)?;
                self.engine.meet(from).await?;
                self.take_commit(commit).await?
            }
            op::BLOB => {
                self.blob_part(record::decode("request for a blob", payload)?, from).await?
            }
            op::REMOVE_BLOB => {
                let RemoveBlob { key } = record::decode("removal of a blob", payload)?;
                let key: BlobKey = key.parse()?;
                self.remove_for(from, &key).await?;
                Bytes::new()
            }
            _ => return Err(Error::BadRequest(format!("unknown operation {op:?}"))),
        })
    }

    /// A blob from wherever it is: kept here once it has come and proved to be right.
    pub async fn fetch_blob(&self, key: &BlobKey) -> Result<Option<Bytes>> {
        let fetch = self.engine.blobs.fetch(key);
        let mut side = Side::in_memory();
        if self.fetch_into(key, &mut side).await?.is_none() {
            return Ok(None);
        }
        let bytes = side.into_bytes().unwrap_or_default();
        fetch.keep(bytes.clone()).await?;
        Ok(Some(bytes))
    }

    /// The same for who reads it from here: no more of it is in memory than comes at a time. False
    /// if there is none.
    pub async fn bring_blob(&self, key: &BlobKey) -> Result<bool> {
        let fetch = self.engine.blobs.fetch(key);
        let mut side = self.engine.objects.side().await?;
        let Some(sums) = self.fetch_into(key, &mut side).await? else { return Ok(false) };
        fetch.keep_side(side, sums).await.map(|()| true)
    }

    async fn fetch_into(&self, key: &BlobKey, side: &mut Side) -> Result<Option<Sums>> {
        let mut summing = Summing::default();
        loop {
            let start = summing.len();
            let end = start + CHUNK_BYTES as u64;
            let request = Blob { key: key.to_string(), start, end };
            let Some((total, part)) = self.ask_for_part(key, &request, AskUp::Yes).await? else {
                return Ok(None);
            };
            blob::check_size(key, total.max(start + part.len() as u64))?;
            summing.add(&part);
            let is_last = summing.len() >= total;
            if part.is_empty() && !is_last {
                return Err(Error::corrupt(key.to_string(), "a part of it is missing"));
            }
            side.write(part).await?;
            if is_last {
                break;
            }
        }
        let (digest, sums) = summing.finish();
        match digest == key.digest() {
            true => Ok(Some(sums)),
            false => Err(Error::corrupt(key.to_string(), "digest differs on arrival")),
        }
    }

    fn holds(&self, table: &str, extent: &Extent) -> bool {
        self.engine.is_root()
            || self.engine.read().tables.get(table).is_some_and(|t| t.holds(extent))
    }

    pub fn schema(&self, table: &str) -> Result<Arc<Schema>> {
        Ok(self.engine.read().table(table)?.schema.clone())
    }

    async fn local_page(&self, range: &Range) -> Result<Page> {
        let wanted = covered(range, None);
        let end = end_of(range);
        let rows_max = usize::try_from(range.rows_max).unwrap_or(usize::MAX).min(PAGE_ROWS_MAX);
        let max = PageMax { rows: rows_max, ..PAGE_MAX };
        let (rows, left) = self.engine.keyed_page(&range.table, &wanted, end, max).await?;
        let schema = self.schema(&range.table)?;
        let (rows, rest) = cut_page(rows, end, rest_of(left, end));
        Ok(Page {
            site: self.engine.config.site.clone(),
            age_ms: self.age_ms(&range.table),
            store: self.engine.id,
            as_of: 0,
            rows: to_batch(&schema, &rows),
            rest,
        })
    }

    /// A page for a child's replica: what is here must be complete first, and durable.
    async fn replica_page(self: &Arc<Self>, fetch: Fetch) -> Result<Page> {
        if !self.engine.read().tables.contains_key(&fetch.table) {
            self.describe(&fetch.table).await?;
        }
        self.acquire(&fetch.table, &fetch.extent).await?;
        self.want_feed(&fetch.table);
        let engine = &self.engine;
        let as_of = engine.read().table(&fetch.table)?.last_seq;
        let range = KeyRange {
            from: fetch.from,
            to: None,
            partition: partition_of(&fetch.extent),
            since: if fetch.after.0 == engine.id { fetch.after.1 } else { 0 },
        };
        let (rows, left) = engine.keyed_page(&fetch.table, &range, End::First, PAGE_MAX).await?;
        // A child must not have what a crash can still take from its parent.
        let newest = engine.read().seq;
        engine.wal.wait(newest).await?;
        let schema = self.schema(&fetch.table)?;
        let (rows, rest) = cut_page(rows, End::First, rest_of(left, End::First));
        Ok(Page {
            site: engine.config.site.clone(),
            age_ms: self.age_ms(&fetch.table),
            store: engine.id,
            as_of,
            rows: to_batch(&schema, &rows),
            rest,
        })
    }

    fn heads(&self, heads: Heads) -> HeadsAre {
        let state = self.engine.read();
        let heads = heads.tables.iter().map(|table| {
            let Some(known) = state.tables.get(table) else { return (0, 0) };
            self.want_feed(table);
            (known.last_seq, self.age_ms(table))
        });
        HeadsAre { store: self.engine.id, heads: heads.collect() }
    }

    /// Part of a blob with its total length in front, from here or the direction of its site. What
    /// the parent asks for is not asked of the parent: it is below, or nowhere.
    async fn blob_part(&self, request: Blob, from: &str) -> Result<Bytes> {
        let key: BlobKey = request.key.parse()?;
        let blobs = &self.engine.blobs;
        if let Some(total) = blobs.len(&key).await? {
            let end = request.end.min(request.start.saturating_add(CHUNK_BYTES as u64));
            let part = blobs.load_range(&key, request.start, end).await?;
            let mut answer = BytesMut::with_capacity(8 + part.len());
            answer.put_u64_le(total);
            answer.put(part);
            return Ok(answer.freeze());
        }
        let up = if is_below(&self.engine.config.site, from) { AskUp::Yes } else { AskUp::No };
        match self.ask_for_part(&key, &request, up).await? {
            Some((total, part)) => {
                let mut answer = BytesMut::with_capacity(8 + part.len());
                answer.put_u64_le(total);
                answer.put(part);
                Ok(answer.freeze())
            }
            None => Err(Error::BadRequest(NO_BLOB.into())),
        }
    }

    /// Asks where the blob's site is now, if it was moved, and then where it was.
    async fn ask_for_part(
        &self,
        key: &BlobKey,
        request: &Blob,
        up: AskUp,
    ) -> Result<Option<(u64, Bytes)>> {
        if let Some(now) = self.link.moved(key.site())
            && let Some(found) = self.ask_towards(&now, request, up).await?
        {
            return Ok(Some(found));
        }
        self.ask_towards(key.site(), request, up).await
    }

    /// Asks the next site on the way to another: a child if it lies below, else the parent.
    async fn ask_towards(
        &self,
        site: &str,
        request: &Blob,
        up: AskUp,
    ) -> Result<Option<(u64, Bytes)>> {
        let payload = Bytes::from(record::encode(request));
        let here = &self.engine.config.site;
        let answer = match next_below(here, site) {
            Some(_) if site == here => return Ok(None),
            Some(child) => {
                let asking = self.link.request(&child, op::BLOB, payload);
                match tokio::time::timeout(self.request_timeout(), asking).await {
                    Ok(answer) => wire::open(answer.map_err(|e| Error::link(child, e))?),
                    Err(_) => Err(Error::Deadline(child)),
                }
            }
            None if self.engine.is_root() || up == AskUp::No => return Ok(None),
            None => self.ask_parent_raw(op::BLOB, payload).await,
        };
        let mut answer = match answer {
            Err(Error::BadRequest(text)) if text == NO_BLOB => return Ok(None),
            other => other?,
        };
        if answer.len() < 8 {
            return Err(Error::BadRequest("blob part is broken".into()));
        }
        let part = answer.split_off(8);
        let total = u64::from_le_bytes(answer[..].try_into().expect("8 bytes were split off"));
        Ok(Some((total, part)))
    }
}

/// Whether the parent may be asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AskUp {
    Yes,
    No,
}

const NO_BLOB: &str = "no such blob";

/// The child of `here` that lies on the way to `site`, or `here` if it is there; `None` if
/// `site` lies elsewhere.
pub fn next_below(here: &str, site: &str) -> Option<String> {
    if site == here {
        return Some(here.into());
    }
    let below = site.strip_prefix(here)?.strip_prefix('.')?;
    Some(format!("{here}.{}", below.split('.').next().unwrap_or_default()))
}

/// True for a site below `here`, and not for `here` itself.
pub fn is_below(here: &str, site: &str) -> bool {
    site != here && next_below(here, site).is_some()
}

fn partition_of(extent: &Extent) -> Option<Vec<u8>> {
    match extent {
        Extent::Whole => None,
        Extent::Partition(partition) => Some(partition.clone()),
    }
}

fn end_of(range: &Range) -> End {
    if range.reverse { End::Last } else { End::First }
}

/// The part of a requested range that a page speaks for.
fn covered(range: &Range, rest: Option<&[u8]>) -> KeyRange {
    let mut covered = KeyRange {
        from: range.from.clone(),
        to: range.to.clone(),
        partition: partition_of(&range.extent),
        since: 0,
    };
    match rest {
        Some(rest) if range.reverse => covered.from = rest.to_vec(),
        Some(rest) => covered.to = Some(rest.to_vec()),
        None => {}
    }
    covered
}

/// Cuts rows to what fits one message, from the given end; returns where the page ends if rows
/// are left, `rest` being where the rows ended.
fn cut_page(
    mut rows: Vec<KeyedRow>,
    end: End,
    rest: Option<Vec<u8>>,
) -> (Vec<KeyedRow>, Option<Vec<u8>>) {
    let mut bytes = 0;
    let mut fits = |row: &&KeyedRow| {
        bytes += record::encode(&(&*row.0, &row.1.state)).len();
        bytes <= CHUNK_BYTES
    };
    let taken = match end {
        End::First => rows.iter().take_while(&mut fits).count(),
        End::Last => rows.iter().rev().take_while(&mut fits).count(),
    };
    // One row is never larger than a message: the log would not have taken it.
    let taken = taken.max(1).min(rows.len());
    if taken == rows.len() {
        return (rows, rest);
    }
    match end {
        End::First => {
            let rest = rows[taken].0.to_vec();
            rows.truncate(taken);
            (rows, Some(rest))
        }
        End::Last => {
            let rows = rows.split_off(rows.len() - taken);
            let rest = rows[0].0.to_vec();
            (rows, Some(rest))
        }
    }
}

fn rest_of(left: Option<KeyRange>, end: End) -> Option<Vec<u8>> {
    left.and_then(|left| match end {
        End::First => Some(left.from),
        End::Last => left.to,
    })
}

fn to_batch(schema: &Schema, rows: &[KeyedRow]) -> Batch {
    let states =
        rows.iter().map(|(key, row)| -> (Vec<u8>, RowState) { (key.to_vec(), row.state.clone()) });
    Batch { table: schema.name.clone(), columns: schema.names.clone(), rows: states.collect() }
}
