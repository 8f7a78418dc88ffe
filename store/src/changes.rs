//! The change feed of a table at one site, from any position.
//!
//! The feed is compacted: it gives each row that changed after a position once, as it is now, in
//! the order of the last changes. So a position never grows too old, and a reader that comes back
//! after a year misses nothing but intermediate states. Only durable changes are given: an answer
//! waits for the log. A row that changes again meanwhile is given as it is then, and once more in
//! its turn.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::EdgeStore;
use crate::columns::Columns;
use crate::commit::Version;
use crate::error::{Error, Result};
use crate::run::visible_row;
use crate::runtime;
use crate::value::Row;

/// Changed rows of one answer.
pub const CHANGES_MAX: usize = 10_000;

/// A place in the history of one store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    store: u64,
    seq: u64,
    /// Deletes up to this entry are none that the reader has to hear of.
    forgotten: u64,
}

/// A row that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// Its key.
    pub key: Row,
    /// The row as it is now, none if it is deleted.
    pub now: Option<(Row, Version)>,
}

/// Part of a change feed.
#[derive(Clone, Debug, PartialEq)]
pub struct Feed {
    /// Rows in the order of their last changes.
    pub changes: Vec<Changed>,
    /// Where the next question goes on.
    pub next: Position,
    /// True if this site has all of the table; else the feed tells of what is held here.
    pub complete: bool,
    /// True if the feed began at its beginning, because the position was of another store (this
    /// site's was replaced) or deletes since then are forgotten: who keeps a copy empties it first.
    pub anew: bool,
}

impl EdgeStore {
    /// Rows of `table` that changed after `after`, at most `limit`; the default position is the
    /// beginning. If there are none, waits for some up to `wait`. Fails with [`Error::ReadOnly`]
    /// while the disk refuses some.
    pub async fn changes(
        &self,
        table: &str,
        after: Position,
        limit: usize,
        wait: Duration,
    ) -> Result<Feed> {
        let limit = limit.clamp(1, CHANGES_MAX);
        self.know(table).await?;
        let engine = &self.inner.engine;
        let deadline = runtime::now() + wait;
        let mut durable = engine.wal.durable();
        loop {
            durable.mark_unchanged();
            let forgotten = engine.read().table(table)?.forgotten();
            let since = after.seq_at(engine.id, forgotten);
            let anew = since.is_none() && after != Position::default();
            let mut feed = self.changes_now(table, since.unwrap_or(0), limit).await?;
            if engine.read().table(table)?.forgotten() > forgotten {
                continue;
            }
            // A position behind all of them need not say so.
            feed.next.forgotten = if forgotten > feed.next.seq { forgotten } else { 0 };
            if !feed.changes.is_empty() || deadline <= runtime::now() {
                return Ok(Feed { anew, ..feed });
            }
            // Woken by a change, by the end of the log or by the clock: each time one more look.
            let woken = runtime::timeout_at(deadline, durable.changed()).await;
            if matches!(woken, Ok(Err(_))) {
                return Err(Error::Stopped("store is closed".into()));
            }
        }
    }

