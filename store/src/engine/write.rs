//! Changes that are made at this site: checked, stamped, logged.

use std::collections::{HashMap, hash_map};
use std::sync::Arc;

use crate::commit::Condition;
use crate::error::{Error, Result};
use crate::record::{self, Batch, Body, ENTRY_BYTES_MAX, Source};
use crate::row::{RowState, Stamp};
use crate::schema::Schema;
use crate::spec::{COLUMNS_MAX, NAME_BYTES_MAX};
use crate::value::Row;

use super::change::check_only_key;
use super::read::Prior;
use super::{Ack, Change, Engine, Level, State};

/// Rows of one call.
pub const CALL_ROWS_MAX: usize = 100_000;

/// What an entry has beside its rows: the names of a table and all its columns, and numbers.
const HEAD_BYTES_MAX: usize = (COLUMNS_MAX + 1) * (NAME_BYTES_MAX + 2) + 64;

/// What to do to one table in one step.
pub struct Work<'a> {
    pub table: &'a str,
    /// What must hold before anything is done.
    pub conditions: &'a [Condition],
    pub changes: &'a [Change<'a>],
    pub unit: Unit,
}

/// How far the rows of one step belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// All or none here; other sites may see some before others.
    Call,
    /// Rows of one partition in one entry: all or none, and together, at every site.
    Commit,
}

impl Work<'_> {
    /// The rows whose present state must be known.
    pub(super) fn rows_to_read<'a>(
        &'a self,
        schema: &'a Schema,
    ) -> impl Iterator<Item = &'a Row> + 'a {
        let conditions = self.conditions.iter().map(|c| &c.key);
        let changes = self.changes.iter().filter(|c| c.needs_known(schema)).map(|c| c.row());
        conditions.chain(changes)
    }

    fn check(&self, spec: &Schema) -> Result<()> {
        self.conditions.iter().try_for_each(|c| check_only_key(spec, &c.key))?;
        if self.unit == Unit::Call {
            return Ok(());
        }
        let rows = self.conditions.iter().map(|c| &c.key);
        let mut rows = rows.chain(self.changes.iter().map(|c| c.row()));
        let first = rows.next().map(|row| spec.partition_of(row)).transpose()?;
        for row in rows {
            if Some(spec.partition_of(row)?) != first {
                return Err(Error::BadRequest(format!(
                    "a commit stays within one partition of table {:?}, whose partition columns \
                     are {:?}; make one commit per partition",
                    spec.name, spec.partition
                )));
            }
        }
        Ok(())
    }
}

impl Engine {
    /// Carries out changes to one table, all or none, if the conditions hold. Returns the changed
    /// rows as well.
    pub async fn change(&self, work: &Work<'_>, level: Level) -> Result<(Ack, Batch)> {
        if work.changes.len() > CALL_ROWS_MAX {
            return Err(Error::BadRequest(format!(
                "{} rows for table {:?} in one call; {CALL_ROWS_MAX} are the most",
                work.changes.len(),
                work.table
            )));
        }
        let _turn = self.turn().await?;
        self.room().await?;
        let mut prior = None;
        let mut ahead = self.built_ahead(work)?;
        let outcome = loop {
            {
                let mut state = self.write();
                match self.try_change(&mut state, work, prior.as_ref(), ahead.take()) {
                    Ok(Some(done)) => break Ok(done),
                    Ok(None) => {}
                    Err(conflict @ Error::Conflict { .. }) => break Err((state.seq, conflict)),
                    Err(error) => return Err(error),
                }
            }
            prior = Some(self.prior(work).await?);
        };
        let (seq, hlc, batch) = match outcome {
            Ok(done) => done,
            Err((seq, conflict)) => {
                // What a refusal rests on must not be undone by a crash either.
                self.wal.wait(seq).await?;
                return Err(conflict);
            }
        };
        if level != Level::Memory {
            self.wal.wait(seq).await?;
        }
        Ok((Ack { level: level.min_local(), hlc, seq }, batch))
    }

    /// Builds and logs the changes; `None` if `prior` is needed and lacking, or out of date.
    fn try_change(
        &self,
        state: &mut State,
        work: &Work<'_>,
        prior: Option<&Prior>,
        ahead: Option<Built>,
    ) -> Result<Option<(u64, u64, Batch)>> {
        let table = state.table(work.table)?;
        let spec = table.schema.clone();
        let nothing = Prior::default();
        let prior = match prior {
            Some(prior) if prior.is_current(table) => prior,
            None if work.rows_to_read(&spec).next().is_none() => &nothing,
            _ => return Ok(None),
        };
        work.check(&spec)?;
        let now_ms = self.now_ms();
        for condition in work.conditions {
            let key = spec.key_of(&condition.key)?;
            let known = prior.known(state.table(work.table)?, &key, &condition.key, now_ms)?;
            condition.check(&spec, &known)?;
        }
        let rows = match ahead.filter(|built| Arc::ptr_eq(&built.schema, &spec)) {
            Some(built) => self.stamp(state, built, now_ms),
            None => self.build(state, work, prior, &spec)?,
        };
        if let Some(table) = state.tables.get_mut(work.table) {
            self.check_limits(table, work, rows.iter().map(|(key, _)| &**key))?;
        }
        let hlc = state.clock.last();
        let batch = Batch { table: work.table.into(), columns: spec.names.clone(), rows };
        let (bodies, batch) = match work.unit {
            Unit::Call => (cut(batch)?, Batch::default()),
            Unit::Commit => (vec![whole(batch.clone())?], batch),
        };
        let seq = self.log(state, Source::Own, bodies.into_iter().map(Body::Rows).collect())?;
        Ok(Some((seq, hlc, batch)))
    }

