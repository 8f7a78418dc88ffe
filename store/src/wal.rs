//! The write-ahead log: group commit on a thread of its own, and recovery.
//!
//! Callers hand over encoded entries in order and wait until the durable position has passed
//! theirs. The thread takes all that has gathered, writes it as one group, syncs once, and tells
//! everyone. After a failed write or sync nothing more is written: what is on the disk is then
//! unknown, and only opening the log again can tell.

pub mod disk;
mod format;

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::error::{Error, Result};
use disk::{Disk, DiskFile};
use format::{End, Tip};

/// Bytes of one group; more waits for the next.
const GROUP_TARGET_BYTES: usize = 4 << 20;
/// Quiet time after which an empty group seals the last one, so that later damage to it can be
/// told from an unfinished write.
const SEAL_AFTER_MS: u64 = 20;

/// What to do with a log file whose middle is damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRot {
    /// Refuse to open, change nothing.
    #[default]
    Refuse,
    /// Set the file aside as `*.rotten`, keep every sound entry, report what was done.
    Salvage,
}

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Encoded entries, oldest first.
    pub entries: Vec<Vec<u8>>,
    /// Files in order.
    pub files: Vec<LogFile>,
    /// Bytes of unfinished writes that were cut off; nobody was told they were durable.
    pub torn_bytes: u64,
    /// Damaged files set aside as `*.rotten` (only with [`OnRot::Salvage`]).
    pub rotten: Vec<String>,
}

/// Position of the log: the last durable entry, or why there will be no more.
#[derive(Clone, Debug, Default)]
pub struct Durable {
    /// Every entry up to here survives a crash.
    pub seq: u64,
    /// Set once the log has failed.
    pub failed: Option<Arc<str>>,
}

/// A log open for appending.
pub struct Wal {
    tx: Sender<Command>,
    durable: watch::Receiver<Durable>,
    files: Arc<Mutex<VecDeque<LogFile>>>,
    disk: Arc<dyn Disk>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A file of the log and the first entry that it can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    number: u64,
    first_seq: u64,
}

enum Command {
    Append { seq: u64, entries: Vec<Arc<[u8]>> },
    Rotate { first_seq: u64, snapshot: Arc<[u8]> },
    Close,
}

impl Wal {
    /// Reads every file on the disk, mending a torn tail. Does not start writing yet, because the
    /// first entry of a new file is a snapshot of what recovery yields.
    pub fn recover(disk: &dyn Disk, on_rot: OnRot) -> Result<Recovered> {
        let mut recovered = Recovered::default();
        let numbers = file_numbers(disk)?;
        for (i, number) in numbers.iter().enumerate() {
            let is_last = i + 1 == numbers.len();
            recover_file(disk, *number, is_last, on_rot, &mut recovered)?;
        }
        Ok(recovered)
    }

    /// Starts a new file with `snapshot` as its first entry, numbered `first_seq`, and the thread
    /// that writes it. Returns once the snapshot is durable.
    pub fn start(
        disk: Arc<dyn Disk>,
        recovered: &Recovered,
        first_seq: u64,
        snapshot: Arc<[u8]>,
    ) -> Result<Self> {
        let mut files = VecDeque::from(recovered.files.clone());
        let number = file_numbers(&*disk)?.last().map_or(1, |n| n + 1);
        let (file, tip) = begin_file(&*disk, number, first_seq, &[&snapshot])
            .map_err(|e| Error::io(format!("log file {}", file_name(number)), e))?;
        files.push_back(LogFile { number, first_seq });
        let files = Arc::new(Mutex::new(files));
        let writer = Writer { disk: disk.clone(), file, tip, number, files: files.clone() };
        let (tx, rx) = channel();
        let (durable_tx, durable) = watch::channel(Durable { seq: first_seq, failed: None });
        let thread = std::thread::Builder::new()
            .name("store-wal".into())
            .spawn(move || writer.run(&rx, &durable_tx))
            .map_err(|e| Error::io("log thread", e))?;
        Ok(Wal { tx, durable, files, disk, thread: Mutex::new(Some(thread)) })
    }

    /// Queues entries that become durable together; `seq` is the number of the last. Callers
    /// bound how much is under way and keep the numbers rising.
    pub fn append(&self, seq: u64, entries: Vec<Arc<[u8]>>) {
        // A closed queue means the thread is gone; waiters learn that from the watch.
        let _ = self.tx.send(Command::Append { seq, entries });
    }

