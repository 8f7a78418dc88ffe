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

/// A folder of append-only files.
pub trait Disk: Send + Sync + 'static {
    /// Names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// All bytes of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Makes an empty file whose name survives a crash once its first sync has succeeded.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Cuts a file to `len` bytes, durably.
    fn truncate(&self, name: &str, len: u64) -> io::Result<()>;
    /// Renames a file, durably.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. After a crash it may be there again.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// How long to let it be when it has refused.
    fn retry_after(&self) -> Duration {
        RETRY_AFTER
    }
}

/// A file open for appending. Whoever reads it may find zeros behind its end.
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
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        sync_dir(&self.path)?;
        Ok(Box::new(WrittenAhead { file, end: 0, len: 0 }))
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
    /// Where the next bytes go.
    end: u64,
    /// Bytes of the file; those behind `end` are zero.
    len: u64,
}

impl DiskFile for WrittenAhead {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.end + bytes.len() as u64;
        if end > self.len {
            let grown = end + self.len.clamp(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX);
            self.file.write_all_at(&vec![0; (grown - self.len) as usize], self.len)?;
            self.len = grown;
        }
        self.file.write_all_at(bytes, self.end)?;
        self.end = end;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        (self.end, self.len) = (len, len);
        self.file.sync_all()
    }
}

fn sync_dir(path: &std::path::Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
