//! Blobs whose bytes come bit by bit: no more of one is in memory than comes at a time, but for the
//! one that is just going to a bucket.

use bytes::Bytes;

use super::sums::Summing;
use super::{BLOB_BYTES_MAX, BlobKey};
use crate::EdgeStore;
use crate::error::{Error, Result};
use crate::objects::Side;

/// Bytes on their way to becoming a blob; gone when it is dropped.
pub struct NewBlob {
    store: EdgeStore,
    side: Side,
    summing: Summing,
}

impl EdgeStore {
    /// Begins a blob, which this site takes.
    pub async fn begin_blob(&self) -> Result<NewBlob> {
        let side = self.inner.engine.objects.side().await?;
        Ok(NewBlob { store: self.clone(), side, summing: Summing::default() })
    }
}

impl NewBlob {
    /// Adds bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond the limit of a blob. After an error the blob is to be begun anew.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let len = self.len() + bytes.len() as u64;
        if len > BLOB_BYTES_MAX {
            let what = "the blob".into();
            return Err(Error::TooLarge { what, bytes: len, max: BLOB_BYTES_MAX });
        }
        self.side.write(bytes.clone()).await?;
        self.summing.add(&bytes);
        Ok(())
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.summing.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stores the blob durably and returns its key, the same as [`EdgeStore::put_blob`] gives.
    pub async fn finish(self) -> Result<BlobKey> {
        let (digest, sums) = self.summing.finish();
        let key = BlobKey { site: self.store.site().into(), name: digest };
        self.store.inner.engine.blobs.put_side(&key, self.side, sums).await?;
        Ok(key)
    }
}
