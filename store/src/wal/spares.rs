//! Log files that are no longer needed, and how the next ones are made of them.
//!
//! Bytes that replace others are synced in half the time of bytes that make a file grow, are not
//! written twice, and find room on a disk that is full. A spare keeps the bytes that it had: they
//! are not sound in the file that is made of it, whose salt is another.

use std::io;

use super::disk::{Disk, DiskFile};
use super::format::{self, Tip};
use super::pages::{Run, padded};
use super::{LogFile, file_name};

/// Files that are kept; there are seldom more than one that is written and one that is flushed.
const SPARES_MAX: usize = 2;
/// Bytes of a file that is kept; one that was longer is removed.
pub const SPARE_BYTES_MAX: u64 = 64 << 20;

/// Names of the spares on a disk.
#[derive(Default)]
pub struct Spares(Vec<String>);

/// A file of the log with its first group.
pub struct Begun {
    pub file: Box<dyn DiskFile>,
    pub tip: Tip,
    /// The last groups that are synced; behind them there may be anything.
    pub run: Run,
    /// Groups that are synced.
    pub groups: u64,
}

impl Begun {
    /// The file as those find it who read the log.
    pub fn listed(&self, number: u64, first_seq: u64) -> LogFile {
        LogFile { number, first_seq, bytes: self.run.end(), groups: self.groups }
    }
}

impl Spares {
    /// The spares that are on a disk already. What is too much goes, if the disk lets it.
    pub fn on(disk: &dyn Disk) -> io::Result<Self> {
        let mut names = names(disk)?;
        names.drain(names.len().min(SPARES_MAX)..).for_each(|name| drop(disk.remove(&name)));
        Ok(Spares(names))
    }

    /// Lets go of the log file of that number and size: it becomes a spare if there is room for it.
    /// `meanwhile` is called before it can be used again.
    pub fn retire(
        &mut self,
        disk: &dyn Disk,
        number: u64,
        bytes: u64,
        meanwhile: impl FnOnce(),
    ) -> io::Result<()> {
        let (name, spare) = (file_name(number), spare_name(number));
        let is_kept = self.0.len() < SPARES_MAX && bytes <= SPARE_BYTES_MAX;
        let gone = if is_kept { disk.rename(&name, &spare) } else { disk.remove(&name) };
        let is_there = match gone {
            Ok(()) => is_kept,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        meanwhile();
        self.0.extend(is_there.then_some(spare));
        Ok(())
    }

    /// A spare to make a file of.
    pub fn take(&mut self) -> Option<String> {
        self.0.pop()
    }

    /// Removes all of them, also those that were taken and did not become a log file.
    pub fn remove_all(&mut self, disk: &dyn Disk) -> io::Result<()> {
        self.0.clear();
        names(disk)?.iter().try_for_each(|name| disk.remove(name))
    }
}

/// Makes the log file of that number, of a spare if there is one. It gets its name when its header
/// and first group are synced: so whatever a crash leaves, a log file has them.
pub fn begin(
    disk: &dyn Disk,
    spare: Option<String>,
    number: u64,
    first_seq: u64,
    entries: &[&[u8]],
) -> io::Result<Begun> {
    let (mut bytes, mut tip) = format::file_header(number, first_seq, crate::entropy());
    bytes.extend(format::group(&mut tip, entries.iter().copied()));
    let (name, mut file) = match spare {
        Some(name) => (name.clone(), disk.reuse(&name)?),
        None => (spare_name(number), disk.create(&spare_name(number))?),
    };
    let run = Run::behind(bytes.len() as u64);
    file.write(0, &padded(bytes))?;
    file.sync()?;
    disk.rename(&name, &file_name(number))?;
    Ok(Begun { file, tip, run, groups: 1 })
}

/// What the log file of that number is called before and after it is one.
pub fn spare_name(number: u64) -> String {
    format!("{number:016x}.spare")
}

fn names(disk: &dyn Disk) -> io::Result<Vec<String>> {
    let mut names = disk.list()?;
    names.retain(|name| name.ends_with(".spare"));
    names.sort();
    Ok(names)
}