    /// Queues a change to a new file, whose first entry is `snapshot`, numbered `first_seq`.
    pub fn rotate(&self, first_seq: u64, snapshot: Arc<[u8]>) {
        let _ = self.tx.send(Command::Rotate { first_seq, snapshot });
    }

    /// Waits until the entry is durable.
    pub async fn wait(&self, seq: u64) -> Result<()> {
        let mut durable = self.durable.clone();
        match durable.wait_for(|d| d.seq >= seq || d.failed.is_some()).await {
            Ok(d) if d.seq >= seq => Ok(()),
            Ok(d) => Err(Error::Stopped(d.failed.as_deref().unwrap_or("log failed").into())),
            Err(_) => Err(Error::Stopped("log is closed".into())),
        }
    }

    /// The durable position, to watch.
    pub fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.clone()
    }

    /// True if [`Wal::remove_through`] would remove a file.
    pub fn can_remove_through(&self, seq: u64) -> bool {
        removable(&lock(&self.files), seq).is_some()
    }

    /// Removes the files that hold only entries up to `seq`; never the newest file.
    pub fn remove_through(&self, seq: u64) -> Result<()> {
        loop {
            let Some(number) = removable(&lock(&self.files), seq) else { return Ok(()) };
            let name = file_name(number);
            match self.disk.remove(&name) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(format!("log file {name}"), e));
                }
                _ => lock(&self.files).pop_front(),
            };
        }
    }

    /// The first entry that the files still hold.
    pub fn first_seq(&self) -> u64 {
        lock(&self.files).front().map_or(0, |file| file.first_seq)
    }

    /// The files in order that can hold entries after `seq`.
    pub fn files_after(&self, seq: u64) -> Vec<LogFile> {
        let files = lock(&self.files);
        let start = files.iter().rposition(|f| f.first_seq <= seq + 1).unwrap_or(0);
        files.iter().skip(start).cloned().collect()
    }

    /// Encoded entries of a file; the last ones may not be durable yet.
    pub fn read_file(&self, file: &LogFile) -> Result<Vec<Vec<u8>>> {
        let name = file_name(file.number);
        let bytes = self.disk.read(&name).map_err(|e| Error::io(format!("log {name}"), e))?;
        let parsed = format::parse(&bytes);
        match parsed.end {
            End::Rotten => Err(rotten(&name, parsed.sound_bytes)),
            End::Whole | End::Torn => Ok(parsed.entries),
        }
    }

    /// Writes what is queued, seals the file and ends the thread.
    pub fn close(&self) {
        let _ = self.tx.send(Command::Close);
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("log thread panicked");
        }
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.close();
    }
}

/// The thread's side.
struct Writer {
    disk: Arc<dyn Disk>,
    file: Box<dyn DiskFile>,
    tip: Tip,
    number: u64,
    files: Arc<Mutex<VecDeque<LogFile>>>,
}

