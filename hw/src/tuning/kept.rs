//! Sizes that were found, on disk: a line of hash, bucket and size for each.
//!
//! The file is named by the device and its driver. One that is damaged, or too long, is as good as
//! none. Several processes may keep what they found at once: none loses what the others wrote
//! before.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::device::DeviceInfo;
use crate::whole;

/// Most that is kept; then what is new is not.
const LINES_MAX: usize = 16 << 10;
const FILE_BYTES_MAX: usize = 1 << 20;

/// What was found for one device.
pub(crate) struct Kept {
    path: Option<PathBuf>,
    /// By hash and bucket.
    sizes: BTreeMap<(String, u32), usize>,
    is_changed: bool,
}

impl Kept {
    /// Reads what there is.
    pub(crate) fn open(dir: Option<PathBuf>, info: &DeviceInfo) -> Self {
        let name = whole::name(&[&info.name, &info.driver, "groups"]);
        let path = dir.map(|dir| dir.join(format!("{name}.groups")));
        let mut kept = Self { path, sizes: BTreeMap::new(), is_changed: false };
        kept.sizes = kept.read();
        kept
    }

    fn read(&self) -> BTreeMap<(String, u32), usize> {
        let content = self.path.as_deref().and_then(|path| whole::read(path, FILE_BYTES_MAX));
        let text = content.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        text.lines().filter_map(line).take(LINES_MAX).collect()
    }

    /// The buckets and sizes of a hash.
    pub(super) fn of(&self, hash: &str) -> Vec<(u32, usize)> {
        let own = self.sizes.iter().filter(|((known, _), _)| known == hash);
        own.map(|((_, bucket), size)| (*bucket, *size)).collect()
    }

    pub(super) fn add(&mut self, hash: &str, bucket: u32, size: usize) {
        if self.sizes.len() < LINES_MAX {
            self.sizes.insert((hash.to_string(), bucket), size);
            self.is_changed = true;
        }
    }

    /// Writes what was added since the last call.
    pub(super) fn store(&mut self) {
        if !std::mem::take(&mut self.is_changed) {
            return;
        }
        for (key, size) in self.read() {
            self.sizes.entry(key).or_insert(size);
        }
        let Some(path) = &self.path else { return };
        let lines =
            self.sizes.iter().map(|((hash, bucket), size)| format!("{hash} {bucket} {size}\n"));
        let text: String = lines.collect();
        if let Err(error) = whole::write(path, text.as_bytes()) {
            tracing::warn!(path = %path.display(), %error, "group sizes are not kept");
        }
    }
}

fn line(line: &str) -> Option<((String, u32), usize)> {
    let mut words = line.split(' ');
    let key = (words.next()?.to_string(), words.next()?.parse().ok()?);
    let size = words.next()?.parse().ok()?;
    words.next().is_none().then_some((key, size))
}
