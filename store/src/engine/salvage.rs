//! Mending a store that does not open because its log is damaged: files that are damaged are set
//! aside, and what is sound in them stays.
//!
//! A store never does that by itself: entries that are lost were acknowledged, so somebody has to
//! say that it goes on without them.

use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::manifest;
use crate::record::{self, Entry};
use crate::runtime;
use crate::wal::disk::{Disk, Folder};
use crate::wal::{OnRot, Wal, keep_only, set_aside_names};

use super::ground::{ground_of, is_open};
use super::{Engine, Ground, State};

/// A log file that was set aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Salvaged {
    /// What it is called now, in the folder `wal` of the store.
    pub file: String,
    /// Its entries that are still in the log.
    pub kept: usize,
    /// Its sound entries that are not, because what they build on was in the damaged part.
    pub left_out: usize,
}

/// Mends the log of a store that no process has open, and proves that it opens. Names the files
/// that were damaged; none if the log is sound.
pub async fn salvage(config: Config) -> Result<Vec<Salvaged>> {
    let ground = ground_of(&config).await?;
    salvage_on(config, ground).await
}

/// The same on the given ground.
pub async fn salvage_on(config: Config, ground: Ground) -> Result<Vec<Salvaged>> {
    let mut state = State::default();
    let found = manifest::newest(&ground.objects).await?;
    found.iter().try_for_each(|found| state.adopt(&found.manifest))?;
    let disk = ground.disk.clone();
    let mending = runtime::aside(move || mend(&*disk, &mut state)).await;
    let mended = mending.map_err(|e| Error::io("log", e))??;
    Engine::open_on(config, ground).await?.close();
    Ok(mended)
}

/// Says whether the log in the folder of a store is damaged; changes nothing, and looks at nothing
/// that a process has open. Returns the damaged files that a salvage has set aside.
///
/// # Errors
/// [`Error::Corrupt`] if it is.
pub fn check_log(dir: &Path) -> Result<Vec<String>> {
    let folder = dir.join("wal");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let disk = Folder::open(folder).map_err(|e| Error::io("log folder", e))?;
    if is_open(dir) {
        return set_aside_names(&disk);
    }
    match Wal::check(&disk) {
        // Who has opened it meanwhile has written to it while it was read.
        Err(_) if is_open(dir) => set_aside_names(&disk),
        checked => checked,
    }
}

/// Sets aside what is damaged; then what cannot be carried out any more, in the order in which it
/// is when the store is opened.
fn mend(disk: &dyn Disk, state: &mut State) -> Result<Vec<Salvaged>> {
    let before = set_aside_names(disk)?;
    let recovered = Wal::recover(disk, OnRot::Salvage)?;
    let is_copy_of = |name: &str, file: &str| name == file || name.starts_with(&format!("{file}."));
    let mut counts = Vec::new();
    for file in &recovered.files {
        let name = file.name();
        let mut new = recovered.rotten.iter().filter(|copy| !before.contains(copy));
        let is_set_aside = new.any(|copy| is_copy_of(copy, &name));
        let mut carry_out = |entry: &Bytes| {
            let entry = record::decode::<Entry>("log entry", entry);
            entry.and_then(|entry| state.apply(entry)).is_ok()
        };
        let (kept, left_out) = keep_only(disk, file, is_set_aside, &mut carry_out)?;
        counts.push((name, kept, left_out));
    }
    let salvaged = |copy: String| {
        let of = counts.iter().find(|(name, ..)| is_copy_of(&copy, name));
        let (kept, left_out) = of.map_or((0, 0), |(_, kept, left_out)| (*kept, *left_out));
        Salvaged { file: format!("{copy}.rotten"), kept, left_out }
    };
    let copies = set_aside_names(disk)?.into_iter().filter(|copy| !before.contains(copy));
    Ok(copies.map(salvaged).collect())
}
