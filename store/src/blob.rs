//! Blobs: bytes by their digest, kept as objects.

pub mod due;
pub mod kept;
mod new;
pub mod sums;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::EdgeStore;
use crate::config::{is_site_path, is_token};
use crate::error::{Error, Result};
use crate::segment::hex;
use crate::tree::Tree;
use kept::Kept;

pub use kept::BlobKeeper;
pub use new::NewBlob;

/// Bytes of one blob.
pub const BLOB_BYTES_MAX: u64 = 256 << 20;

/// Hexadecimal digits of a SHA-256.
const DIGEST_DIGITS: usize = 64;
/// Hexadecimal digits of what tells a private blob from others with the same bytes.
const NUMBER_DIGITS: usize = 16;

/// Name of a blob: the site that took it and the SHA-256 of its bytes,
/// `cloud.east.cell1/sha256-<64 hex digits>`. The name of a private one, which is given to nobody
/// else, goes on with who it belongs to and a number: `….<owner>.<16 hex digits>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobKey {
    site: String,
    /// What follows `sha256-`.
    name: String,
}

impl BlobKey {
    /// The key of these bytes, taken at `site`.
    pub fn of(site: &str, bytes: &[u8]) -> Self {
        BlobKey { site: site.into(), name: hex(&Sha256::digest(bytes)) }
    }

    /// A key of these bytes that there was never before.
    fn private(site: &str, owner: &str, bytes: &[u8]) -> Self {
        let BlobKey { site, name } = BlobKey::of(site, bytes);
        let number = crate::entropy();
        BlobKey { site, name: format!("{name}.{owner}.{number:0NUMBER_DIGITS$x}") }
    }

    /// The site that took the blob.
    pub fn site(&self) -> &str {
        &self.site
    }

    /// The SHA-256 in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.name[..DIGEST_DIGITS]
    }

    /// Who alone was given this key; `None` if whoever puts the same bytes is given the same.
    pub fn owner(&self) -> Option<&str> {
        self.name.split('.').nth(1)
    }

    /// The key without its site: what the blob is kept under.
    fn name(&self) -> &str {
        &self.name
    }

    /// True if the bytes are the blob's.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        hex(&Sha256::digest(bytes)) == self.digest()
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/sha256-{}", self.site, self.name)
    }
}

impl FromStr for BlobKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::BadRequest(format!("blob key {text:?} is not <site>/sha256-<hex>"));
        let (site, name) = text.split_once("/sha256-").ok_or_else(bad)?;
        match is_site_path(site) && is_name(name) {
            true => Ok(BlobKey { site: site.into(), name: name.into() }),
            false => Err(bad()),
        }
    }
}

/// True of `<64 hex>`, and of `<64 hex>.<owner>.<16 hex>`.
fn is_name(name: &str) -> bool {
    let is_hex = |text: &str, digits| {
        text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let parts: Vec<&str> = name.splitn(4, '.').collect();
    match parts[..] {
        [digest] => is_hex(digest, DIGEST_DIGITS),
        [digest, owner, number] => {
            is_hex(digest, DIGEST_DIGITS) && is_token(owner) && is_hex(number, NUMBER_DIGITS)
        }
        _ => false,
    }
}

impl TryFrom<String> for BlobKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<BlobKey> for String {
    fn from(key: BlobKey) -> String {
        key.to_string()
    }
}

/// Refuses blobs beyond the limit.
pub fn check_size(key: &BlobKey, bytes: u64) -> Result<()> {
    match bytes > BLOB_BYTES_MAX {
        true => Err(Error::TooLarge { what: format!("blob {key}"), bytes, max: BLOB_BYTES_MAX }),
        false => Ok(()),
    }
}

/// What [`EdgeStore::remove_blob`] removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Removed {
    /// The blob, at the site that took it, and the copy here.
    Blob,
    /// The copy here alone: the site that took the blob is neither this one nor below it.
    Copy,
}

impl EdgeStore {
    /// Stores bytes durably and returns their key.
    pub async fn put_blob(&self, bytes: Bytes) -> Result<BlobKey> {
        let key = BlobKey::of(self.site(), &bytes);
        self.inner.engine.blobs.put(&key, bytes).await?;
        Ok(key)
    }

