//! What is left of a folder of objects when the power goes: of files whose bytes were not synced,
//! anything; of names that were made or removed in a folder since it was synced, any.
//!
//! The files are those of the system; what is synced is noted beside. That the system's sync is
//! what it is said to be cannot be seen from here.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// The medium under a folder.
pub struct Medium {
    root: PathBuf,
    /// Syncs that are still made; after them the power is gone.
    left: AtomicU64,
    synced: Mutex<Synced>,
}

#[derive(Default)]
struct Synced {
    /// Files by their number, held so that no other gets it.
    files: HashMap<u64, File>,
    /// The names of a folder, and the numbers behind them.
    folders: HashMap<PathBuf, Names>,
}

type Names = BTreeMap<PathBuf, u64>;

static MEDIA: Mutex<Vec<Weak<Medium>>> = Mutex::new(Vec::new());

/// Notes that a file is synced; false where nobody notes it.
pub fn file_is_synced(file: &File, path: &Path) -> io::Result<bool> {
    let Some(medium) = Medium::of(path) else { return Ok(false) };
    medium.spend()?;
    let number = file.metadata()?.ino();
    crate::lock(&medium.synced).files.insert(number, file.try_clone()?);
    Ok(true)
}

/// Notes that the names of a folder are synced; false where nobody notes it.
pub fn folder_is_synced(folder: &Path) -> io::Result<bool> {
    let Some(medium) = Medium::of(folder) else { return Ok(false) };
    medium.spend()?;
    // Looked at while nobody else notes what he has seen: what is older never comes last.
    let mut synced = crate::lock(&medium.synced);
    synced.folders.insert(folder.to_owned(), names(folder)?);
    Ok(true)
}

impl Medium {
    /// The one under this folder, which is empty.
    pub fn under(root: &Path) -> Arc<Medium> {
        let root = fs::canonicalize(root).unwrap();
        let medium = Medium { root, left: u64::MAX.into(), synced: Mutex::default() };
        let medium = Arc::new(medium);
        let mut media = crate::lock(&MEDIA);
        media.retain(|medium| medium.strong_count() > 0);
        media.push(Arc::downgrade(&medium));
        medium
    }

    fn of(path: &Path) -> Option<Arc<Medium>> {
        let media = crate::lock(&MEDIA);
        media.iter().filter_map(Weak::upgrade).find(|medium| path.starts_with(&medium.root))
    }

    /// The power goes after so many syncs.
    pub fn power_for(&self, syncs: u64) {
        self.left.store(syncs, Ordering::SeqCst);
    }

    /// True if it is gone.
    pub fn is_off(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    fn spend(&self) -> io::Result<()> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        left.map(drop).map_err(|_| io::Error::other("power is gone"))
    }

    /// Puts what is left into another folder. `is_kept` says of each thing that was not synced
    /// whether it has got to the medium.
    pub fn crash(&self, into: &Path, mut is_kept: impl FnMut() -> bool) {
        let synced = crate::lock(&self.synced);
        synced.copy(&self.root, into, &mut is_kept);
    }
}

impl Synced {
    fn copy(&self, folder: &Path, into: &Path, is_kept: &mut impl FnMut() -> bool) {
        let (before, now) = (self.folders.get(folder).cloned(), names(folder).unwrap());
        let before = before.unwrap_or_default();
        let mut left = now.clone();
        left.retain(|name, number| before.get(name) == Some(number) || is_kept());
        let removed = before.iter().filter(|(name, _)| !now.contains_key(*name));
        let removed: Names = removed.map(|(name, number)| (name.clone(), *number)).collect();
        left.extend(removed.into_iter().filter(|_| !is_kept()));
        for (name, number) in left {
            let (from, to) = (folder.join(&name), into.join(&name));
            if from.is_dir() {
                fs::create_dir(&to).unwrap();
                self.copy(&from, &to, is_kept);
                continue;
            }
            let bytes = match self.files.get(&number) {
                Some(file) => all_of(file),
                None if is_kept() => fs::read(&from).unwrap_or_default(),
                None => Vec::new(),
            };
            fs::write(to, bytes).unwrap();
        }
    }
}

fn all_of(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn names(folder: &Path) -> io::Result<Names> {
    let entries = fs::read_dir(folder)?;
    entries
        .map(|entry| entry.and_then(|e| Ok((e.file_name().into(), e.metadata()?.ino()))))
        .collect()
}
