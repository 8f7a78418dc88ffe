//! fjall: a log-structured tree in Rust.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::{Peer, Result, Rows, key};

struct Fjall {
    database: Database,
    rows: Keyspace,
}

pub fn open(path: &Path) -> Result<Box<dyn Peer>> {
    let database = Database::builder(path).open()?;
    let rows = database.keyspace("t", KeyspaceCreateOptions::default)?;
    Ok(Box::new(Fjall { database, rows }))
}

impl Peer for Fjall {
    fn put(&mut self, rows: Rows<'_>, durable: bool) -> Result<()> {
        let mut batch = self.database.batch();
        rows.for_each(|(id, value)| batch.insert(&self.rows, key(id), value));
        batch.commit()?;
        if durable {
            self.database.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }

    fn get(&mut self, id: u64, see: &mut dyn FnMut(&[u8])) -> Result<()> {
        if let Some(value) = self.rows.get(key(id))? {
            see(&value);
        }
        Ok(())
    }

    fn range(&mut self, from: u64, rows: u64, see: &mut dyn FnMut(&[u8])) -> Result<()> {
        for row in self.rows.range(key(from)..).take(rows as usize) {
            see(&row.value()?);
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        self.rows.rotate_memtable_and_wait()?;
        Ok(self.rows.major_compact()?)
    }
}
