//! What the log needs of a disk: few verbs, so that a disk that forgets can stand in for it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

/// Zeros written behind the end of a file when it grows: as many as it has bytes, within these.
const AHEAD_BYTES_MIN: u64 = 64 << 10;
const AHEAD_BYTES_MAX: u64 = 4 << 20;

/// Bytes of a page of the file system's cache, or a divisor.
const PAGE_BYTES: u64 = 4096;

/// Time between attempts to write to a disk that refuses.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// A folder of append-only files.
pub trait Disk: Send + Sync + 'static {
    /// Names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// All bytes of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Makes an empty file, in place of another that has the name. Once it is synced and renamed,
    /// it survives a crash.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file to be written over from its start.
    fn reuse(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Cuts a file to `len` bytes, durably.
    fn truncate(&self, name: &str, len: u64) -> io::Result<()>;
    /// Renames a file, durably, in place of another that has the name. Who has it open goes on
    /// with it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. After a crash it may be there again.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// How long to let it be when it has refused.
    fn retry_after(&self) -> Duration {
        RETRY_AFTER
    }
}

/// A file open for appending. Whoever reads it may find zeros behind its end, and behind them what
/// a file that is written over held before.
pub trait DiskFile: Send {
    /// Adds bytes to the end. They may or may not survive a crash.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything appended survive a crash.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to `len` bytes, durably; the next ones are added there.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

/// A folder of the file system.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Opens the folder, making it if need be.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        if let Some(parent) = path.parent() {
            sync_dir(parent)?;
        }
        Ok(Folder { path })
    }
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.path)?;
        entries.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path.join(name))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let path = self.path.join(name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        Ok(Box::new(WrittenAhead { file, end: 0, len: 0, page: Vec::new() }))
    }

    fn reuse(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).open(self.path.join(name))?;
        let len = file.metadata()?.len();
        Ok(Box::new(WrittenAhead { file, end: 0, len, page: Vec::new() }))
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path.join(name))?;
        file.set_len(len)?;
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))?;
        sync_dir(&self.path)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }
}

/// A file that is written before it is needed: syncing bytes that replace others takes the disk
/// half the time of syncing a file that grows. It is written in whole pages, because the system has
/// to read what it is given a part of.
struct WrittenAhead {
    file: File,
    /// Where the next bytes go.
    end: u64,
    /// Bytes of the file.
    len: u64,
    /// What is before `end` in its page, if that is known.
    page: Vec<u8>,
}

impl DiskFile for WrittenAhead {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut pages = std::mem::take(&mut self.page);
        let start = self.end - pages.len() as u64;
        pages.extend(bytes);
        let end = self.end + bytes.len() as u64;
        let written = end.next_multiple_of(PAGE_BYTES);
        pages.resize((written - start) as usize, 0);
        if written > self.len {
            let grown = written + self.len.clamp(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX);
            self.file.write_all_at(&vec![0; (grown - written) as usize], written)?;
            self.len = grown;
        }
        self.file.write_all_at(&pages, start)?;
        self.end = end;
        let used = (end - start) as usize;
        pages.truncate(used);
        pages.drain(..used - used.min((end % PAGE_BYTES) as usize));
        self.page = pages;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        (self.end, self.len) = (len, len);
        self.page.clear();
        self.file.sync_all()
    }
}

fn sync_dir(path: &std::path::Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