    /// What changed after `since`, when it is durable.
    async fn changes_now(&self, table: &str, since: u64, limit: usize) -> Result<Feed> {
        let engine = &self.inner.engine;
        let until = engine.wal.durable().borrow().seq;
        let (spec, complete) = {
            let state = engine.read();
            let table = state.table(table)?;
            (table.schema.clone(), engine.is_root() || table.holds(&crate::record::Extent::Whole))
        };
        let changed = engine.changed_keys(table, since).await?;
        // Rows of one entry stay together, so an answer may be longer than asked for.
        let first = changed.keys().next().map_or(0, |(seq, _)| *seq);
        let end = changed.keys().nth(limit).map(|(seq, _)| (*seq).max(first + 1));
        let newest = changed.keys().next_back().map_or(0, |(seq, _)| *seq);
        let mut changes = Vec::new();
        let mut seen = newest;
        for ((seq, key), partition) in changed {
            if end.is_some_and(|end| seq >= end) {
                break;
            }
            let row = engine.row(table, &partition, &key).await?;
            seen = row.as_ref().map_or(seen, |row| row.seq.max(seen));
            let live = row.filter(|row| row.state.is_live());
            let now = match live {
                Some(row) => {
                    let version = Version::of(&spec, &row.state);
                    Some((visible_row(&spec, &key, &row.state)?, version))
                }
                None => None,
            };
            changes.push(Changed { key: spec.key_row(&key)?, now });
        }
        // Of each row only the last change is known, and it covers those before: if a crash could
        // undo it, who goes on behind it would never hear of them.
        if let Err(error) = engine.wal.wait(seen).await {
            let refused = |reason: Arc<str>| Error::ReadOnly(reason.to_string());
            return Err(engine.wal.failed().map_or(error, refused));
        }
        let next = engine.position(end.map_or(newest.max(until), |end| end - 1));
        Ok(Feed { changes, next, complete, anew: false })
    }
}

impl Position {
    /// The entry to go on after at a store that has forgotten deletes up to an entry; none if the
    /// reader has to begin anew.
    fn seq_at(self, store: u64, forgotten: u64) -> Option<u64> {
        let is_good = self.store == store && self.seq.max(self.forgotten) >= forgotten;
        is_good.then_some(self.seq)
    }
}

impl crate::engine::Engine {
    fn position(&self, seq: u64) -> Position {
        Position { store: self.id, seq, forgotten: 0 }
    }

    /// The keys that changed after `since` by their last entry, with their partitions.
    async fn changed_keys(
        &self,
        table: &str,
        since: u64,
    ) -> Result<BTreeMap<(u64, Arc<[u8]>), Vec<u8>>> {
        let mut last: BTreeMap<(Vec<u8>, Arc<[u8]>), u64> = BTreeMap::new();
        let mut note = |partition: &[u8], key: &[u8], seq: u64| {
            if seq > since {
                let at = last.entry((partition.to_vec(), key.into())).or_default();
                *at = (*at).max(seq);
            }
        };
        let (schema, segments) = {
            let state = self.read();
            let table = state.table(table)?;
            let mut segments = Vec::new();
            for (partition, layers) in table.partitions.iter() {
                for layer in layers.frozen.as_deref().into_iter().chain([&layers.active]) {
                    layer.iter().for_each(|row| note(partition, row.key(), row.seq()));
                }
                let news = layers.segments.iter().filter(|s| s.meta.max_seq > since);
                segments.extend(news.map(|s| (partition.to_vec(), s.clone())));
            }
            (table.schema.clone(), segments)
        };
        for (partition, segment) in segments {
            // A segment that was merged away meanwhile is read again as part of another one. All
            // columns, since the rows that changed are read next.
            let Some(runs) = self.runs(&schema, &Columns::All, &[segment]).await? else {
                return Err(Error::Busy(format!("changes of table {table:?}")));
            };
            for run in runs {
                let news = (0..run.len()).filter(|i| run.seq(*i) > since);
                news.for_each(|i| note(&partition, run.key(i), run.seq(i)));
            }
        }
        Ok(last.into_iter().map(|((partition, key), seq)| ((seq, key), partition)).collect())
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}", self.store, self.seq)?;
        match self.forgotten > self.seq {
            true => write!(f, ".{}", self.forgotten),
            false => Ok(()),
        }
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = |text: &str| -> Option<Position> {
            let (store, seq) = text.split_once('.')?;
            let (seq, forgotten) = seq.split_once('.').unwrap_or((seq, "0"));
            let store = u64::from_str_radix(store, 16).ok()?;
            Some(Position { store, seq: seq.parse().ok()?, forgotten: forgotten.parse().ok()? })
        };
        match text {
            "" => Ok(Position::default()),
            text => parse(text).ok_or_else(|| {
                let text =
                    format!("{text:?} is no position of a change feed; leave it out to begin");
                Error::BadRequest(text)
            }),
        }
    }
}

#[cfg(test)]
mod tests;
