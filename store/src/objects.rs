//! Immutable objects (segments, manifests, blobs): written once, durable when the call returns.
//!
//! Reading, listing and removing go through `object_store`. Its local file system does not sync,
//! so there objects are written here: to a side file, synced, then linked to their name, which
//! fails if the name exists. A name therefore never shows half an object, even after power loss.
//! What asks for many files of a folder is done here as well, in one task: to hand each to a thread
//! of its own takes several times as long as to read it.

mod bucket;
mod side;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::error::{Error, Result};

pub use bucket::{Bucket, BucketKeys};
pub use side::Side;

/// Objects of a bucket that are read at a time.
const READS_AT_ONCE: usize = 16;

/// Folders of which it is remembered that they need no sync; beyond it they are synced again.
const SETTLED_MAX: usize = 16_384;

/// Objects by slash-separated names.
#[derive(Clone, Debug)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    /// Where writes go when the store is a folder.
    folder: Option<PathBuf>,
    /// Where what comes bit by bit waits when it is none.
    spool: Option<PathBuf>,
    settled: Arc<Settled>,
}

/// Folders whose own names this process has synced. That a folder is there says nothing: who made
/// it may have been killed before that.
#[derive(Debug, Default)]
struct Settled(Mutex<HashSet<PathBuf>>);

/// Whether a create-if-absent made the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object is new.
    New,
    /// The name was taken; nothing changed.
    Existed,
}

impl Objects {
    /// Objects as files of a folder.
    pub fn folder(folder: PathBuf) -> Result<Self> {
        let cleared = fs::create_dir_all(&folder).and_then(|()| discard_unfinished(&folder));
        cleared.map_err(|e| Error::io(format!("folder {}", folder.display()), e))?;
        Objects::in_folder(&folder)
    }

    /// The same of a folder that is there and that somebody else may have open, to look at.
    pub fn in_folder(folder: &FsPath) -> Result<Self> {
        let found = fs::canonicalize(folder);
        let folder = found.map_err(|e| Error::io(format!("folder {}", folder.display()), e))?;
        let store = LocalFileSystem::new_with_prefix(&folder)
            .map_err(|e| object_error(&folder.display().to_string(), e))?;
        let (store, settled) = (Arc::new(store), Arc::default());
        Ok(Objects { store, folder: Some(folder), spool: None, settled })
    }

    /// Objects of a store that others could write to as well.
    pub fn shared(store: Arc<dyn ObjectStore>) -> Self {
        Objects { store, folder: None, spool: None, settled: Arc::default() }
    }

    /// The same, with a folder for what comes bit by bit; else that waits in memory.
    pub fn spooling(self, spool: PathBuf) -> Self {
        Objects { spool: Some(spool), ..self }
    }

    /// True if no lock keeps others from writing here.
    pub fn is_shared(&self) -> bool {
        self.folder.is_none()
    }

    /// Writes an object if its name is free; durable on return.
    pub async fn create(&self, name: &str, bytes: Bytes) -> Result<Created> {
        let Some(folder) = self.folder.clone() else {
            return self.create_remote(name, bytes).await;
        };
        let (path, settled) = (name.to_owned(), self.settled.clone());
        let created = aside(move || create_file(&folder, &settled, &path, &bytes)).await;
        created.map_err(|e| Error::io(format!("object {name}"), e))
    }

    /// Makes sure that there is such an object, whoever wrote it; durable on return, also where
    /// whoever wrote it was killed before that.
    pub async fn create_synced(&self, name: &str, bytes: Bytes) -> Result<()> {
        let created = self.create(name, bytes).await?;
        let (Created::Existed, Some(folder)) = (created, self.folder.clone()) else {
            return Ok(());
        };
        let target = folder.join(name);
        let synced = aside(move || {
            let mut above = target.ancestors().skip(1).take_while(|dir| dir.starts_with(&folder));
            above.try_for_each(sync_dir)
        });
        synced.await.map_err(|e| Error::io(format!("object {name}"), e))
    }

    /// The bytes of objects in the order of their names, `None` where there is none of that name.
    pub async fn read_all(&self, names: Vec<String>) -> Result<Vec<Option<Bytes>>> {
        let Some(folder) = self.folder.clone() else {
            let reads: Vec<BoxFuture<'_, _>> =
                names.iter().map(|name| self.read(name).boxed()).collect();
            return futures::stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await;
        };
        let read = move || {
            let read = names.iter().map(|name| read_file(&folder.join(name)));
            read.collect::<io::Result<Vec<_>>>()
        };
        aside(read).await.map_err(|e| Error::io("objects", e))
    }

