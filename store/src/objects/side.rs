//! Objects whose bytes come bit by bit, and whose name is known at the end: a side file that is
//! linked to its name when it is whole. What a bucket is to take, which wants all of it at once,
//! waits in a file without a name.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::Semaphore;

use super::{Objects, UNFINISHED, aside, make_dirs, sync_dir, sync_file};
use crate::error::{Error, Result};

/// What waited for a bucket is in memory while it goes there: one object at a time.
static TO_BUCKET: Semaphore = Semaphore::const_new(1);

/// Bytes on their way to becoming an object; gone when it is dropped.
pub struct Side(To);

enum To {
    Memory(BytesMut),
    File { file: Arc<File>, len: u64, place: Place },
}

/// Where a side file is.
enum Place {
    Nowhere,
    Beside(Beside),
}

struct Beside {
    folder: PathBuf,
    path: PathBuf,
}

impl Objects {
    /// Begins an object.
    pub async fn side(&self) -> Result<Side> {
        let (folder, spool) = match (&self.folder, &self.spool) {
            (Some(folder), _) => (Some(folder.clone()), folder.join(UNFINISHED)),
            (None, Some(spool)) => (None, spool.clone()),
            (None, None) => return Ok(Side::in_memory()),
        };
        let begun = move || {
            let path = spool.join(format!("{:016x}", crate::entropy()));
            let file = create(&path)?;
            let place = match folder {
                Some(folder) => Place::Beside(Beside { folder, path }),
                None => fs::remove_file(&path).map(|()| Place::Nowhere)?,
            };
            Ok(Side(To::File { file: Arc::new(file), len: 0, place }))
        };
        aside(begun).await.map_err(side_error)
    }

    /// Makes sure that there is an object of this name, as [`Objects::create_synced`] does.
    pub async fn create_of(&self, name: &str, side: Side) -> Result<()> {
        let io = |e| Error::io(format!("object {name}"), e);
        match side.0 {
            To::Memory(bytes) => self.create_synced(name, bytes.freeze()).await,
            To::File { file, place: Place::Beside(beside), .. } => {
                let path = name.to_owned();
                aside(move || beside.link(&file, &path)).await.map_err(io)
            }
            To::File { file, len, place: Place::Nowhere } => {
                let _turn = TO_BUCKET.acquire().await;
                let read = aside(move || {
                    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
                    file.read_exact_at(&mut bytes, 0).map(|()| bytes)
                });
                self.create_synced(name, read.await.map_err(io)?.into()).await
            }
        }
    }
}

impl Side {
    /// In memory, for who wants the bytes as well.
    pub fn in_memory() -> Self {
        Side(To::Memory(BytesMut::new()))
    }

    /// Adds bytes.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        match &mut self.0 {
            To::Memory(all) => all.extend_from_slice(&bytes),
            To::File { file, len, .. } => {
                let (file, at, more) = (file.clone(), *len, bytes.len() as u64);
                aside(move || file.write_all_at(&bytes, at)).await.map_err(side_error)?;
                *len += more;
            }
        }
        Ok(())
    }

    /// The bytes, if they are in memory.
    pub fn into_bytes(self) -> Option<Bytes> {
        match self.0 {
            To::Memory(bytes) => Some(bytes.freeze()),
            To::File { .. } => None,
        }
    }
}

impl Beside {
    fn link(self, file: &File, name: &str) -> io::Result<()> {
        sync_file(file, &self.path)?;
        let target = self.folder.join(name);
        make_dirs(&target)?;
        match fs::hard_link(&self.path, &target) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        // Also where it was there: who made it may not have come this far.
        let within = |dir: &&FsPath| dir.starts_with(&self.folder);
        target.ancestors().skip(1).take_while(within).try_for_each(sync_dir)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A new file, in a folder that is made if it is not there.
fn create(path: &FsPath) -> io::Result<File> {
    let mut how = OpenOptions::new();
    how.read(true).write(true).create_new(true);
    match how.open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            how.open(path)
        }
        file => file,
    }
}

fn side_error(error: io::Error) -> Error {
    Error::io("a new object", error)
}

#[cfg(test)]
mod tests;
