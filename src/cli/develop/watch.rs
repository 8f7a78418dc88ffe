//! What changes in a project's folder, and whether by somebody's hand or by the build itself.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Folders in which nobody writes code.
const NOT_WATCHED: [&str; 3] = ["target", "node_modules", "tests"];
/// What changes in so many builds in a row is written by them.
const BUILDS_IN_A_ROW: u32 = 3;

/// When files were last changed, and how long they are.
pub type Files = BTreeMap<PathBuf, (SystemTime, u64)>;

/// The files of a project as they are now.
pub fn files(folder: &Path) -> Files {
    let mut found = Files::new();
    gather(folder, &mut found);
    found
}

fn gather(folder: &Path, found: &mut Files) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') || NOT_WATCHED.contains(&&*name) {
            continue;
        }
        let Ok(about) = entry.metadata() else { continue };
        if about.is_dir() {
            gather(&entry.path(), found);
        } else {
            found.insert(entry.path(), state(&about));
        }
    }
}

/// How a file is now.
pub fn state(about: &Metadata) -> (SystemTime, u64) {
    (about.modified().unwrap_or(SystemTime::UNIX_EPOCH), about.len())
}

/// A built file that is older than something it may have been made from, and what that is.
pub fn outdated<'a>(files: &'a Files, built: &'a Files) -> Option<(&'a Path, &'a Path)> {
    let is_source = |path: &Path| path.extension().is_none_or(|kind| kind != "md");
    let sources = files.iter().filter(|(path, _)| !built.contains_key(*path) && is_source(path));
    let (source, (saved, _)) = sources.max_by_key(|(_, (saved, _))| saved)?;
    let (code, (made, _)) = built.iter().min_by_key(|(_, (made, _))| made)?;
    (made < saved).then_some((code, source))
}

/// Tells what was saved while a build ran from what the build wrote.
#[derive(Default)]
pub struct Builds {
    /// In how many builds in a row a file has changed.
    in_a_row: BTreeMap<PathBuf, u32>,
}

impl Builds {
    /// Whether a file was saved between `before` and `after` a build, which makes `products`.
    pub fn saved_meanwhile(&mut self, before: &Files, after: &Files, products: &[PathBuf]) -> bool {
        let changed = before.iter().filter(|(path, state)| after.get(*path) != Some(*state));
        let by_whom = changed.filter(|(path, _)| !products.contains(path));
        let times = |path: &PathBuf| 1 + self.in_a_row.get(path).unwrap_or(&0);
        self.in_a_row = by_whom.map(|(path, _)| (path.clone(), times(path))).collect();
        self.in_a_row.values().any(|times| *times < BUILDS_IN_A_ROW)
    }
}

#[cfg(test)]
mod tests;