    /// The bytes of an object, `None` if there is none of that name.
    pub async fn read(&self, name: &str) -> Result<Option<Bytes>> {
        match self.store.get(&Path::from(name)).await {
            Ok(found) => {
                let wanted = found.meta.size;
                let bytes = found.bytes().await.map_err(|e| object_error(name, e))?;
                whole(name, wanted, &bytes)?;
                Ok(Some(bytes))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(object_error(name, e)),
        }
    }

    /// Ranges of an object's bytes, `None` if there is none of that name.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the object ends before one of them does.
    pub async fn read_ranges(
        &self,
        name: &str,
        ranges: Vec<Range<u64>>,
    ) -> Result<Option<Vec<Bytes>>> {
        let Some(folder) = self.folder.clone() else {
            let reads: Vec<BoxFuture<'_, _>> =
                ranges.into_iter().map(|range| self.read_part(name, range).boxed()).collect();
            let read = futures::stream::iter(reads).buffered(READS_AT_ONCE);
            return Ok(read.try_collect::<Vec<_>>().await?.into_iter().collect());
        };
        let path = folder.join(name);
        match aside(move || read_parts(&path, &ranges)).await {
            Ok(read) => Ok(Some(read)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(too_short(name)),
            Err(e) => Err(Error::io(format!("object {name}"), e)),
        }
    }

    async fn read_part(&self, name: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        let how = GetOptions::new().with_range(Some(range.clone()));
        let found = match self.store.get_opts(&Path::from(name), how).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(object_error(name, e)),
        };
        if found.meta.size < range.end {
            return Err(too_short(name));
        }
        let bytes = found.bytes().await.map_err(|e| object_error(name, e))?;
        whole(name, range.end - range.start, &bytes)?;
        Ok(Some(bytes))
    }

    /// Bytes of an object, `None` if there is none of that name.
    pub async fn len(&self, name: &str) -> Result<Option<u64>> {
        match self.store.head(&Path::from(name)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(object_error(name, e)),
        }
    }

    /// A range of an object's bytes, clipped to its end.
    pub async fn read_range(&self, name: &str, start: u64, end: u64) -> Result<Bytes> {
        let path = Path::from(name);
        let how = GetOptions::new().with_range(Some(start..end));
        let found = self.store.get_opts(&path, how).await.map_err(|e| object_error(name, e))?;
        let wanted = found.range.end - found.range.start;
        let bytes = found.bytes().await.map_err(|e| object_error(name, e))?;
        whole(name, wanted, &bytes)?;
        Ok(bytes)
    }

    /// Names under a prefix, sorted.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        if let Some(folder) = self.folder.clone() {
            let name = prefix.to_owned();
            let names = aside(move || list_files(&folder, name)).await;
            return names.map_err(|e| Error::io(format!("object {prefix}"), e));
        }
        let found = self.store.list(Some(&Path::from(prefix)));
        let names = found.map_ok(|meta| meta.location.to_string()).try_collect::<Vec<_>>();
        let mut names = names.await.map_err(|e| object_error(prefix, e))?;
        names.sort_unstable();
        Ok(names)
    }

    /// Removes an object; one that is gone already counts as removed.
    pub async fn remove(&self, name: &str) -> Result<()> {
        match self.store.delete(&Path::from(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(object_error(name, e)),
        }
    }

    /// Removes an object as [`Objects::remove`] does, so that it stays away after a loss of power.
    pub async fn erase(&self, name: &str) -> Result<()> {
        let Some(folder) = self.folder.clone() else { return self.remove(name).await };
        let target = folder.join(name);
        let erased = aside(move || erase_file(&target)).await;
        erased.map_err(|e| Error::io(format!("object {name}"), e))
    }

    async fn create_remote(&self, name: &str, bytes: Bytes) -> Result<Created> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&Path::from(name), bytes.into(), options).await {
            Ok(_) => Ok(Created::New),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Created::Existed),
            Err(e) => Err(object_error(name, e)),
        }
    }
}

/// Does something that waits for the disk where nobody else waits for it.
async fn aside<T: Send + 'static>(
    task: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    crate::runtime::aside(task).await?
}

/// An answer that broke off is none, and not a damaged object: it may be asked for again.
fn whole(name: &str, wanted: u64, bytes: &Bytes) -> Result<()> {
    match bytes.len() as u64 == wanted {
        true => Ok(()),
        false => {
            let reason = format!("{} of {wanted} bytes came", bytes.len());
            let broke_off = io::Error::new(io::ErrorKind::UnexpectedEof, reason);
            Err(Error::io(format!("object {name}"), broke_off))
        }
    }
}

fn too_short(name: &str) -> Error {
    Error::corrupt(name, "it is shorter than what was written")
}

const UNFINISHED: &str = "unfinished";

