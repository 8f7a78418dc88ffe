//! Blobs: bytes by their digest, kept as objects.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::EdgeStore;
use crate::config::is_site_path;
use crate::error::{Error, Result};
use crate::objects::Objects;
use crate::segment::hex;

/// Bytes of one blob.
pub const BLOB_BYTES_MAX: u64 = 256 << 20;

/// Name of a blob: the site that took it and the SHA-256 of its bytes,
/// `cloud.east.cell1/sha256-<64 hex digits>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobKey {
    site: String,
    digest: String,
}

impl BlobKey {
    /// The key of these bytes, taken at `site`.
    pub fn of(site: &str, bytes: &[u8]) -> Self {
        BlobKey { site: site.into(), digest: hex(&Sha256::digest(bytes)) }
    }

    /// The site that took the blob.
    pub fn site(&self) -> &str {
        &self.site
    }

    /// The SHA-256 in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// True if the bytes are the blob's.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        hex(&Sha256::digest(bytes)) == self.digest
    }

    fn object(&self) -> String {
        format!("b/{}/{}", &self.digest[..2], self.digest)
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/sha256-{}", self.site, self.digest)
    }
}

impl FromStr for BlobKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::BadRequest(format!("blob key {text:?} is not <site>/sha256-<hex>"));
        let (site, digest) = text.split_once("/sha256-").ok_or_else(bad)?;
        let is_digest =
            digest.len() == 64 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match is_site_path(site) && is_digest {
            true => Ok(BlobKey { site: site.into(), digest: digest.into() }),
            false => Err(bad()),
        }
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

/// Stores a blob durably; storing it again changes nothing.
pub async fn store(objects: &Objects, key: &BlobKey, bytes: Bytes) -> Result<()> {
    check_size(key, bytes.len() as u64)?;
    objects.create(&key.object(), bytes).await.map(|_| ())
}

/// The whole blob if it is here. Bytes that do not match the key are reported, not returned.
pub async fn load(objects: &Objects, key: &BlobKey) -> Result<Option<Bytes>> {
    let Some(bytes) = objects.read(&key.object()).await? else { return Ok(None) };
    match key.matches(&bytes) {
        true => Ok(Some(bytes)),
        false => Err(Error::corrupt(key.to_string(), "digest differs")),
    }
}

/// Length of the blob if it is here.
pub async fn len(objects: &Objects, key: &BlobKey) -> Result<Option<u64>> {
    objects.len(&key.object()).await
}

/// Part of a blob that is here, clipped to its end; not verified, since the digest is of all.
pub async fn load_range(objects: &Objects, key: &BlobKey, start: u64, end: u64) -> Result<Bytes> {
    let len = len(objects, key).await?.unwrap_or(0);
    let (start, end) = (start.min(len), end.min(len));
    match start < end {
        true => objects.read_range(&key.object(), start, end).await,
        false => Ok(Bytes::new()),
    }
}

/// Refuses blobs beyond the limit.
pub fn check_size(key: &BlobKey, bytes: u64) -> Result<()> {
    match bytes > BLOB_BYTES_MAX {
        true => Err(Error::TooLarge { what: format!("blob {key}"), bytes, max: BLOB_BYTES_MAX }),
        false => Ok(()),
    }
}

impl EdgeStore {
    /// Stores bytes durably and returns their key.
    pub async fn put_blob(&self, bytes: Bytes) -> Result<BlobKey> {
        let key = BlobKey::of(self.site(), &bytes);
        store(&self.inner.engine.objects, &key, bytes).await?;
        Ok(key)
    }

    /// The blob with that key, from here or from the site that took it; verified. `None` if
    /// that site does not have it.
    pub async fn get_blob(&self, key: &BlobKey) -> Result<Option<Bytes>> {
        let engine = &self.inner.engine;
        if let Some(bytes) = load(&engine.objects, key).await? {
            return Ok(Some(bytes));
        }
        match self.inner.tree.get() {
            Some(tree) if key.site() != self.site() => tree.fetch_blob(key).await,
            None if key.site() != self.site() => Err(Error::Unreachable {
                what: format!("blob {key}"),
                reason: "this site is not in the tree".into(),
            }),
            _ => Ok(None),
        }
    }

    /// True if the blob is on this site's disk.
    pub async fn has_blob(&self, key: &BlobKey) -> Result<bool> {
        Ok(len(&self.inner.engine.objects, key).await?.is_some())
    }

    /// Part of a blob, clipped to its end; it is brought here whole first.
    pub async fn get_blob_range(
        &self,
        key: &BlobKey,
        start: u64,
        end: u64,
    ) -> Result<Option<Bytes>> {
        if !self.has_blob(key).await? && self.get_blob(key).await?.is_none() {
            return Ok(None);
        }
        load_range(&self.inner.engine.objects, key, start, end).await.map(Some)
    }
}

#[cfg(test)]
mod tests;
