//! What the log needs of a disk: few verbs, so that a disk that forgets can stand in for it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

/// Zeros written behind the end of a file when it grows: as many as it has bytes, within these.
const AHEAD_BYTES_MIN: u64 = 64 << 10;
const AHEAD_BYTES_MAX: u64 = 4 << 20;

/// Time between attempts to write to a disk that refuses.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// A folder of files that are written from their start to their end.
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

/// A file open for writing. Whoever reads it may find zeros behind its end, and behind them what
/// a file that is written over held before.
pub trait DiskFile: Send {
    /// Writes bytes there, which make the file longer where they go beyond its end. They may or may
    /// not survive a crash.
    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything written survive a crash.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to `len` bytes, durably.
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
        Ok(Box::new(WrittenAhead { file, len: 0 }))
    }

    fn reuse(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).open(self.path.join(name))?;
        let len = file.metadata()?.len();
        Ok(Box::new(WrittenAhead { file, len }))
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
/// half the time of syncing a file that grows.
struct WrittenAhead {
    file: File,
    /// Bytes of the file.
    len: u64,
}

impl DiskFile for WrittenAhead {
    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let end = at + bytes.len() as u64;
        if end > self.len {
            let grown = end + self.len.clamp(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX);
            self.file.write_all_at(&vec![0; (grown - end) as usize], end)?;
            self.len = grown;
        }
        self.file.write_all_at(bytes, at)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.len = len;
        self.file.sync_all()
    }
}

fn sync_dir(path: &std::path::Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
