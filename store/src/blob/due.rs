//! Private blobs that are removed later, so that who reads them now can go on. What is to be
//! removed is listed on disk: a restart forgets nothing, and what cannot be removed stays listed.
//!
//! A list is the object `r/<when>-<number>`, 16 hexadecimal digits each, `when` in milliseconds
//! since 1970. It has one key to a line.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::BlobKey;
use crate::EdgeStore;
use crate::error::{Error, Result};

const FOLDER: &str = "r";
/// For how long after its time a removal is tried: the site that took the blob may be gone for
/// good.
const TRIED_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// Lists that are gone through at a time.
const LISTS_MAX: usize = 10_000;

/// Before when no list is due, so that nobody looks for one; 0 as long as that is not known.
#[derive(Debug, Default)]
pub struct NextDue(AtomicU64);

impl NextDue {
    fn is_past(&self, now_ms: u64) -> bool {
        self.0.load(Ordering::Acquire) <= now_ms
    }

    /// None until more is listed: for who looks at all lists from now on.
    fn none(&self) {
        self.0.store(u64::MAX, Ordering::Release);
    }

    fn at(&self, due_ms: u64) {
        self.0.fetch_min(due_ms, Ordering::AcqRel);
    }
}

impl EdgeStore {
    /// Has private blobs removed where they were taken, and the copies on the way there, once
    /// `after` has passed and [`EdgeStore::remove_due_blobs`] is called; durable on return.
    ///
    /// # Errors
    /// [`Error::BadRequest`] if one of them is not private: others may have been given its key.
    pub async fn remove_blobs_later(&self, keys: &[BlobKey], after: Duration) -> Result<()> {
        if let Some(shared) = keys.iter().find(|key| key.owner().is_none()) {
            return Err(Error::BadRequest(format!("blob {shared} may be others' as well")));
        }
        if keys.is_empty() {
            return Ok(());
        }
        let engine = &self.inner.engine;
        let due_ms = engine.now_ms().saturating_add(after.as_millis() as u64);
        let name = format!("{FOLDER}/{due_ms:016x}-{:016x}", crate::entropy());
        let keys: String = keys.iter().map(|key| format!("{key}\n")).collect();
        engine.objects.create_synced(&name, keys.into()).await?;
        self.inner.next_due.at(due_ms);
        Ok(())
    }

    /// Removes the blobs whose time has come; to be called again and again. What cannot be removed
    /// now, because its site does not answer, is tried again by the next calls for a week.
    /// Costs nothing as long as nothing is due.
    pub async fn remove_due_blobs(&self) -> Result<()> {
        let now_ms = self.inner.engine.now_ms();
        if !self.inner.next_due.is_past(now_ms) {
            return Ok(());
        }
        self.inner.next_due.none();
        let next = self.remove_due_at(now_ms).await;
        self.inner.next_due.at(next.as_ref().map_or(0, |next| next.unwrap_or(u64::MAX)));
        next.map(drop)
    }

    /// When the first of the lists that are left is due.
    async fn remove_due_at(&self, now_ms: u64) -> Result<Option<u64>> {
        let engine = &self.inner.engine;
        let (mut away, mut next) = (HashSet::new(), None);
        for (number, list) in engine.objects.list(FOLDER).await?.into_iter().enumerate() {
            let Some(due_ms) = time_of(&list) else { continue };
            if due_ms > now_ms || number >= LISTS_MAX {
                return Ok(next.or(Some(due_ms)));
            }
            let is_done = self.remove_listed(&list, &mut away).await?;
            if is_done || now_ms - due_ms > TRIED_MS {
                engine.objects.erase(&list).await?;
            } else {
                next = next.or(Some(due_ms));
            }
        }
        Ok(next)
    }

    /// Removes what a list names, but for what sites took that are `away`; true if that is all.
    async fn remove_listed(&self, list: &str, away: &mut HashSet<String>) -> Result<bool> {
        let Some(bytes) = self.inner.engine.objects.read(list).await? else { return Ok(true) };
        let mut is_done = true;
        for key in String::from_utf8_lossy(&bytes).lines() {
            // What is no key was not written by this program.
            let Ok(key) = key.parse::<BlobKey>() else { continue };
            if away.contains(key.site()) {
                is_done = false;
            } else if let Err(error) = self.remove_private(&key).await {
                tracing::debug!(%key, %error, "blob stays for now");
                away.insert(key.site().to_owned());
                is_done = false;
            }
        }
        Ok(is_done)
    }

    /// Removes a private blob wherever in the tree it was taken.
    async fn remove_private(&self, key: &BlobKey) -> Result<()> {
        match self.inner.tree.get() {
            Some(tree) => tree.remove_private(key).await,
            None => self.remove_blob(key).await.map(drop),
        }
    }
}

fn time_of(list: &str) -> Option<u64> {
    let (_, name) = list.rsplit_once('/')?;
    u64::from_str_radix(name.split('-').next()?, 16).ok()
}
