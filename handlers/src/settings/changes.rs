//! Settings that were changed at a site while their app runs. A change names a setting of the
//! manifest and counts from the next invocation on, over restarts and further revisions, until it
//! is taken back. A file of JSON per app, `{"handler": {"name": "value"}}`, read when the node
//! starts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use crate::manifest::Handler;

/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 16 << 10;

/// What was changed, by handler and name.
type Changed = BTreeMap<String, BTreeMap<String, String>>;

/// The changed settings of a site.
pub struct Changes {
    folder: PathBuf,
    apps: RwLock<BTreeMap<String, Changed>>,
}

impl Changes {
    /// Those kept in a folder, which need not be there yet. A file that cannot be read is left out,
    /// and said in the log: the manifest's values count then.
    pub fn open(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        let mut apps = BTreeMap::new();
        for file in files(&folder) {
            let app = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let read = fs::read(&file).map_err(|error| error.to_string());
            match read.and_then(|text| serde_json::from_slice(&text).map_err(|e| e.to_string())) {
                Ok(changed) => drop(apps.insert(app, changed)),
                Err(why) => tracing::error!(
                    "changed settings of app \"{app}\" are left out: {}: {why}; mend the file, or \
                     remove it and change them again",
                    file.display()
                ),
            }
        }
        Self { folder, apps: RwLock::new(apps) }
    }

    /// What counts in place of the manifest's values, for a handler as its manifest has it now.
    pub fn of(&self, app: &str, handler: &Handler) -> BTreeMap<String, String> {
        let apps = self.apps.read().unwrap_or_else(PoisonError::into_inner);
        let changed = apps.get(app).and_then(|changed| changed.get(&handler.name));
        let known =
            changed.into_iter().flatten().filter(|(name, _)| handler.config.contains_key(*name));
        known.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Changes settings, and takes changes back; all of it or, on an error, nothing.
    pub fn change(
        &self,
        app: &str,
        handler: &Handler,
        set: BTreeMap<String, String>,
        unset: &[String],
    ) -> Result<(), String> {
        for (name, value) in &set {
            check(app, handler, name, value)?;
        }
        let mut apps = self.apps.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = apps.get(app).cloned().unwrap_or_default();
        let of_handler = changed.entry(handler.name.clone()).or_default();
        for name in unset {
            let is_known = of_handler.remove(name).is_some() || handler.config.contains_key(name);
            if !is_known {
                return Err(unknown(app, handler, name));
            }
        }
        // What the manifest has no longer goes with the next change.
        of_handler.retain(|name, _| handler.config.contains_key(name));
        of_handler.extend(set);
        changed.retain(|_, names| !names.is_empty());
        let file = self.folder.join(format!("{app}.json"));
        let kept = keep(&file, &changed);
        kept.map_err(|error| format!("settings of app \"{app}\": {}: {error}", file.display()))?;
        apps.insert(app.to_owned(), changed);
        Ok(())
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    files.filter(|file| file.extension().is_some_and(|end| end == "json")).collect()
}

fn check(app: &str, handler: &Handler, name: &str, value: &str) -> Result<(), String> {
    if !handler.config.contains_key(name) {
        return Err(unknown(app, handler, name));
    }
    let (bytes, place) = (value.len(), format!("setting \"{name}\" of {app}.{}", handler.name));
    if bytes > VALUE_BYTES_MAX {
        return Err(format!("{place}: {bytes} bytes; at most {VALUE_BYTES_MAX} go"));
    }
    match value.contains('\0') {
        true => Err(format!("{place}: it has a NUL in it; remove it")),
        false => Ok(()),
    }
}

fn unknown(app: &str, handler: &Handler, name: &str) -> String {
    let place = format!("{app}.{} has no setting \"{name}\"", handler.name);
    if handler.secrets.iter().any(|secret| secret == name) {
        return format!("{place}: it is a secret; write its file at the site");
    }
    let known: Vec<&str> = handler.config.keys().map(String::as_str).collect();
    match known.is_empty() {
        true => format!("{place}; its manifest has no [handler.config]"),
        false => format!("{place}; it has {}", known.join(", ")),
    }
}

/// A reader sees the old file or the whole new one; the last change taken back removes it.
fn keep(file: &Path, changed: &Changed) -> io::Result<()> {
    if changed.is_empty() {
        return match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let partial = file.with_extension("tmp");
    let mut written = File::create(&partial)?;
    written.write_all(serde_json::to_string_pretty(changed)?.as_bytes())?;
    written.sync_all()?;
    fs::rename(&partial, file)
}

#[cfg(test)]
mod tests;
