//! What a site remembers of apps: their manifests on disk, and for a moment which names nobody
//! knows.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{EdgeDeploy, Error, Registered, disk};

/// How long "no such app" is remembered, so that nonsense does not climb the tree each time.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);
/// How many unknown names are remembered.
const UNKNOWN_MAX: usize = 1_024;

impl EdgeDeploy {
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }

    pub(super) fn remember(&self, registered: &Registered) -> Result<(), Error> {
        let file = self.file(&registered.name);
        let fresh = file.with_extension("new");
        let text = serde_json::to_vec(registered).map_err(|e| disk(&file, e))?;
        std::fs::write(&fresh, text).map_err(|e| disk(&fresh, e))?;
        std::fs::rename(&fresh, &file).map_err(|e| disk(&file, e))
    }

    pub(super) fn remembered(&self) -> Result<Vec<Registered>, Error> {
        let entries = std::fs::read_dir(&self.dir).map_err(|e| disk(&self.dir, e))?;
        let files = entries.flatten().map(|entry| entry.path());
        let files = files.filter(|path| path.extension().is_some_and(|ext| ext == "json"));
        let read = |path: PathBuf| {
            let text = std::fs::read(&path).map_err(|e| disk(&path, e))?;
            serde_json::from_slice(&text).map_err(|e| disk(&path, e))
        };
        files.map(read).collect()
    }

    pub(super) fn lately_unknown(&self, name: &str) -> bool {
        let mut unknown = self.unknown.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        unknown.retain(|_, at| at.elapsed() < UNKNOWN_FOR);
        unknown.contains_key(name)
    }

    pub(super) fn note_unknown(&self, name: &str) {
        let mut unknown = self.unknown.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if unknown.len() < UNKNOWN_MAX {
            unknown.insert(name.to_owned(), Instant::now());
        }
    }
}