impl Writer {
    fn run(mut self, rx: &Receiver<Command>, durable: &watch::Sender<Durable>) {
        let mut sealed = true;
        loop {
            let first = match rx.recv_timeout(Duration::from_millis(SEAL_AFTER_MS)) {
                Ok(command) => command,
                Err(RecvTimeoutError::Timeout) if sealed => match rx.recv() {
                    Ok(command) => command,
                    Err(_) => return,
                },
                Err(RecvTimeoutError::Timeout) => {
                    sealed = true;
                    if let Err(e) = self.seal() {
                        return fail(durable, &e);
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            sealed = false;
            match self.step(first, rx, durable) {
                Ok(true) => {}
                Ok(false) => return,
                Err(e) => return fail(durable, &e),
            }
        }
    }

    /// Handles one command and the appends behind it. False ends the thread.
    fn step(
        &mut self,
        first: Command,
        rx: &Receiver<Command>,
        durable: &watch::Sender<Durable>,
    ) -> std::io::Result<bool> {
        let mut next = Some(first);
        let mut entries: Vec<Arc<[u8]>> = Vec::new();
        let (mut last_seq, mut bytes) = (0, 0);
        while let Some(Command::Append { seq, entries: more }) = next {
            last_seq = seq;
            bytes += more.iter().map(|e| e.len()).sum::<usize>();
            entries.extend(more);
            next = if bytes < GROUP_TARGET_BYTES { rx.try_recv().ok() } else { None };
        }
        if !entries.is_empty() {
            let group = format::group(&mut self.tip, entries.iter().map(|e| &**e));
            self.file.append(&group)?;
            self.file.sync()?;
            durable.send_modify(|d| d.seq = last_seq);
        }
        match next {
            Some(Command::Rotate { first_seq, snapshot }) => {
                self.seal()?;
                self.number += 1;
                (self.file, self.tip) =
                    begin_file(&*self.disk, self.number, first_seq, &[&snapshot])?;
                lock(&self.files).push_back(LogFile { number: self.number, first_seq });
                durable.send_modify(|d| d.seq = first_seq);
                Ok(true)
            }
            Some(Command::Close) => {
                self.seal()?;
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    fn seal(&mut self) -> std::io::Result<()> {
        let group = format::group(&mut self.tip, std::iter::empty());
        self.file.append(&group)?;
        self.file.sync()
    }
}

fn begin_file(
    disk: &dyn Disk,
    number: u64,
    first_seq: u64,
    entries: &[&[u8]],
) -> std::io::Result<(Box<dyn DiskFile>, Tip)> {
    let (mut bytes, mut tip) = format::file_header(number, first_seq, crate::entropy());
    let mut file = disk.create(&file_name(number))?;
    bytes.extend(format::group(&mut tip, entries.iter().copied()));
    file.append(&bytes)?;
    file.sync()?;
    Ok((file, tip))
}

fn fail(durable: &watch::Sender<Durable>, error: &std::io::Error) {
    tracing::error!(%error, "log cannot be written, no further writes are taken");
    durable.send_modify(|d| d.failed = Some(error.to_string().into()));
}

fn recover_file(
    disk: &dyn Disk,
    number: u64,
    is_last: bool,
    on_rot: OnRot,
    recovered: &mut Recovered,
) -> Result<()> {
    let name = file_name(number);
    let bytes = disk.read(&name).map_err(|e| Error::io(format!("log file {name}"), e))?;
    let parsed = format::parse(&bytes);
    let first_seq = parsed.first_seq;
    match parsed.end {
        // The crash came while the file was being begun: nothing was acknowledged in it.
        End::Whole | End::Torn if parsed.sound_bytes == 0 && is_last => {
            return disk.remove(&name).map_err(|e| Error::io(format!("log file {name}"), e));
        }
        End::Whole => recovered.entries.extend(parsed.entries),
        // A file is begun only when the one before is whole, so only the last can be torn.
        End::Torn if is_last => {
            let torn_bytes = (bytes.len() - parsed.sound_bytes) as u64;
            tracing::warn!(file = name, torn_bytes, "log ends in an unfinished write, cut off");
            recovered.entries.extend(parsed.entries);
            recovered.torn_bytes += torn_bytes;
            disk.truncate(&name, parsed.sound_bytes as u64)
                .map_err(|e| Error::io(format!("log file {name}"), e))?;
        }
        End::Torn | End::Rotten if on_rot == OnRot::Refuse => {
            return Err(rotten(&name, parsed.sound_bytes));
        }
        End::Torn | End::Rotten => {
            tracing::error!(file = name, at = parsed.sound_bytes, "log is damaged, set aside");
            let entries = set_aside(disk, number, first_seq, &bytes)
                .map_err(|e| Error::io(format!("log file {name}"), e))?;
            recovered.rotten.push(name);
            if entries.is_empty() {
                return Ok(());
            }
            recovered.entries.extend(entries);
        }
    }
    recovered.files.push(LogFile { number, first_seq });
    Ok(())
}

/// Renames a damaged file and writes its sound entries to a new one in its place.
fn set_aside(
    disk: &dyn Disk,
    number: u64,
    first_seq: u64,
    bytes: &[u8],
) -> std::io::Result<Vec<Vec<u8>>> {
    let entries = format::salvage(bytes);
    let name = file_name(number);
    disk.rename(&name, &format!("{name}.rotten"))?;
    if !entries.is_empty() {
        let slices: Vec<&[u8]> = entries.iter().map(|e| &**e).collect();
        begin_file(disk, number, first_seq, &slices)?;
    }
    Ok(entries)
}

fn rotten(name: &str, at: usize) -> Error {
    Error::corrupt(format!("log file {name}"), format!("damaged at byte {at}"))
}

fn removable(files: &VecDeque<LogFile>, seq: u64) -> Option<u64> {
    let next = files.get(1)?;
    (next.first_seq <= seq + 1).then(|| files[0].number)
}

fn file_numbers(disk: &dyn Disk) -> Result<Vec<u64>> {
    let names = disk.list().map_err(|e| Error::io("log folder", e))?;
    let mut numbers: Vec<u64> = names
        .iter()
        .filter_map(|n| u64::from_str_radix(n.strip_suffix(".wal")?, 16).ok())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn file_name(number: u64) -> String {
    format!("{number:016x}.wal")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
pub mod tests;
