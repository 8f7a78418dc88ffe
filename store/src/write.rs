//! Writing rows at this site, or at the owner where something has to be decided.

use crate::EdgeStore;
use crate::commit::Commit;
use crate::engine::{Ack, Change, Level, Unit, Work};
use crate::error::{Error, Result};
use crate::value::Row;

impl EdgeStore {
    /// Writes whole rows: plain columns that a row leaves out become null. All rows or none.
    /// Returns when they are synced here.
    pub async fn put(&self, table: &str, rows: &[Row]) -> Result<Ack> {
        self.put_at(table, rows, Level::LocalSync).await
    }

    /// Like [`EdgeStore::put`], returning when the rows have got as far as `level`.
    pub async fn put_at(&self, table: &str, rows: &[Row], level: Level) -> Result<Ack> {
        self.change(table, rows.iter().map(Change::Put).collect(), level).await
    }

    /// Writes whole rows as a reader saw them, so that rows that nobody has are the same
    /// afterwards: like a put, which counters have no part in, but these become what the rows say,
    /// as far as it is known here what they are. Written again, the same rows change nothing more.
    pub async fn restore(&self, table: &str, rows: &[Row]) -> Result<Ack> {
        self.restore_at(table, rows, Level::LocalSync).await
    }

    /// Like [`EdgeStore::restore`], returning when the rows have got as far as `level`.
    pub async fn restore_at(&self, table: &str, rows: &[Row], level: Level) -> Result<Ack> {
        self.change(table, rows.iter().map(Change::Restore).collect(), level).await
    }

    /// Writes the named columns of each row and leaves the others as they are.
    pub async fn patch(&self, table: &str, rows: &[Row]) -> Result<Ack> {
        self.patch_at(table, rows, Level::LocalSync).await
    }

    /// Like [`EdgeStore::patch`], returning when the rows have got as far as `level`.
    pub async fn patch_at(&self, table: &str, rows: &[Row], level: Level) -> Result<Ack> {
        self.change(table, rows.iter().map(Change::Patch).collect(), level).await
    }

    /// Deletes the rows with these keys.
    pub async fn delete(&self, table: &str, keys: &[Row]) -> Result<Ack> {
        self.delete_at(table, keys, Level::LocalSync).await
    }

    /// Like [`EdgeStore::delete`], returning when the rows have got as far as `level`.
    pub async fn delete_at(&self, table: &str, keys: &[Row], level: Level) -> Result<Ack> {
        self.change(table, keys.iter().map(Change::Delete).collect(), level).await
    }

    /// Adds to counter columns of a row, which is made if need be.
    pub async fn increment(&self, table: &str, key: &Row, deltas: &[(String, i64)]) -> Result<Ack> {
        self.increment_at(table, key, deltas, Level::LocalSync).await
    }

    /// Like [`EdgeStore::increment`], returning when the sum has got as far as `level`.
    pub async fn increment_at(
        &self,
        table: &str,
        key: &Row,
        deltas: &[(String, i64)],
        level: Level,
    ) -> Result<Ack> {
        self.change(table, vec![Change::Increment(key, deltas)], level).await
    }

    /// Takes elements out of set columns; the key and the elements are in `rows`.
    pub async fn discard(&self, table: &str, rows: &[Row]) -> Result<Ack> {
        self.discard_at(table, rows, Level::LocalSync).await
    }

    /// Like [`EdgeStore::discard`], returning when the rows have got as far as `level`.
    pub async fn discard_at(&self, table: &str, rows: &[Row], level: Level) -> Result<Ack> {
        self.change(table, rows.iter().map(Change::Discard).collect(), level).await
    }

    /// Waits until a write has got as far as `level`, and says how far it has got. What has got
    /// further already needs no waiting; a plain write gets to the root by itself, and below it
    /// nobody is told when.
    pub async fn wait(&self, ack: &Ack, level: Level) -> Result<Ack> {
        if ack.level >= level {
            return Ok(*ack);
        }
        let engine = &self.inner.engine;
        self.check_level(level)?;
        engine.wal.wait(ack.seq).await?;
        if level == Level::Parent && !engine.is_root() {
            engine.acked(ack.seq).await;
        }
        Ok(Ack { level, ..*ack })
    }

    fn check_level(&self, level: Level) -> Result<()> {
        match level {
            Level::Root if !self.inner.engine.is_root() => Err(Error::BadRequest(
                "a plain write is acknowledged at memory, local-sync or parent; a commit with a \
                 condition reaches the root"
                    .into(),
            )),
            _ => Ok(()),
        }
    }

    /// Makes the changes of a commit, together or not at all. Without conditions this happens
    /// here; with conditions it happens at the owner of the table, the root, which decides every
    /// such commit one after the other, and waits until it is synced there.
    pub async fn commit(&self, table: &str, commit: &Commit) -> Result<Ack> {
        commit.check()?;
        self.know(table).await?;
        let engine = &self.inner.engine;
        if commit.conditions.is_empty() || engine.is_root() {
            let changes = commit.changes();
            let conditions = &commit.conditions;
            let work = Work { table, conditions, changes: &changes, unit: Unit::Commit };
            let (ack, _) = engine.change(&work, Level::LocalSync).await?;
            let level = if engine.is_root() { Level::Root } else { ack.level };
            return Ok(Ack { level, ..ack });
        }
        let Some(tree) = self.inner.tree.get() else {
            return Err(Error::Unreachable {
                what: format!("owner of table {table:?}"),
                reason: "this site is not in the tree".into(),
            });
        };
        tree.commit_at_owner(table, commit).await
    }

    async fn change(&self, table: &str, changes: Vec<Change<'_>>, level: Level) -> Result<Ack> {
        self.check_level(level)?;
        let work = Work { table, conditions: &[], changes: &changes, unit: Unit::Call };
        let (ack, _) = match self.inner.engine.change(&work, level).await {
            Err(Error::UnknownTable(_)) => {
                self.know(table).await?;
                self.inner.engine.change(&work, level).await?
            }
            changed => changed?,
        };
        self.wait(&ack, level).await
    }
}
