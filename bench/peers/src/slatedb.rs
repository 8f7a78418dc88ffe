//! SlateDB: a log-structured tree in a store of objects, here a folder. It does not sync: what it
//! calls durable is in the page cache, as far as this disk goes.

use std::path::Path;
use std::sync::Arc;

use slatedb::config::{FlushOptions, FlushType};
use slatedb::object_store::local::LocalFileSystem;
use slatedb::{Db, WriteBatch};
use tokio::runtime::Runtime;

use crate::{Peer, Result, Rows, key};

struct SlateDb {
    runtime: Runtime,
    database: Db,
}

pub fn open(path: &Path) -> Result<Box<dyn Peer>> {
    std::fs::create_dir_all(path)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let objects = Arc::new(LocalFileSystem::new_with_prefix(path)?);
    let database = runtime.block_on(Db::open("t", objects))?;
    Ok(Box::new(SlateDb { runtime, database }))
}

impl Peer for SlateDb {
    fn syncs(&self) -> bool {
        false
    }

    fn put(&mut self, rows: Rows<'_>, durable: bool) -> Result<()> {
        let mut batch = WriteBatch::new();
        rows.for_each(|(id, value)| batch.put(key(id), value));
        self.runtime.block_on(async {
            self.database.write(batch).await?;
            if durable {
                self.database.flush().await?;
            }
            Ok(())
        })
    }

    fn get(&mut self, id: u64, see: &mut dyn FnMut(&[u8])) -> Result<()> {
        if let Some(value) = self.runtime.block_on(self.database.get(key(id)))? {
            see(&value);
        }
        Ok(())
    }

    fn range(&mut self, from: u64, rows: u64, see: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.runtime.block_on(async {
            let mut rest = self.database.scan(key(from)..).await?;
            for _ in 0..rows {
                let Some(row) = rest.next().await? else { break };
                see(&row.value);
            }
            Ok(())
        })
    }

    fn settle(&mut self) -> Result<()> {
        let options = FlushOptions { flush_type: FlushType::MemTable };
        Ok(self.runtime.block_on(self.database.flush_with_options(options))?)
    }
}

impl Drop for SlateDb {
    fn drop(&mut self) {
        // What it has begun would go on in a folder that is removed.
        let _ = self.runtime.block_on(self.database.close());
    }
}