    /// Stores bytes durably under a key that nobody else is given, also not for the same bytes. So
    /// whoever `owner` stands for may have them removed ([`EdgeStore::remove_blobs_later`]) and
    /// takes nothing from others. An owner is 1 to 32 of `a-z`, `0-9` and `-`.
    pub async fn put_private_blob(&self, owner: &str, bytes: Bytes) -> Result<BlobKey> {
        if !is_token(owner) {
            return Err(Error::BadRequest(format!("{owner:?} is no owner of a blob")));
        }
        let key = BlobKey::private(self.site(), owner, &bytes);
        self.inner.engine.blobs.put(&key, bytes).await?;
        Ok(key)
    }

    /// The blob with that key, from here or from the site that took it; verified. `None` if
    /// that site does not have it.
    pub async fn get_blob(&self, key: &BlobKey) -> Result<Option<Bytes>> {
        if let Some(bytes) = self.inner.engine.blobs.load(key).await? {
            return Ok(Some(bytes));
        }
        match self.way_to(key)? {
            Some(tree) => tree.fetch_blob(key).await,
            None => Ok(None),
        }
    }

    /// How many bytes the blob has, which is brought here first. `None` if the site that took it
    /// does not have it.
    pub async fn blob_len(&self, key: &BlobKey) -> Result<Option<u64>> {
        let blobs = &self.inner.engine.blobs;
        if let Some(len) = blobs.len(key).await? {
            return Ok(Some(len));
        }
        match self.way_to(key)? {
            Some(tree) if tree.bring_blob(key).await? => blobs.len(key).await,
            _ => Ok(None),
        }
    }

    /// Where to ask for a blob that is not here; nobody, if it was to be here.
    fn way_to(&self, key: &BlobKey) -> Result<Option<&Arc<Tree>>> {
        match self.inner.tree.get() {
            _ if key.site() == self.site() => Ok(None),
            Some(tree) => Ok(Some(tree)),
            None => Err(Error::Unreachable {
                what: format!("blob {key}"),
                reason: "this site is not in the tree".into(),
            }),
        }
    }

    /// True if the blob is on this site's disk.
    pub async fn has_blob(&self, key: &BlobKey) -> Result<bool> {
        Ok(self.inner.engine.blobs.len(key).await?.is_some())
    }

    /// Part of a blob, clipped to its end; verified. It is brought here whole first, and the first
    /// range of a large one after a start reads all of it, once.
    pub async fn get_blob_range(
        &self,
        key: &BlobKey,
        start: u64,
        end: u64,
    ) -> Result<Option<Bytes>> {
        if self.blob_len(key).await?.is_none() {
            return Ok(None);
        }
        self.inner.engine.blobs.load_range(key, start, end).await.map(Some)
    }

    /// Removes a blob whoever put its bytes at the site that took it, durably; one that is gone
    /// already counts as removed. A put of the same bytes that is acknowledged meanwhile counts as
    /// later, so the bytes are there. Copies at sites that are not on the way stay until they are
    /// removed there. Rows that name it are left as they are.
    ///
    /// Removals go down the tree and never up: of a blob that was taken neither here nor below,
    /// the copy here goes, which the answer says.
    ///
    /// # Errors
    /// [`Error::BadRequest`] if the program needs the blob, such as the code of an app;
    /// [`Error::Unreachable`] or [`Error::Deadline`] if the site that took it does not answer;
    /// [`Error::Unknown`] if a bucket did not say what it did. Asking again is safe after each.
    pub async fn remove_blob(&self, key: &BlobKey) -> Result<Removed> {
        match self.inner.tree.get() {
            Some(tree) => tree.remove_blob(key).await,
            None => {
                let engine = &self.inner.engine;
                let (kept, removed) = match engine.config.was_called(key.site()) {
                    true => (Kept::Own, Removed::Blob),
                    false => (Kept::Copy, Removed::Copy),
                };
                engine.blobs.remove(key, kept).await.map(|()| removed)
            }
        }
    }

    /// Asks `keeper` before any blob is removed here. Once.
    pub fn guard_blobs(&self, keeper: Arc<dyn BlobKeeper>) -> Result<()> {
        match self.inner.engine.blobs.guard(keeper) {
            true => Ok(()),
            false => Err(Error::BadRequest("the store's blobs are guarded already".into())),
        }
    }
}

#[cfg(test)]
mod tests;
