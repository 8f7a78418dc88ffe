//! Partitions whose newest manifest does not read.
//!
//! The one before it is used where the log has whatever changed since: then nothing is lost. Else
//! the store does not open, because nobody knows what is, until somebody has a manifest made of the
//! segments that are there (`docs/decisions/0153-a-manifest-is-made-again-of-what-is-there.md`).

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{FORMAT, Fault, Found, Manifest, folder, folder_of, manifests, number_of, parse};
use crate::error::{Error, Result};
use crate::objects::{Created, Objects};
use crate::schema::Schema;
use crate::segment::{self, SegmentMeta, hex, unhex};

/// Where a partition keeps what was taken out of it.
const SET_ASIDE: &str = "set-aside";

/// A partition whose newest manifest does not read.
#[derive(Debug)]
pub struct Unread {
    /// That manifest, or the folder of manifests if there is none.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
    /// The newest one that reads, if any does.
    pub before: Option<Manifest>,
    /// Nothing of the partition has a higher number.
    number: u64,
    /// Its segments that are there.
    segments: Vec<String>,
}

/// A manifest that was made of the segments that were there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remade {
    /// The one that did not read.
    pub manifest: String,
    /// What was wrong with it.
    pub reason: String,
    /// Segments that the new one lists, and their rows.
    pub segments: usize,
    /// See `segments`.
    pub rows: u64,
    /// Segments that the one before it lists and that are not there: they were merged into others,
    /// or else they are lost.
    pub gone: Vec<String>,
    /// Segments that do not read and that only the damaged one listed: where they are now.
    pub set_aside: Vec<String>,
}

impl Unread {
    pub(super) async fn of(
        objects: &Objects,
        names: &[String],
        name: &str,
        reason: String,
    ) -> Result<Self> {
        let segments: Vec<String> = super::segments(names).cloned().collect();
        let numbers = segments.iter().chain([&name.to_owned()]).filter_map(|n| number_of(n)).max();
        let mut unread = Unread {
            name: name.to_owned(),
            reason,
            before: None,
            number: numbers.unwrap_or(0),
            segments,
        };
        for older in manifests(names).rev().filter(|older| *older != name) {
            match parse(older, objects.read(older).await?) {
                Ok(manifest) => {
                    unread.before = Some(manifest);
                    break;
                }
                Err(Fault::Damage(_)) => {}
                Err(fault) => return Err(fault.of(older)),
            }
        }
        Ok(unread)
    }

    /// The folder of the partition.
    fn folder(&self) -> &str {
        self.name.rsplit_once("/m").map_or(self.name.as_str(), |(folder, _)| folder)
    }

    /// The table.
    pub fn table(&self) -> &str {
        folder_of(self.folder()).and_then(|folder| folder.rsplit('/').next()).unwrap_or_default()
    }

    /// Why the store does not open.
    pub fn error(&self) -> Error {
        let reason = format!(
            "{}; put a sound copy in its place, or `edgescale store salvage` makes a manifest of \
             the segments that are there",
            self.reason
        );
        Error::corrupt(&self.name, reason)
    }

    /// Uses the manifest before, if a log that begins with entry `log_from` has whatever changed
    /// since: it is written anew behind the damaged one, so that this is so only once.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it has not.
    pub async fn fall_back(
        self,
        objects: &Objects,
        log_from: Option<u64>,
        writer: String,
    ) -> Result<Found> {
        let Some(before) = self.before.as_ref().filter(|m| self.is_followed(m, log_from)) else {
            return Err(self.error());
        };
        let (name, reason) = (&self.name, &self.reason);
        tracing::error!(name, reason, "a manifest does not read; the one before and the log do");
        let mut manifest = Manifest { number: self.number + 1, writer, ..before.clone() };
        manifest.commit(objects).await?;
        // What else is there goes once the log has been flushed behind it.
        Ok(Found { manifest, leftovers: Vec::new(), missing: Vec::new() })
    }

    /// True if what a manifest lists is there, and the log has every entry behind.
    fn is_followed(&self, before: &Manifest, log_from: Option<u64>) -> bool {
        let entries = before.segments.iter().map(|segment| segment.max_seq);
        let last = entries.fold(before.forgotten_seq, u64::max);
        let is_there = |segment: &SegmentMeta| self.segments.contains(&segment.name);
        log_from.is_some_and(|from| from <= last.saturating_add(1))
            && before.segments.iter().all(is_there)
    }

