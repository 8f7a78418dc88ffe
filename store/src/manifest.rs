//! Manifests: which segments make up a partition.
//!
//! Each is a whole snapshot under a rising number, created only if absent. The highest number is
//! the truth; a few older ones stay. Objects that no manifest lists are leftovers of a crash. What
//! is done where the highest does not read: [`mend`].

mod mend;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::objects::{Created, Objects};
use crate::segment::{SegmentMeta, hex, unhex};
use crate::spec::TableSpec;

pub use mend::{Remade, Unread, remake, set_aside};

/// Manifests of a partition that are kept.
const KEPT: usize = 3;
/// Digits of a number in a name.
const NUMBER_DIGITS: usize = 16;

/// One manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format of this document and of the segments.
    pub format: u32,
    /// Number, rising by one.
    pub number: u64,
    /// Who wrote it: a store, in hexadecimal, and the first number of its opening.
    #[serde(default)]
    pub writer: String,
    /// The table as it was.
    pub spec: TableSpec,
    /// Encoded partition columns, hexadecimal.
    pub partition: String,
    /// Segments, oldest first.
    pub segments: Vec<SegmentMeta>,
    /// The last entry of the deletes that are in no segment any more; whatever entries up to it
    /// changed is in the segments, or gone.
    #[serde(default)]
    pub forgotten_seq: u64,
}

/// Current [`Manifest::format`].
pub const FORMAT: u32 = 1;

impl Manifest {
    /// The encoded partition columns.
    pub fn partition_key(&self) -> Result<Vec<u8>> {
        unhex(&self.partition).ok_or_else(|| {
            Error::corrupt(format!("manifest of {:?}", self.spec.name), "partition is not hex")
        })
    }

    async fn remove_leftovers(&self, objects: &Objects, folder: &str) -> Result<()> {
        for name in objects.list(&format!("{folder}/s")).await? {
            if !self.lists(&name) {
                objects.remove(&name).await?;
            }
        }
        Ok(())
    }

    fn lists(&self, segment: &str) -> bool {
        self.segments.iter().any(|s| s.name == segment)
    }

    /// Writes the manifest under its number, or the first free one after it. A number is taken
    /// where an earlier attempt succeeded and its answer was lost: then this one follows it, being
    /// whole like any. A number that another writer took ends it.
    pub async fn commit(&mut self, objects: &Objects) -> Result<()> {
        let folder = folder(&self.spec.name, &self.partition_key()?);
        loop {
            let name = format!("{folder}/m/{:016x}", self.number);
            let body = serde_json::to_vec_pretty(self).expect("a manifest is plain data");
            let mut bytes = format!("{:08x}\n", crc32c::crc32c(&body)).into_bytes();
            bytes.extend(body);
            if objects.create(&name, bytes.into()).await? == Created::New {
                return self.is_newest(objects, &folder, &name).await;
            }
            let theirs = load(objects, &name).await?.writer;
            if theirs != self.writer {
                return Err(two_writers(name, &theirs));
            }
            self.number += 1;
        }
    }

    /// A number can be free because it was removed as too old: then there are newer ones, and this
    /// one counts for nothing.
    async fn is_newest(&self, objects: &Objects, folder: &str, name: &str) -> Result<()> {
        if !objects.is_shared() {
            return Ok(());
        }
        let names = objects.list(&format!("{folder}/m")).await?;
        match manifests(&names).next_back() {
            Some(newest) if *newest != name => {
                Err(two_writers(newest.clone(), &load(objects, newest).await?.writer))
            }
            _ => Ok(()),
        }
    }

    /// Removes older manifests, and segments that this one does not list if `and_segments`. What
    /// cannot be removed now stays for the next time, and does no harm.
    pub async fn tidy(&self, objects: &Objects, and_segments: bool) {
        let tidied = async {
            let folder = folder(&self.spec.name, &self.partition_key()?);
            let old = objects.list(&format!("{folder}/m")).await?;
            for name in manifests(&old).rev().skip(KEPT) {
                objects.remove(name).await?;
            }
            if and_segments { self.remove_leftovers(objects, &folder).await } else { Ok(()) }
        };
        if let Err(error) = tidied.await {
            tracing::debug!(table = self.spec.name, %error, "old objects stay for now");
        }
    }
}

/// The partitions of all tables as they were found.
#[derive(Debug, Default)]
pub struct Listed {
    pub found: Vec<Found>,
    pub unread: Vec<Unread>,
}

/// A partition as it was found.
#[derive(Debug)]
pub struct Found {
    /// Its newest manifest.
    pub manifest: Manifest,
    /// Segments that the manifest does not list.
    pub leftovers: Vec<String>,
    /// Segments that it lists and that are not there.
    pub missing: Vec<String>,
}

