//! What a handler is set up with: the manifest's `[handler.config]`, as far as the site has not
//! changed it ([`changes`]), and secrets of the site it runs at. Secrets are files of the site, one
//! folder per app; they are read whenever an invocation begins, so a file that is written anew is a
//! secret that is rotated.
//!
//! No secret is in a manifest, on the bus, in an argument of a process, or in what `Debug` shows;
//! [`Settings::hide`] takes them out of what handlers say.

pub mod changes;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::iter;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use self::changes::Changes;
use crate::manifest::Handler;

/// Most secrets of a handler.
pub const SECRETS_MAX: usize = 64;
/// Longest secret.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// Shorter ones are not looked for in text: they would be found everywhere.
const HIDDEN_BYTES_MIN: usize = 4;
/// What stands in place of a secret.
const HIDDEN: &str = "[secret]";

/// What one invocation is set up with.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings {
    config: BTreeMap<String, String>,
    /// Whether the site has changed some of it.
    is_changed: bool,
    secrets: BTreeMap<String, String>,
    /// Values that secrets had before, which a process may still hold.
    earlier: Vec<String>,
}

/// Settings, secrets, and values that secrets had before.
pub(crate) type Parts = (BTreeMap<String, String>, BTreeMap<String, String>, Vec<String>);

impl Settings {
    /// Settings without a secret.
    pub fn plain(config: BTreeMap<String, String>) -> Self {
        Self { config, ..Self::default() }
    }

    /// These settings, and secrets.
    pub fn with_secrets(mut self, secrets: BTreeMap<String, String>) -> Self {
        self.secrets = secrets;
        self
    }

    /// What it is made of, for the process that runs the handler.
    pub(crate) fn parts(&self) -> Parts {
        (self.config.clone(), self.secrets.clone(), self.earlier.clone())
    }

    /// Settings of such parts.
    pub(crate) fn of_parts((config, secrets, earlier): Parts) -> Self {
        Self { config, secrets, earlier, is_changed: false }
    }

    /// A setting or a secret.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.config.get(name).or_else(|| self.secrets.get(name)).map(String::as_str)
    }

    /// Names and values of all settings and secrets.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.config.iter().chain(&self.secrets);
        all.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A number that other secrets, or other changes of the site, give another of.
    pub fn version(&self) -> u64 {
        if self.secrets.is_empty() && !self.is_changed {
            return 0;
        }
        let mut hash = Sha256::new();
        let config = self.config.iter().filter(|_| self.is_changed);
        for text in self.secrets.iter().chain(config).flat_map(|(name, value)| [name, value]) {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        }
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// The text without secrets.
    pub fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut hidden = Cow::Borrowed(text);
        for part in self.hidden_parts() {
            if hidden.contains(part) {
                hidden = Cow::Owned(hidden.replace(part, HIDDEN));
            }
        }
        hidden
    }

    /// How many of the last bytes may begin a secret.
    pub(crate) fn begins_at_end(&self, text: &[u8]) -> usize {
        let begun = |part: &str| {
            let lengths = (1..part.len().min(text.len() + 1)).rev();
            lengths.into_iter().find(|len| text.ends_with(&part.as_bytes()[..*len]))
        };
        self.hidden_parts().into_iter().filter_map(begun).max().unwrap_or(0)
    }

    /// What is looked for: output comes by the line, so each line of a secret too. One that is a
    /// part of another comes after it, or the rest of that would stay.
    fn hidden_parts<'a>(&'a self) -> Vec<&'a str> {
        let secrets = self.secrets.values().chain(&self.earlier);
        let lines = |secret: &'a String| secret.split(['\n', '\r']);
        let parts = secrets.flat_map(|secret| iter::once(secret.as_str()).chain(lines(secret)));
        let parts = parts.map(str::trim).filter(|part| part.len() >= HIDDEN_BYTES_MIN);
        let mut parts = Vec::from_iter(parts);
        parts.sort_unstable_by_key(|part| Reverse(part.len()));
        parts
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secrets: Vec<&String> = self.secrets.keys().collect();
        f.debug_struct("Settings")
            .field("config", &self.config)
            .field("secrets", &secrets)
            .finish_non_exhaustive()
    }
}

/// The secrets of a site.
pub struct Secrets {
    folder: PathBuf,
    changes: Option<Arc<Changes>>,
    /// The last two values of each, by file.
    seen: Mutex<HashMap<PathBuf, [Option<String>; 2]>>,
}

impl Secrets {
    /// Those in a folder, `APP/NAME`. It need not be there while nobody wants one.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), changes: None, seen: Mutex::default() }
    }

    /// The same, beside settings that the site has changed.
    pub fn and_changes(mut self, changes: Arc<Changes>) -> Self {
        self.changes = Some(changes);
        self
    }

    /// What a handler of `app` is set up with now; the error names what is missing, and the mend.
    pub fn settings(&self, app: &str, handler: &Handler) -> Result<Arc<Settings>, String> {
        let mut settings = Settings::plain(handler.config.clone());
        let changed = self.changes.as_ref().map(|changes| changes.of(app, handler));
        if let Some(changed) = changed.filter(|changed| !changed.is_empty()) {
            settings.config.extend(changed);
            settings.is_changed = true;
        }
        for name in &handler.secrets {
            let file = self.folder.join(app).join(name);
            let value = read(&file).map_err(|problem| {
                let file = file.display();
                format!("secret \"{name}\" of app \"{app}\": {file}: {problem}; write it there")
            })?;
            settings.earlier.extend(self.earlier(file, &value));
            settings.secrets.insert(name.clone(), value);
        }
        Ok(Arc::new(settings))
    }

    fn earlier(&self, file: PathBuf, value: &str) -> Option<String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let [last, earlier] = seen.entry(file).or_default();
        if last.as_deref() != Some(value) {
            *earlier = last.replace(value.to_owned());
        }
        earlier.clone()
    }
}

/// One line break at the end is the editor's, not the secret's.
fn read(file: &std::path::Path) -> Result<String, String> {
    let mut text = String::new();
    let mut opened = File::open(file).map_err(|error| error.to_string())?;
    let mut limited = (&mut opened).take(SECRET_BYTES_MAX + 1);
    limited.read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err(format!("more than {SECRET_BYTES_MAX} bytes"));
    }
    if text.contains('\0') {
        return Err("it has a NUL in it".to_owned());
    }
    let end = text.strip_suffix('\n').map_or(text.len(), str::len);
    text.truncate(end);
    match text.is_empty() {
        true => Err("it is empty".to_owned()),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests;
