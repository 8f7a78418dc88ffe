//! The write-ahead log: group commit on a thread of its own, and recovery.
//!
//! Callers hand over encoded entries in order and wait until the durable position has passed
//! theirs. The thread takes all that has gathered, writes it as one group, syncs once, and tells
//! everyone. After a failed write or sync, what is on the disk behind the last good sync is
//! unknown. So the thread cuts the file back to there and writes the same again, until it can. Nor
//! is a sector safe while it is written: so groups go where none of the others is alone
//! ([`pages`]).
//!
//! Files that are no longer needed are what the next ones are made of ([`spares`]). On a disk that
//! refuses the first one, the log starts later ([`first`]).

pub mod disk;
mod first;
mod format;
mod pages;
mod salvage;
mod spares;
mod waiting;

use std::collections::VecDeque;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::runtime::{Inbox, Outbox, Thread, step, thread};
use disk::Disk;
use first::{First, Unmended};
use format::End;
use spares::{Begun, Spares, begin, spare_name};
use waiting::{Announcer, Waiting};

pub use salvage::{keep_only, set_aside_names};

/// What those who wait and the log's thread share.
mod sync {
    pub use std::sync::atomic::{AtomicBool, AtomicU64};
    pub use std::sync::{Mutex, MutexGuard};
    pub use tokio::sync::watch;
}

/// Bytes of one group; more waits for the next.
const GROUP_TARGET_BYTES: usize = 4 << 20;
/// Quiet time after which an empty group seals the last one, so that later damage to it can be
/// told from an unfinished write.
const SEAL_AFTER_MS: u64 = 20;

/// How often a file is read at most that is written at the same time.
const READS_MAX: usize = 4;

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
    pub entries: Vec<Bytes>,
    /// Files in order.
    pub files: Vec<LogFile>,
    /// Bytes of an unfinished write that was cut off; nobody was told they were durable.
    pub torn_bytes: u64,
    /// Damaged files that this salvage, or an earlier one, has set aside as `*.rotten`.
    pub rotten: Vec<String>,
    /// What the disk did not let recovery cut off.
    pub unmended: Option<Unmended>,
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
    tell: Outbox<Command>,
    durable: watch::Receiver<Durable>,
    waiting: Arc<Waiting>,
    files: Arc<Mutex<VecDeque<LogFile>>>,
    spares: Arc<Mutex<Spares>>,
    disk: Arc<dyn Disk>,
    thread: Mutex<Option<Thread>>,
}

/// A file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    number: u64,
    /// The first entry that it can hold.
    first_seq: u64,
    /// Where the last group ends that is synced; behind it there may be anything while the file is
    /// written.
    bytes: u64,
    /// Groups that are synced.
    groups: u64,
}

enum Command {
    Append { seq: u64, entries: Vec<Arc<[u8]>> },
    Rotate { first_seq: u64, snapshot: Arc<[u8]> },
    Seal,
    Close,
}

impl Recovered {
    /// The first entry that the files can hold; none if there is no file.
    pub fn first_seq(&self) -> Option<u64> {
        self.files.first().map(|file| file.first_seq)
    }
}