    /// The changes as partial row states but for their stamps, where these do not depend on what is
    /// known: made before it is their turn, so that nobody waits for it.
    fn built_ahead(&self, work: &Work<'_>) -> Result<Option<Built>> {
        let schema = self.read().table(work.table)?.schema.clone();
        if work.rows_to_read(&schema).next().is_some() {
            return Ok(None);
        }
        let unstamped = Stamp { hlc: u64::MAX, origin: self.id };
        let built = work.changes.iter().map(|change| {
            let row = change.build(&schema, unstamped, &RowState::default())?;
            Ok((schema.key_of(change.row())?, row))
        });
        let rows = built.collect::<Result<Vec<_>>>()?;
        Ok(Some(Built { schema, rows, unstamped }))
    }

    /// Gives each row that was built ahead a stamp of its own.
    fn stamp(&self, state: &mut State, built: Built, now_ms: u64) -> Vec<(Vec<u8>, RowState)> {
        let Built { mut rows, unstamped, .. } = built;
        for (_, row) in &mut rows {
            let stamp = Stamp { hlc: state.clock.tick(now_ms), origin: self.id };
            row.restamp(unstamped, stamp);
        }
        rows
    }

    /// The changes as partial row states, each with a stamp of its own.
    fn build(
        &self,
        state: &mut State,
        work: &Work<'_>,
        prior: &Prior,
        spec: &Schema,
    ) -> Result<Vec<(Vec<u8>, RowState)>> {
        let now_ms = self.now_ms();
        let mut rows = Vec::with_capacity(work.changes.len());
        let mut known: HashMap<Vec<u8>, RowState> = HashMap::new();
        for change in work.changes {
            let key = spec.key_of(change.row())?;
            let stamp = Stamp { hlc: state.clock.tick(now_ms), origin: self.id };
            let row = if change.needs_known(spec) {
                let known = match known.entry(key.clone()) {
                    hash_map::Entry::Occupied(known) => known.into_mut(),
                    hash_map::Entry::Vacant(entry) => {
                        let table = state.table(work.table)?;
                        entry.insert(prior.known(table, &key, change.row(), now_ms)?)
                    }
                };
                let row = change.build(spec, stamp, known)?;
                known.merge(&row);
                row
            } else {
                change.build(spec, stamp, &RowState::default())?
            };
            rows.push((key, row));
        }
        Ok(rows)
    }
}

/// Changes that were built before it was their turn.
struct Built {
    schema: Arc<Schema>,
    rows: Vec<(Vec<u8>, RowState)>,
    /// What stands where their stamps will.
    unstamped: Stamp,
}

/// The batch, if it fits one entry.
fn whole(batch: Batch) -> Result<Batch> {
    let bytes = record::encode(&batch).len() + 64;
    match bytes <= ENTRY_BYTES_MAX {
        true => Ok(batch),
        false => Err(Error::TooLarge {
            what: format!("commit to table {:?}", batch.table),
            bytes: bytes as u64,
            max: ENTRY_BYTES_MAX as u64,
        }),
    }
}

/// Cuts a batch into batches that fit an entry each.
pub(super) fn cut(batch: Batch) -> Result<Vec<Batch>> {
    // A row takes more room in memory than encoded, so most batches need no closer look.
    let at_most = batch.rows.iter().map(|(key, row)| key.len() + row.weight()).sum::<usize>();
    if at_most + HEAD_BYTES_MAX <= ENTRY_BYTES_MAX {
        return Ok(vec![batch]);
    }
    let bytes = record::encode(&batch).len() + 64;
    if bytes <= ENTRY_BYTES_MAX {
        return Ok(vec![batch]);
    }
    if batch.rows.len() == 1 {
        return Err(Error::TooLarge {
            what: format!("row of table {:?} (larger values belong into blobs)", batch.table),
            bytes: bytes as u64,
            max: ENTRY_BYTES_MAX as u64,
        });
    }
    let mut first = batch;
    let rows = first.rows.split_off(first.rows.len() / 2);
    let second = Batch { table: first.table.clone(), columns: first.columns.clone(), rows };
    let mut pieces = cut(first)?;
    pieces.extend(cut(second)?);
    Ok(pieces)
}
