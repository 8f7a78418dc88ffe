//! redb: a B-tree in one file.

use std::path::Path;

use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use crate::{Peer, Result, Rows, key};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("t");

struct Redb(Database);

pub fn open(path: &Path) -> Result<Box<dyn Peer>> {
    let database = Database::create(path)?;
    let begun = database.begin_write()?;
    drop(begun.open_table(TABLE)?);
    begun.commit()?;
    Ok(Box::new(Redb(database)))
}

impl Peer for Redb {
    fn put(&mut self, rows: Rows<'_>, durable: bool) -> Result<()> {
        let mut begun = self.0.begin_write()?;
        if !durable {
            begun.set_durability(Durability::None)?;
        }
        let mut table = begun.open_table(TABLE)?;
        for (id, value) in rows {
            table.insert(&key(id)[..], &value[..])?;
        }
        drop(table);
        Ok(begun.commit()?)
    }

    fn get(&mut self, id: u64, see: &mut dyn FnMut(&[u8])) -> Result<()> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        if let Some(value) = table.get(&key(id)[..])? {
            see(value.value());
        }
        Ok(())
    }

    fn range(&mut self, from: u64, rows: u64, see: &mut dyn FnMut(&[u8])) -> Result<()> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        for row in table.range(&key(from)[..]..)?.take(rows as usize) {
            see(row?.1.value());
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        Ok(())
    }
}