impl LogFile {
    /// Its name.
    pub fn name(&self) -> String {
        file_name(self.number)
    }
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
        recovered.rotten = set_aside_names(disk)?;
        Ok(recovered)
    }

    /// Says what [`Wal::recover`] would refuse, and changes nothing. Returns the damaged files that
    /// were set aside.
    pub fn check(disk: &dyn Disk) -> Result<Vec<String>> {
        let numbers = file_numbers(disk)?;
        for (i, number) in numbers.iter().enumerate() {
            let name = file_name(*number);
            let bytes = disk.read(&name).map_err(|e| Error::io(format!("log file {name}"), e))?;
            let parsed = format::parse(*number, &bytes.into());
            let is_last = i + 1 == numbers.len();
            if parsed.end == End::Rotten || parsed.end == End::Torn && !is_last {
                return Err(rotten(&name, parsed.sound_bytes));
            }
        }
        set_aside_names(disk)
    }

    /// Starts a new file with `snapshot` as its first entry, numbered `first_seq`, and the thread
    /// that writes it. Returns once the snapshot is durable, or the disk has refused it: then what
    /// was recovered can be read, and the file is begun as soon as the disk takes it.
    pub fn open(
        disk: Arc<dyn Disk>,
        recovered: &Recovered,
        first_seq: u64,
        snapshot: Arc<[u8]>,
    ) -> Result<Self> {
        let number = file_numbers(&*disk)?.last().map_or(1, |n| n + 1);
        let spares = Spares::on(&*disk).map_err(|e| Error::io("log folder", e))?;
        let spares = Arc::new(Mutex::new(spares));
        let files = Arc::new(Mutex::new(VecDeque::from(recovered.files.clone())));
        // Until the snapshot is there, no number after it is given.
        let (durable_tx, durable) = watch::channel(Durable { seq: first_seq, failed: None });
        let waiting = Arc::new(Waiting::new(first_seq));
        let told = Announcer { waiting: waiting.clone(), durable: durable_tx };
        let mut first = First {
            disk: disk.clone(),
            files: files.clone(),
            spares: spares.clone(),
            number,
            first_seq,
            snapshot,
            unmended: recovered.unmended.clone(),
        };
        let begun = first.begin().map_err(|error| told.refuse(&error)).ok();
        let write = |inbox: Inbox<Command>| async move {
            if let Some(writer) = first.writer(begun, &inbox, &told).await {
                writer.run(&inbox, &told).await;
            }
        };
        let (tell, thread) = thread("store-wal", write).map_err(|e| Error::io("log thread", e))?;
        Ok(Wal { tell, durable, waiting, files, spares, disk, thread: Mutex::new(Some(thread)) })
    }

    /// Queues entries that become durable together; `seq` is the number of the last. Callers
    /// bound how much is under way and keep the numbers rising.
    pub fn append(&self, seq: u64, entries: Vec<Arc<[u8]>>) {
        // If the thread is gone, waiters learn that from the watch.
        self.tell.tell(Command::Append { seq, entries });
    }

    /// Queues a change to a new file, whose first entry is `snapshot`, numbered `first_seq`.
    pub fn rotate(&self, first_seq: u64, snapshot: Arc<[u8]>) {
        self.tell.tell(Command::Rotate { first_seq, snapshot });
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

    /// Removes the files that hold only entries up to `seq`, or makes spares of them; never the
    /// newest file.
    pub fn remove_through(&self, seq: u64) -> Result<()> {
        // Held until the end: one at a time, and nothing is made of a spare before the file that it
        // was is off the list, which those who read files look at.
        let mut spares = lock(&self.spares);
        loop {
            let file = removable(&lock(&self.files), seq);
            let Some(LogFile { number, bytes, .. }) = file else { return Ok(()) };
            let forget = || lock(&self.files).retain(|file| file.number != number);
            spares
                .retire(&*self.disk, number, bytes, forget)
                .map_err(|e| Error::io(format!("log file {}", file_name(number)), e))?;
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

    /// Encoded entries of a file: those that are durable, and perhaps some that are not yet.
    pub fn read_file(&self, file: &LogFile) -> Result<Vec<Bytes>> {
        let name = file_name(file.number);
        let io = |e| Error::io(format!("log {name}"), e);
        let mut sound_bytes = 0;
        for _ in 0..READS_MAX {
            let bytes = self.disk.read(&name).map_err(io)?;
            let parsed = format::parse(file.number, &bytes.into());
            if parsed.groups >= file.groups {
                return Ok(parsed.entries);
            }
            // It may have become another file while it was read.
            if lock(&self.files).iter().all(|listed| listed.number != file.number) {
                return Err(io(std::io::ErrorKind::NotFound.into()));
            }
            // Or what was on one page when the other was read, moved there and was written over.
            sound_bytes = parsed.sound_bytes;
        }
        Err(rotten(&name, sound_bytes))
    }

    /// Writes what is queued, seals the file and ends the thread.
    pub fn close(&self) {
        self.tell.tell(Command::Close);
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("log thread panicked");
        }
    }
}

#[cfg(test)]
impl Wal {
    /// Like [`Wal::open`], where the disk has to take the first file.
    pub fn start(
        disk: Arc<dyn Disk>,
        recovered: &Recovered,
        first_seq: u64,
        snapshot: Arc<[u8]>,
    ) -> Result<Self> {
        let wal = Wal::open(disk, recovered, first_seq, snapshot)?;
        match wal.failed() {
            Some(reason) => Err(Error::ReadOnly(reason.to_string())),
            None => Ok(wal),
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
    file: Begun,
    number: u64,
    /// True if nothing is to follow in the file: the next one may be there already.
    has_ended: bool,
    files: Arc<Mutex<VecDeque<LogFile>>>,
    spares: Arc<Mutex<Spares>>,
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
    async fn run(mut self, inbox: &Inbox<Command>, told: &Announcer) {
        let mut sealed = true;
        while let Some(first) = self.next(inbox, sealed).await {
            sealed = matches!(first, Command::Seal);
            let mut work = self.gather(first, inbox);
            while let Err(error) = self.carry_out(&mut work, told).await {
                // Whoever closes the log waits for this thread, not for the disk.
                if matches!(work.then, Some(Command::Close)) {
                    told.fail(Some(error.to_string().into()));
                    return;
                }
                if self.pause(&error, inbox, told).await == GoOn::Ends {
                    return;
                }
            }
            told.take_again();
            if matches!(work.then, Some(Command::Close)) {
                return;
            }
        }
    }

    /// The next command; a seal after some quiet.
    async fn next(&mut self, inbox: &Inbox<Command>, sealed: bool) -> Option<Command> {
        if let Some(command) = self.waiting.pop_front() {
            return Some(command);
        }
        if sealed {
            return inbox.next().await;
        }
        match inbox.next_within(Duration::from_millis(SEAL_AFTER_MS)).await {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => Some(Command::Seal),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Adds the appends behind a command, as far as they fit one group.
    fn gather(&mut self, first: Command, inbox: &Inbox<Command>) -> Work {
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
                true => self.waiting.pop_front().or_else(|| inbox.next_here()),
                false => None,
            };
        }
        work
    }

    /// Writes and syncs. What is done is taken out of `work`, so that the rest can be tried again.
    async fn carry_out(&mut self, work: &mut Work, told: &Announcer) -> std::io::Result<()> {
        if !work.entries.is_empty() {
            self.append_group(&work.entries).await?;
            work.entries.clear();
            told.advance(work.last_seq);
        }
        match &work.then {
            Some(Command::Rotate { first_seq, snapshot }) => {
                self.turn(*first_seq, snapshot).await?;
                told.advance(*first_seq);
            }
            Some(Command::Seal) => self.append_group(&[]).await?,
            Some(Command::Close) => self.end_file().await?,
            Some(Command::Append { .. }) | None => {}
        }
        Ok(())
    }

    /// Ends the file and begins the next.
    async fn turn(&mut self, first_seq: u64, snapshot: &[u8]) -> std::io::Result<()> {
        if !self.has_ended {
            self.end_file().await?;
            self.has_ended = true;
        }
        step().await;
        let number = self.number + 1;
        let spare = lock(&self.spares).take();
        let begun = begin(&*self.disk, spare, number, first_seq, &[snapshot])?;
        step().await;
        lock(&self.files).push_back(begun.listed(number, first_seq));
        (self.file, self.number, self.has_ended) = (begun, number, false);
        Ok(())
    }

    async fn append_group(&mut self, entries: &[Arc<[u8]>]) -> std::io::Result<()> {
        let Begun { file, tip, run, groups } = &mut self.file;
        let mut next = *tip;
        let group = format::group(&mut next, entries.iter().map(|e| &**e));
        let addition = run.add(group);
        file.write(addition.at, &addition.bytes)?;
        step().await;
        file.sync()?;
        step().await;
        (*tip, *run) = (next, addition.run);
        *groups += 1;
        if let Some(listed) = lock(&self.files).back_mut() {
            (listed.bytes, listed.groups) = (run.end(), *groups);
        }
        Ok(())
    }

    /// Seals the file and gives back the room behind its end, so that nothing follows it.
    async fn end_file(&mut self) -> std::io::Result<()> {
        self.append_group(&[]).await?;
        self.file.file.cut(self.file.run.page_end())
    }

    /// Tells everyone that the disk refuses, waits a little, and cuts the file back to what is
    /// known to be synced: behind that, anything may have got to the disk.
    async fn pause(
        &mut self,
        error: &std::io::Error,
        inbox: &Inbox<Command>,
        told: &Announcer,
    ) -> GoOn {
        told.refuse(error);
        loop {
            match inbox.next_within(self.disk.retry_after()).await {
                Ok(Command::Close) | Err(RecvTimeoutError::Disconnected) => return GoOn::Ends,
                Ok(command) => self.waiting.push_back(command),
                Err(RecvTimeoutError::Timeout) if self.cut_back().is_ok() => return GoOn::Yes,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn cut_back(&mut self) -> std::io::Result<()> {
        // The next file may have been begun; nothing in it was ever acknowledged. Durably, because
        // another is about to have its name.
        let next = self.number + 1;
        match self.disk.rename(&file_name(next), &spare_name(next)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        // If the disk is full, they are what there is to give.
        lock(&self.spares).remove_all(&*self.disk)?;
        self.file.file.cut(self.file.run.page_end())
    }
}

impl Announcer {
    /// The disk refuses.
    fn refuse(&self, error: &std::io::Error) {
        if !self.has_failed() {
            tracing::error!(%error, "log cannot be written, no writes are taken until it can");
            self.fail(Some(error.to_string().into()));
        }
    }

    /// The disk does not refuse, whether it did or not.
    fn take_again(&self) {
        if self.has_failed() {
            tracing::info!("log is written again");
            self.fail(None);
        }
    }

    fn has_failed(&self) -> bool {
        self.durable.borrow().failed.is_some()
    }
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
    let bytes = Bytes::from(bytes);
    if format::is_older(&bytes) {
        let reason = "is of format 1, which this program does not read; open it with the one that \
                      wrote it and export its tables";
        return Err(Error::corrupt(format!("log file {name}"), reason));
    }
    let parsed = format::parse(number, &bytes);
    let first_seq = parsed.first_seq;
    let (sound_bytes, groups) = (parsed.sound_bytes as u64, parsed.groups);
    match parsed.end {
        // Earlier programs crashed while the file was being begun: nothing was acknowledged in it.
        End::Whole | End::Torn if parsed.sound_bytes == 0 && is_last => {
            recovered.mend(disk, Unmended { name, left_bytes: 0 });
            return Ok(());
        }
        // A file is begun only when the one before is whole, so only the last can be torn. Synced
        // either way: who wrote it may have been killed before it was, and what is shown now must
        // stay.
        End::Whole | End::Torn if is_last => {
            let torn_bytes = parsed.begun_bytes as u64;
            if torn_bytes > 0 {
                tracing::warn!(file = name, torn_bytes, "log ends in an unfinished write, cut off");
            }
            recovered.entries.extend(parsed.entries);
            recovered.torn_bytes += torn_bytes;
            let left_bytes = pages::left_of(&bytes, parsed.sound_bytes) as u64;
            recovered.mend(disk, Unmended { name, left_bytes });
        }
        End::Whole => recovered.entries.extend(parsed.entries),
        End::Torn | End::Rotten if on_rot == OnRot::Refuse => {
            return Err(rotten(&name, parsed.sound_bytes));
        }
        End::Torn | End::Rotten => {
            tracing::error!(file = name, at = parsed.sound_bytes, "log is damaged, set aside");
            if let Some((file, entries)) = salvage::salvage(disk, number, &bytes)? {
                recovered.entries.extend(entries);
                recovered.files.push(file);
            }
            return Ok(());
        }
    }
    recovered.files.push(LogFile { number, first_seq, bytes: sound_bytes, groups });
    Ok(())
}

fn rotten(name: &str, at: usize) -> Error {
    let reason = format!(
        "damaged at byte {at}; `edgescale store salvage` sets the file aside, what is sound stays"
    );
    Error::corrupt(format!("log file {name}"), reason)
}

fn removable(files: &VecDeque<LogFile>, seq: u64) -> Option<LogFile> {
    let next = files.get(1)?;
    (next.first_seq <= seq + 1).then(|| files[0].clone())
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
