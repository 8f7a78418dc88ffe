//! Objects whose bytes come bit by bit, and whose name is known at the end: a side file that is
//! linked to its name when it is whole. What a bucket takes is gathered in memory.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Objects, UNFINISHED, aside, make_dirs, sync_dir};
use crate::error::{Error, Result};

/// Bytes on their way to becoming an object; gone when it is dropped.
pub struct Side(To);

enum To {
    Memory(BytesMut),
    File(SideFile),
}

struct SideFile {
    folder: PathBuf,
    path: PathBuf,
    file: Arc<File>,
    len: u64,
}

impl Objects {
    /// Begins an object.
    pub async fn side(&self) -> Result<Side> {
        let Some(folder) = self.folder.clone() else { return Ok(Side::in_memory()) };
        let path = folder.join(UNFINISHED).join(format!("{:016x}", crate::entropy()));
        let created = path.clone();
        let file = aside(move || File::create_new(created)).await.map_err(side_error)?;
        Ok(Side(To::File(SideFile { folder, path, file: Arc::new(file), len: 0 })))
    }

    /// Makes sure that there is an object of this name, as [`Objects::create_synced`] does.
    pub async fn create_of(&self, name: &str, side: Side) -> Result<()> {
        let side = match side.0 {
            To::Memory(bytes) => return self.create_synced(name, bytes.freeze()).await,
            To::File(side) => side,
        };
        let path = name.to_owned();
        let linked = aside(move || side.link(&path)).await;
        linked.map_err(|e| Error::io(format!("object {name}"), e))
    }
}

impl Side {
    /// In memory, for who wants the bytes as well.
    pub fn in_memory() -> Self {
        Side(To::Memory(BytesMut::new()))
    }

    /// Adds bytes.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let side = match &mut self.0 {
            To::Memory(all) => {
                all.extend_from_slice(&bytes);
                return Ok(());
            }
            To::File(side) => side,
        };
        let (file, at, len) = (side.file.clone(), side.len, bytes.len() as u64);
        aside(move || file.write_all_at(&bytes, at)).await.map_err(side_error)?;
        side.len += len;
        Ok(())
    }

    /// The bytes, if they are in memory.
    pub fn into_bytes(self) -> Option<Bytes> {
        match self.0 {
            To::Memory(bytes) => Some(bytes.freeze()),
            To::File(_) => None,
        }
    }
}

impl SideFile {
    fn link(self, name: &str) -> io::Result<()> {
        self.file.sync_all()?;
        let target = self.folder.join(name);
        make_dirs(&self.folder, &target)?;
        match fs::hard_link(&self.path, &target) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        // Also where it was there: who made it may not have come this far.
        let within = |dir: &&FsPath| dir.starts_with(&self.folder);
        target.ancestors().skip(1).take_while(within).try_for_each(sync_dir)
    }
}

impl Drop for SideFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn side_error(error: io::Error) -> Error {
    Error::io("a new object", error)
}

#[cfg(test)]
mod tests;