fn create_file(
    folder: &FsPath,
    settled: &Settled,
    name: &str,
    bytes: &[u8],
) -> io::Result<Created> {
    let target = folder.join(name);
    if target.exists() {
        return Ok(Created::Existed);
    }
    let (side, file) = begin_unfinished(folder)?;
    let linked = link_whole(file, &side, &target, bytes);
    // Whatever went wrong: on a disk that is full it would take the room that somebody makes.
    let removed = fs::remove_file(&side);
    match linked {
        Ok(Created::New) => {
            removed?;
            settled.sync_above(&target, folder).map(|()| Created::New)
        }
        Ok(Created::Existed) => removed.map(|()| Created::Existed),
        Err(e) => Err(e),
    }
}

impl Settled {
    /// Syncs the folders above a new name, as far as that is needed.
    fn sync_above(&self, target: &FsPath, folder: &FsPath) -> io::Result<()> {
        let mut synced = Vec::new();
        for dir in target.ancestors().skip(1) {
            sync_dir(dir)?;
            if dir == folder || crate::lock(&self.0).contains(dir) {
                break;
            }
            synced.push(dir.to_owned());
        }
        let mut settled = crate::lock(&self.0);
        if settled.len() > SETTLED_MAX {
            settled.clear();
        }
        settled.extend(synced);
        Ok(())
    }
}

/// A side file of a name that nobody else has, in a folder that is made anew if it is gone.
fn begin_unfinished(folder: &FsPath) -> io::Result<(PathBuf, File)> {
    let sides = folder.join(UNFINISHED);
    let side = sides.join(format!("{:016x}", crate::entropy()));
    let file = match File::create_new(&side) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(&sides)?;
            File::create_new(&side)?
        }
        file => file?,
    };
    Ok((side, file))
}

/// Writes and syncs a side file and links it to the name that it is to have, which is not synced.
fn link_whole(mut file: File, side: &FsPath, target: &FsPath, bytes: &[u8]) -> io::Result<Created> {
    file.write_all(bytes)?;
    sync_file(&file, side)?;
    make_dirs(target)?;
    match fs::hard_link(side, target) {
        Ok(()) => Ok(Created::New),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Created::Existed),
        Err(e) => Err(e),
    }
}

fn erase_file(target: &FsPath) -> io::Result<()> {
    let absent = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    match fs::remove_file(target) {
        Err(e) if !absent(&e) => return Err(e),
        _ => {}
    }
    // Also where it was gone: who removed it may have been killed before this.
    match target.parent().map_or(Ok(()), sync_dir) {
        Err(e) if !absent(&e) => Err(e),
        _ => Ok(()),
    }
}

fn sync_file(file: &File, _path: &FsPath) -> io::Result<()> {
    #[cfg(test)]
    if power::file_is_synced(file, _path)? {
        return Ok(());
    }
    file.sync_all()
}

fn sync_dir(dir: &FsPath) -> io::Result<()> {
    let folder = File::open(dir)?;
    #[cfg(test)]
    if power::folder_is_synced(dir)? {
        return Ok(());
    }
    folder.sync_all()
}

fn read_file(path: &FsPath) -> io::Result<Option<Bytes>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
    }
}

fn read_parts(path: &FsPath, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>> {
    let file = File::open(path)?;
    let read = |range: &Range<u64>| {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        file.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes.into())
    };
    ranges.iter().map(read).collect()
}

/// The names of the files below a prefix, sorted.
fn list_files(folder: &FsPath, prefix: String) -> io::Result<Vec<String>> {
    let (mut names, mut prefixes) = (Vec::new(), vec![prefix]);
    while let Some(prefix) = prefixes.pop() {
        let entries = match fs::read_dir(folder.join(&prefix)) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            // What has another name is none of ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let name = format!("{prefix}/{name}");
            match entry.file_type()?.is_dir() {
                true => prefixes.push(name),
                false => names.push(name),
            }
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Makes the folders above `target`.
fn make_dirs(target: &FsPath) -> io::Result<()> {
    target.parent().map_or(Ok(()), fs::create_dir_all)
}

/// Removes what a crash left of objects, as far as the disk lets it.
fn discard_unfinished(folder: &FsPath) -> io::Result<()> {
    let entries = match fs::read_dir(folder.join(UNFINISHED)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(file = %path.display(), %error, "an unfinished object stays for now");
        }
    }
    Ok(())
}

fn object_error(name: &str, error: object_store::Error) -> Error {
    Error::io(format!("object {name}"), io::Error::other(error))
}

#[cfg(test)]
pub mod faulty;
#[cfg(test)]
pub mod power;
#[cfg(test)]
mod tests;
