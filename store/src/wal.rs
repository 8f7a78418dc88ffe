//! The write-ahead log: group commit on a thread of its own, and recovery.
//!
//! Callers hand over encoded entries in order and wait until the durable position has passed
//! theirs. The thread takes all that has gathered, writes it as one group, syncs once, and tells
//! everyone. After a failed write or sync, what is on the disk behind the last good sync is
//! unknown. So the thread cuts the file back to there and writes the same again, until it can.

pub mod disk;
mod format;
mod waiting;

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::error::{Error, Result};
use disk::{Disk, DiskFile};
use format::{End, Tip};
use waiting::{Announcer, Waiting};

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

/// Position of the log: the last durable entry, and why there are no more for now.
#[derive(Clone, Debug, Default)]
pub struct Durable {
    /// Every entry up to here survives a crash.
    pub seq: u64,
    /// Set while the disk refuses to take the log.
    pub failed: Option<Arc<str>>,
}

/// A log open for appending.
pub struct Wal {
    tx: Sender<Command>,
    durable: watch::Receiver<Durable>,
    waiting: Arc<Waiting>,
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
    Seal,
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
        let (file, tip, synced) = begin_file(&*disk, number, first_seq, &[&snapshot])
            .map_err(|e| Error::io(format!("log file {}", file_name(number)), e))?;
        files.push_back(LogFile { number, first_seq });
        let files = Arc::new(Mutex::new(files));
        let writer = Writer {
            disk: disk.clone(),
            file,
            tip,
            number,
            synced,
            files: files.clone(),
            waiting: VecDeque::new(),
        };
        let (tx, rx) = channel();
        let (durable_tx, durable) = watch::channel(Durable { seq: first_seq, failed: None });
        let waiting = Arc::new(Waiting::new(first_seq));
        let announcer = Announcer { waiting: waiting.clone(), durable: durable_tx };
        let thread = std::thread::Builder::new()
            .name("store-wal".into())
            .spawn(move || writer.run(&rx, &announcer))
            .map_err(|e| Error::io("log thread", e))?;
        Ok(Wal { tx, durable, waiting, files, disk, thread: Mutex::new(Some(thread)) })
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
        std::future::poll_fn(|context| self.waiting.poll(seq, context)).await
    }

    /// Why the disk refuses the log for now, if it does.
    pub fn failed(&self) -> Option<Arc<str>> {
        self.waiting.failed()
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
    /// Bytes of the file that are synced.
    synced: u64,
    files: Arc<Mutex<VecDeque<LogFile>>>,
    /// Commands that came while the disk refused.
    waiting: VecDeque<Command>,
}

/// What one write and one sync carry out, and the command behind it.
struct Work {
    entries: Vec<Arc<[u8]>>,
    last_seq: u64,
    then: Option<Command>,
}

/// How the thread goes on.
#[derive(PartialEq, Eq)]
enum GoOn {
    Yes,
    Ends,
}

impl Writer {
    fn run(mut self, rx: &Receiver<Command>, told: &Announcer) {
        let mut sealed = true;
        while let Some(first) = self.next(rx, sealed) {
            sealed = matches!(first, Command::Seal);
            let mut work = self.gather(first, rx);
            while let Err(error) = self.carry_out(&mut work, told) {
                if self.pause(&error, rx, told) == GoOn::Ends {
                    return;
                }
            }
            if told.has_failed() {
                tracing::info!("log is written again");
                told.fail(None);
            }
            if matches!(work.then, Some(Command::Close)) {
                return;
            }
        }
    }