impl Found {
    fn of(manifest: Manifest, names: &[String]) -> Self {
        let leftovers = segments(names).filter(|name| !manifest.lists(name)).cloned().collect();
        let listed = manifest.segments.iter().map(|segment| &segment.name);
        let missing = listed.filter(|name| names.binary_search(name).is_err()).cloned().collect();
        Found { manifest, leftovers, missing }
    }
}

/// Each partition of each table.
///
/// # Errors
/// [`Error::Corrupt`] if a manifest is of a program that this one does not know.
pub async fn newest(objects: &Objects) -> Result<Listed> {
    let names = objects.list("t").await?;
    let partition = |name: &String| folder_of(name).and_then(folder_of).map(str::to_owned);
    let partitions = names.chunk_by(|a, b| partition(a) == partition(b));
    let (whole, begun): (Vec<_>, Vec<_>) =
        partitions.partition(|names| manifests(names).next().is_some());
    let newest = whole.iter().filter_map(|names| manifests(names).next_back()).cloned().collect();
    let read = objects.read_all(newest).await?;
    let mut listed = Listed::default();
    for (names, bytes) in whole.into_iter().zip(read) {
        let Some(newest) = manifests(names).next_back() else { continue };
        match parse(newest, bytes) {
            Ok(manifest) => listed.found.push(Found::of(manifest, names)),
            Err(Fault::Damage(reason)) => {
                listed.unread.push(Unread::of(objects, names, newest, reason).await?);
            }
            Err(fault) => return Err(fault.of(newest)),
        }
    }
    // A partition is none before its first manifest, under whose number its first segments are.
    for names in begun {
        if let Some(lost) = segments(names).find(|name| number_of(name) > Some(1)) {
            let folder = folder_of(lost).and_then(folder_of).unwrap_or_default();
            let reason = "there is none, and there are segments of later ones".into();
            listed.unread.push(Unread::of(objects, names, &format!("{folder}/m"), reason).await?);
        }
    }
    Ok(listed)
}

/// The manifests among the objects of a partition, ascending.
fn manifests(names: &[String]) -> impl DoubleEndedIterator<Item = &String> {
    let is_one = |name: &&String| {
        let file = name.rsplit_once("/m/").map(|(_, file)| file);
        file.is_some_and(|file| file.len() == NUMBER_DIGITS) && number_of(name).is_some()
    };
    names.iter().filter(is_one)
}

/// The segments among them.
fn segments(names: &[String]) -> impl Iterator<Item = &String> {
    names.iter().filter(|name| name.rsplit('/').nth(1) == Some("s"))
}

/// The number of a manifest, or of the one that a segment was made for.
fn number_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.rsplit('/').next()?.get(..NUMBER_DIGITS)?, 16).ok()
}

fn two_writers(name: String, theirs: &str) -> Error {
    let reason = format!("was made by another writer, {theirs:?}: two stores use one place");
    Error::corrupt(name, reason)
}

/// Object name prefix of a partition.
pub fn folder(table: &str, partition: &[u8]) -> String {
    let part = match partition.len() {
        0 => "all".into(),
        1..=40 => hex(partition),
        _ => format!("h{}", hex(&Sha256::digest(partition)[..20])),
    };
    format!("t/{table}/{part}")
}

async fn load(objects: &Objects, name: &str) -> Result<Manifest> {
    parse(name, objects.read(name).await?).map_err(|fault| fault.of(name))
}

/// What is wrong with a manifest.
enum Fault {
    /// Its bytes are not what was written.
    Damage(String),
    /// They are, and say nothing to this program.
    Unknown(String),
}

impl Fault {
    fn of(self, name: &str) -> Error {
        match self {
            Fault::Damage(reason) | Fault::Unknown(reason) => Error::corrupt(name, reason),
        }
    }
}

fn parse(name: &str, bytes: Option<Bytes>) -> Result<Manifest, Fault> {
    let bytes = bytes.ok_or_else(|| Fault::Unknown("is gone".into()))?;
    let (crc, body) = bytes.split_at_checked(9).unwrap_or((&[], &bytes));
    if crc != format!("{:08x}\n", crc32c::crc32c(body)).as_bytes() {
        return Err(Fault::Damage("checksum differs".into()));
    }
    let manifest: Manifest =
        serde_json::from_slice(body).map_err(|e| Fault::Unknown(e.to_string()))?;
    if manifest.format != FORMAT {
        let other = manifest.format;
        return Err(Fault::Unknown(format!("format {other} is not known")));
    }
    let place = manifest.partition_key().map(|key| folder(&manifest.spec.name, &key));
    let place = place.map(|folder| format!("{folder}/m/{:016x}", manifest.number));
    match place {
        Ok(place) if place == name => Ok(manifest),
        Ok(place) => Err(Fault::Damage(format!("it is another one, {place}"))),
        Err(error) => Err(Fault::Unknown(error.to_string())),
    }
}

fn folder_of(name: &str) -> Option<&str> {
    name.rsplit_once('/').map(|(folder, _)| folder)
}
