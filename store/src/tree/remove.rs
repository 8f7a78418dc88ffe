//! Removing blobs: down the tree to the site that took one, never up. But for private ones: whoever
//! may remove the rows that name one may remove it as well, so removals of these climb like those.

use bytes::Bytes;

use crate::blob::kept::Kept;
use crate::blob::{BlobKey, Removed};
use crate::error::{Error, Result};
use crate::link::LinkError;
use crate::record;

use super::Tree;
use super::ask::{AskUp, is_below, next_below};
use super::wire::{self, RemoveBlob, op};

impl Tree {
    /// Removes a blob where it was taken, if that is here or below, and the copy here.
    pub async fn remove_blob(&self, key: &BlobKey) -> Result<Removed> {
        self.remove(key, AskUp::No).await
    }

    /// Removes a private blob wherever it was taken, and the copies on the way there.
    pub async fn remove_private(&self, key: &BlobKey) -> Result<()> {
        self.remove(key, AskUp::Yes).await.map(drop)
    }

    async fn remove(&self, key: &BlobKey, up: AskUp) -> Result<Removed> {
        let now = self.link.moved(key.site());
        let (mut kept, mut removed) = (Kept::Copy, Removed::Copy);
        if let Some(now) = &now {
            (kept, removed) = self.remove_at(now, key).await?;
        }
        match self.remove_at(key.site(), key).await {
            Ok((_, Removed::Copy)) => {}
            Ok(found) => (kept, removed) = (kept.or(found.0), found.1),
            // The site is elsewhere now, and nobody has its place.
            Err(Error::Unreachable { .. }) if removed == Removed::Blob => {}
            Err(error) => return Err(error),
        }
        if removed == Removed::Copy && up == AskUp::Yes && !self.engine.is_root() {
            self.ask_parent_raw(op::REMOVE_BLOB, asking_for(key)).await?;
            removed = Removed::Blob;
        }
        self.engine.blobs.remove(key, kept).await?;
        Ok(removed)
    }

    /// The removal for the store above, which says that the blob was taken here or below, or for
    /// one below, which has a say about private blobs alone.
    pub async fn remove_for(&self, from: &str, key: &BlobKey) -> Result<()> {
        let here = &self.engine.config.site;
        let is_from_below = is_below(here, from);
        if is_from_below && key.owner().is_none() {
            return Err(Error::BadRequest(format!("{from} may not remove blob {key} at {here}")));
        }
        let up = if is_from_below { AskUp::Yes } else { AskUp::No };
        match self.remove(key, up).await? {
            Removed::Blob => Ok(()),
            Removed::Copy => Err(Error::Unreachable {
                what: format!("blob {key}"),
                reason: format!("{here} does not know the site that took it"),
            }),
        }
    }

    /// Has a site remove a blob of its own, by way of the child that leads there; what is to be
    /// removed here after that.
    async fn remove_at(&self, site: &str, key: &BlobKey) -> Result<(Kept, Removed)> {
        let config = &self.engine.config;
        if config.was_called(site) {
            return Ok((Kept::Own, Removed::Blob));
        }
        let Some(child) = next_below(&config.site, site) else {
            return Ok((Kept::Copy, Removed::Copy));
        };
        let asking = self.link.request(&child, op::REMOVE_BLOB, asking_for(key));
        match tokio::time::timeout(self.request_timeout(), asking).await {
            Ok(Err(LinkError::Timeout)) | Err(_) => {
                return Err(Error::Unknown(format!("removal of blob {key} by way of {child}")));
            }
            Ok(answer) => wire::open(answer.map_err(|e| Error::link(child, e))?)?,
        };
        Ok((Kept::Copy, Removed::Blob))
    }
}

fn asking_for(key: &BlobKey) -> Bytes {
    record::encode(&RemoveBlob { key: key.to_string() }).into()
}