    /// The next command; a seal after some quiet.
    fn next(&mut self, rx: &Receiver<Command>, sealed: bool) -> Option<Command> {
        if let Some(command) = self.waiting.pop_front() {
            return Some(command);
        }
        if sealed {
            return rx.recv().ok();
        }
        match rx.recv_timeout(Duration::from_millis(SEAL_AFTER_MS)) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => Some(Command::Seal),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Adds the appends behind a command, as far as they fit one group.
    fn gather(&mut self, first: Command, rx: &Receiver<Command>) -> Work {
        let mut work = Work { entries: Vec::new(), last_seq: 0, then: None };
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(command) = next {
            let Command::Append { seq, entries } = command else {
                work.then = Some(command);
                break;
            };
            work.last_seq = seq;
            bytes += entries.iter().map(|e| e.len()).sum::<usize>();
            work.entries.extend(entries);
            next = match bytes < GROUP_TARGET_BYTES {
                true => self.waiting.pop_front().or_else(|| rx.try_recv().ok()),
                false => None,
            };
        }
        work
    }

    /// Writes and syncs. What is done is taken out of `work`, so that the rest can be tried again.
    fn carry_out(&mut self, work: &mut Work, told: &Announcer) -> std::io::Result<()> {
        if !work.entries.is_empty() {
            self.append_group(&work.entries)?;
            work.entries.clear();
            told.advance(work.last_seq);
        }
        match &work.then {
            Some(Command::Rotate { first_seq, snapshot }) => {
                self.end_file()?;
                let number = self.number + 1;
                let (file, tip, synced) =
                    begin_file(&*self.disk, number, *first_seq, &[&**snapshot])?;
                (self.file, self.tip, self.number, self.synced) = (file, tip, number, synced);
                lock(&self.files).push_back(LogFile { number, first_seq: *first_seq });
                told.advance(*first_seq);
            }
            Some(Command::Seal) => self.append_group(&[])?,
            Some(Command::Close) => self.end_file()?,
            Some(Command::Append { .. }) | None => {}
        }
        Ok(())
    }

    fn append_group(&mut self, entries: &[Arc<[u8]>]) -> std::io::Result<()> {
        let mut tip = self.tip;
        let group = format::group(&mut tip, entries.iter().map(|e| &**e));
        self.file.append(&group)?;
        self.file.sync()?;
        self.tip = tip;
        self.synced += group.len() as u64;
        Ok(())
    }

    /// Seals the file and gives back the room behind its end.
    fn end_file(&mut self) -> std::io::Result<()> {
        self.append_group(&[])?;
        self.file.cut(self.synced)
    }

    /// Tells everyone that the disk refuses, waits a little, and cuts the file back to what is
    /// known to be synced: behind that, anything may have got to the disk.
    fn pause(&mut self, error: &std::io::Error, rx: &Receiver<Command>, told: &Announcer) -> GoOn {
        if !told.has_failed() {
            tracing::error!(%error, "log cannot be written, no writes are taken until it can");
            told.fail(Some(error.to_string().into()));
        }
        loop {
            match rx.recv_timeout(self.disk.retry_after()) {
                Ok(Command::Close) | Err(RecvTimeoutError::Disconnected) => return GoOn::Ends,
                Ok(command) => self.waiting.push_back(command),
                Err(RecvTimeoutError::Timeout) if self.cut_back().is_ok() => return GoOn::Yes,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn cut_back(&mut self) -> std::io::Result<()> {
        // Half a next file may have been begun; nothing in it was ever acknowledged.
        match self.disk.remove(&file_name(self.number + 1)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        self.file.cut(self.synced)
    }
}

fn begin_file(
    disk: &dyn Disk,
    number: u64,
    first_seq: u64,
    entries: &[&[u8]],
) -> std::io::Result<(Box<dyn DiskFile>, Tip, u64)> {
    let (mut bytes, mut tip) = format::file_header(number, first_seq, crate::entropy());
    let mut file = disk.create(&file_name(number))?;
    bytes.extend(format::group(&mut tip, entries.iter().copied()));
    file.append(&bytes)?;
    file.sync()?;
    Ok((file, tip, bytes.len() as u64))
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
    if format::is_older(&bytes) {
        let reason = "is of format 1, which this program does not read; open it with the one that \
                      wrote it and export its tables";
        return Err(Error::corrupt(format!("log file {name}"), reason));
    }
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
            let torn_bytes = (parsed.used_bytes - parsed.sound_bytes) as u64;
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
