//! Blobs that clients on the bus send in parts, one request after the other: `put-blob` with the
//! header `Es-Upload: ID OFFSET`, and `Es-Upload: ID OFFSET end` with the last part.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bus::{Refusal, RefusalKind, Response};
use bytes::Bytes;
use serde_json::json;
use store::{EdgeStore, NewBlob};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Answer;
use super::control::refusal_of_store;

/// Names the upload that a part belongs to, and its place there.
pub const UPLOAD_HEADER: &str = "Es-Upload";
/// Uploads under way at once; beyond it new ones are refused.
const UPLOADS_MAX: usize = 16;
/// How long one is kept that nobody goes on with.
const KEPT: Duration = Duration::from_secs(60);
/// Characters of an upload's name.
const ID_LEN_MAX: usize = 64;

/// The uploads under way at a node.
pub struct Uploads {
    held: Mutex<Held>,
    places: Arc<Semaphore>,
}

type Held = HashMap<String, Arc<tokio::sync::Mutex<Upload>>>;

struct Upload {
    /// None once it is whole.
    blob: Option<NewBlob>,
    touched: Instant,
    _place: OwnedSemaphorePermit,
}

impl Default for Uploads {
    fn default() -> Self {
        Uploads { held: Mutex::default(), places: Arc::new(Semaphore::new(UPLOADS_MAX)) }
    }
}

/// What the header says.
struct Part<'a> {
    id: &'a str,
    offset: u64,
    is_last: bool,
}

impl<'a> Part<'a> {
    fn read(header: &'a str) -> Option<Self> {
        let mut words = header.split(' ');
        let (id, offset) = (words.next()?, words.next()?.parse().ok()?);
        let is_last = match words.next() {
            None => false,
            Some("end") => true,
            Some(_) => return None,
        };
        let is_right = (1..=ID_LEN_MAX).contains(&id.len()) && words.next().is_none();
        is_right.then_some(Part { id, offset, is_last })
    }
}

impl Uploads {
    /// Takes the next part of a blob; answers with `bytes`, how many there are, and after the last
    /// part with the blob's `key`. A part that cannot be taken ends the upload.
    pub async fn take(self: &Arc<Self>, store: &EdgeStore, header: &str, bytes: Bytes) -> Answer {
        let Some(part) = Part::read(header) else {
            let text = format!("header {UPLOAD_HEADER}: say ID OFFSET, and end with the last part");
            return Err(Refusal::bad(text));
        };
        let upload = match part.offset {
            0 => {
                let upload = Arc::new(tokio::sync::Mutex::new(self.begin(store).await?));
                self.lock().insert(part.id.to_owned(), upload.clone());
                upload
            }
            _ => self.lock().get(part.id).cloned().ok_or_else(|| gone(part.id))?,
        };
        let added = upload.lock().await.add(&part, bytes).await;
        if part.is_last || added.is_err() {
            self.lock().remove(part.id);
        } else if part.offset == 0 {
            self.forget_later(part.id.to_owned());
        }
        added.map_err(|e| e.unwrap_or_else(|| gone(part.id)))
    }

    async fn begin(&self, store: &EdgeStore) -> Result<Upload, Refusal> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            let text = format!("{UPLOADS_MAX} blobs are being uploaded");
            let mut refusal = Refusal::new(RefusalKind::Overloaded, text);
            refusal.retry_after_ms = Some(1_000);
            refusal
        })?;
        let blob = store.begin_blob().await.map_err(|e| refusal_of_store(&e))?;
        Ok(Upload { blob: Some(blob), touched: Instant::now(), _place: place })
    }

    fn forget_later(self: &Arc<Self>, id: String) {
        let uploads = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(KEPT).await;
                let mut held = uploads.lock();
                // What is locked is being gone on with.
                let is_done = held.get(&id).is_none_or(|upload| {
                    upload.try_lock().is_ok_and(|upload| upload.touched.elapsed() >= KEPT)
                });
                if is_done {
                    held.remove(&id);
                    return;
                }
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upload {
    /// Adds a part, and stores the blob with the last one; no reason where it is whole already.
    async fn add(&mut self, part: &Part<'_>, bytes: Bytes) -> Result<Response, Option<Refusal>> {
        let mut blob = self.blob.take().ok_or(None)?;
        if blob.len() != part.offset {
            let (id, len) = (part.id, blob.len());
            let text = format!("upload {id} goes on at byte {len}; begin it again");
            return Err(Some(Refusal::bad(text)));
        }
        let refused = |e: store::Error| Some(refusal_of_store(&e));
        blob.write(bytes).await.map_err(refused)?;
        if part.is_last {
            let key = blob.finish().await.map_err(refused)?;
            return Response::json(&json!({ "key": key })).map_err(Some);
        }
        let len = blob.len();
        self.blob = Some(blob);
        self.touched = Instant::now();
        Response::json(&json!({ "bytes": len })).map_err(Some)
    }
}

fn gone(id: &str) -> Refusal {
    let text = format!("upload {id} is not under way; begin it again");
    Refusal::new(RefusalKind::Unavailable, text)
}

#[cfg(test)]
mod tests;