    /// The encoded partition columns, as far as names and the manifest before tell.
    fn partition(&self) -> Result<Option<Vec<u8>>> {
        if let Some(before) = &self.before {
            return before.partition_key().map(Some);
        }
        Ok(match self.folder().rsplit('/').next() {
            Some("all") => Some(Vec::new()),
            Some(part) => unhex(part),
            None => None,
        })
    }
}

/// Makes a manifest that lists every segment that is there. A row that is in several of them, or
/// in the log as well, is the same as before: its state is the merge of all.
pub async fn remake(
    objects: &Objects,
    unread: Unread,
    schema: &Arc<Schema>,
    writer: String,
) -> Result<Remade> {
    let known = unread.before.as_ref().map_or(&[][..], |before| before.segments.as_slice());
    let mut remade = Remade {
        manifest: unread.name.clone(),
        reason: unread.reason.clone(),
        gone: known.iter().map(|segment| segment.name.clone()).collect(),
        ..Remade::default()
    };
    remade.gone.retain(|name| !unread.segments.contains(name));
    let mut listed: Vec<SegmentMeta> = Vec::new();
    for name in &unread.segments {
        // What does not read of these is named to whoever reads it, as ever.
        if let Some(known) = known.iter().find(|segment| segment.name == *name) {
            listed.push(known.clone());
            continue;
        }
        match read(objects, name, schema).await {
            Ok(segment) => listed.push(segment),
            Err(error @ Error::Corrupt { .. }) => {
                tracing::error!(%error, "a segment is set aside");
                remade.set_aside.extend(set_aside(objects, name).await?);
            }
            Err(error) => return Err(error),
        }
    }
    let partition = match (unread.partition()?, listed.first().map(|first| unhex(&first.min_key))) {
        (Some(partition), _) => partition,
        (None, Some(Some(key))) => schema.partition_of_key(&key)?,
        (None, _) => {
            let reason = "neither a name nor a segment says which partition it is of";
            return Err(Error::corrupt(&unread.name, reason));
        }
    };
    if folder(&schema.name, &partition) != unread.folder() {
        return Err(Error::corrupt(&unread.name, "its segments are of another partition"));
    }
    let mut manifest = Manifest {
        format: FORMAT,
        number: unread.number + 1,
        writer,
        spec: (***schema).clone(),
        partition: hex(&partition),
        forgotten_seq: unread.before.as_ref().map_or(0, |before| before.forgotten_seq),
        segments: listed,
    };
    if unread.name.ends_with(|c: char| c.is_ascii_hexdigit()) {
        set_aside(objects, &unread.name).await?;
    }
    manifest.commit(objects).await?;
    remade.segments = manifest.segments.len();
    remade.rows = manifest.segments.iter().map(|segment| segment.rows).sum();
    Ok(remade)
}

/// What a manifest would say of a segment that none lists.
async fn read(objects: &Objects, name: &str, schema: &Arc<Schema>) -> Result<SegmentMeta> {
    let bytes = objects.read(name).await?.ok_or_else(|| Error::corrupt(name, "is gone"))?;
    let (of, schema) = (name.to_owned(), schema.clone());
    let reading = crate::runtime::aside(move || segment::listing(&of, bytes, &schema));
    reading.await.map_err(|e| Error::corrupt(name, e.to_string()))?
}

/// Copies an object of a partition where no manifest looks for it; returns its name there, `None`
/// if there is no such object.
pub async fn set_aside(objects: &Objects, name: &str) -> Result<Option<String>> {
    let Some(bytes) = objects.read(name).await? else { return Ok(None) };
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    let folder = format!("{}/{SET_ASIDE}", folder_of(folder).unwrap_or_default());
    for copy in 0.. {
        let free = match copy {
            0 => format!("{folder}/{file}"),
            copy => format!("{folder}/{file}.{copy}"),
        };
        if objects.create(&free, Bytes::clone(&bytes)).await? == Created::New {
            return Ok(Some(free));
        }
        if objects.read(&free).await?.as_ref() == Some(&bytes) {
            return Ok(Some(free));
        }
    }
    Ok(None)
}
