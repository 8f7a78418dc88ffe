//! Mending a store that does not open because its log or a manifest is damaged: what is damaged is
//! set aside, and what is sound of it stays. And what somebody gives up, because it stays damaged.
//!
//! A store never does that by itself: entries that are lost were acknowledged, so somebody has to
//! say that it goes on without them.

use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::manifest::{self, Listed, Remade};
use crate::objects::Objects;
use crate::record::{self, Entry};
use crate::runtime;
use crate::wal::disk::{Disk, Folder};
use crate::wal::{OnRot, Wal, keep_only, set_aside_names};

use super::ground::{ground_of, is_open};
use super::{Engine, Ground, State};

/// What a salvage has done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mended {
    /// Log files that were damaged.
    pub files: Vec<Salvaged>,
    /// Manifests that did not read.
    pub manifests: Vec<Remade>,
    /// Segments that were given up.
    pub given_up: Vec<GivenUp>,
}

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

/// A segment that was given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GivenUp {
    /// Its object.
    pub object: String,
    /// Its table.
    pub table: String,
    /// Its rows, deleted ones and those of older versions included.
    pub rows: u64,
    /// The first of the keys between which something is lost, as JSON.
    pub first: Json,
    /// The last of them.
    pub last: Json,
    /// Why it did not read.
    pub reason: String,
    /// The object that has its bytes now, if it had any.
    pub kept_as: Option<String>,
}

/// Mends the log and the manifests of a store that no process has open, gives up the segments of
/// these names, and proves that the store opens. Names what was damaged.
pub async fn salvage(config: Config, give_up: &[String]) -> Result<Mended> {
    let ground = ground_of(&config).await?;
    salvage_on(config, ground, give_up).await
}

/// The same on the given ground.
pub async fn salvage_on(config: Config, ground: Ground, give_up: &[String]) -> Result<Mended> {
    let mut state = State::default();
    let Listed { found, unread } = manifest::newest(&ground.objects).await?;
    let before = unread.iter().filter_map(|unread| unread.before.as_ref());
    let mut known = found.iter().map(|found| &found.manifest).chain(before);
    known.try_for_each(|manifest| state.adopt(manifest))?;
    let disk = ground.disk.clone();
    // Tables that no manifest tells of are in the log.
    let mending = move || mend(&*disk, &mut state).map(|files| (files, state));
    let mending = runtime::aside(mending).await;
    let (files, state) = mending.map_err(|e| Error::io("log", e))??;
    let mut mended = Mended { files, ..Mended::default() };
    for unread in unread {
        let schema = state.tables.get(unread.table()).map(|table| table.schema.clone());
        let schema = schema.ok_or_else(|| {
            let reason = format!("{}, and nothing else tells of its table", unread.reason);
            Error::corrupt(&unread.name, reason)
        })?;
        let writer = format!("{:016x}-salvage-{:016x}", ground.id, crate::entropy());
        mended.manifests.push(manifest::remake(&ground.objects, unread, &schema, writer).await?);
    }
    let engine = Engine::open_on(config, ground).await?;
    for object in give_up {
        mended.given_up.push(engine.give_up(object).await?);
    }
    engine.close();
    Ok(mended)
}

/// Says whether a manifest in the folder of a store does not read, so that it may not open; changes
/// nothing. What is in a bucket is not looked at, nor what a process has open.
///
/// # Errors
/// [`Error::Corrupt`] if one does not.
pub async fn check_manifests(dir: &Path) -> Result<()> {
    let folder = dir.join("objects");
    if is_open(dir) || !folder.is_dir() {
        return Ok(());
    }
    let unread = manifest::newest(&Objects::in_folder(&folder)?).await?.unread;
    unread.first().map_or(Ok(()), |first| Err(first.error()))
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
