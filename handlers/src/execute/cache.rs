//! Code on disk. Sources are named by their digest and checked against it; compiled components
//! carry a seal beside them, and nothing is handed out but what was written and tried here. A file
//! that nobody has touched since needs no reading for that, so code of tens of megabytes is ready
//! at once. The folder is readable by its owner alone.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::seal::{FileId, Sealed, Sealer};
use crate::Digest;

/// A folder of code.
pub(super) struct Cache {
    dir: PathBuf,
    sealer: Sealer,
}

/// Compiled code of at most so many bytes is loaded in a millisecond.
const AT_HAND_BYTES_MAX: u64 = 8 << 20;

/// No page of memory is smaller.
const PAGE_BYTES_MIN: usize = 4096;

/// Times of files are told in steps of at most this.
const CLOCK_STEP_NS: i128 = 10_000_000;

/// Numbers temporary files; with the process' id they are unique, whoever shares the folder.
static TEMPORARIES: AtomicU64 = AtomicU64::new(0);

impl Cache {
    /// Opens (and makes) the folder.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        for folder in
            [dir.to_owned(), dir.join("source"), dir.join("compiled"), dir.join("unpacked")]
        {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        }
        // Processes run elsewhere in the tree and are given paths into this folder.
        let dir = dir.canonicalize()?;
        Ok(Self { sealer: Sealer::open(&dir.join("key"))?, dir })
    }

    /// Keeps source bytes.
    pub(super) fn put_source(&self, digest: &Digest, bytes: &[u8]) -> io::Result<PathBuf> {
        let path = self.source_path(digest);
        Self::write(&path, bytes)?;
        Ok(path)
    }

    /// The source, when it is here and whole.
    pub(super) fn source(&self, digest: &Digest) -> Option<Vec<u8>> {
        let bytes = fs::read(self.source_path(digest)).ok()?;
        (Digest::of(&bytes) == *digest).then_some(bytes)
    }

    /// The source as it lies there, unread.
    pub(super) fn source_file(&self, digest: &Digest) -> Option<File> {
        File::open(self.source_path(digest)).ok()
    }

    /// Keeps the compiled form of a component for the engine named `engine`. It is handed out
    /// again when it is sealed.
    pub(super) fn put_compiled(
        &self,
        digest: &Digest,
        engine: &str,
        bytes: &[u8],
    ) -> io::Result<PathBuf> {
        let path = self.compiled_path(digest, engine);
        Self::write(&path, bytes)?;
        Ok(path)
    }

    /// Vouches for the compiled form, as it is now.
    pub(super) fn seal_compiled(&self, digest: &Digest, engine: &str) -> io::Result<()> {
        let mut file = File::open(self.compiled_path(digest, engine))?;
        let id = FileId::of(&file.metadata()?);
        self.seal(digest, engine, &Sealed { file: id, bytes: Digest::of_file(&mut file)? })
    }

    pub(super) fn seal(&self, digest: &Digest, engine: &str, sealed: &Sealed) -> io::Result<()> {
        let seal = self.sealer.seal(digest, engine, sealed);
        Self::write(&seal_path(&self.compiled_path(digest, engine)), seal.as_bytes())
    }

    /// The compiled form, when it is here; the error says why it must not be loaded. A file that
    /// is not the sealed one (a folder was copied or brought back) is read and sealed again.
    pub(super) fn compiled(
        &self,
        digest: &Digest,
        engine: &str,
    ) -> Result<Option<PathBuf>, String> {
        let path = self.compiled_path(digest, engine);
        let Ok(found) = fs::metadata(&path) else { return Ok(None) };
        let sealed = self.sealed(digest, engine)?;
        if !is_vouched_for(&path, &found, &sealed) {
            // As it was before it was read: what changes meanwhile is another file.
            let sealed = Sealed { file: FileId::of(&found), ..sealed };
            self.check_compiled(digest, engine)?;
            self.seal(digest, engine, &sealed).map_err(|error| error.to_string())?;
        }
        Ok(Some(path))
    }

    /// The compiled form where it can be had at once: it is small, its seal vouches for it as is,
    /// and no disk has to be waited for.
    pub(super) fn at_hand(&self, digest: &Digest, engine: &str) -> Option<PathBuf> {
        let path = self.compiled_path(digest, engine);
        let file = File::open(&path).ok()?;
        let found = file.metadata().ok()?;
        let is_at_hand = found.len() <= AT_HAND_BYTES_MAX
            && is_vouched_for(&path, &found, &self.sealed(digest, engine).ok()?)
            && is_in_memory(&file, found.len() as usize);
        is_at_hand.then_some(path)
    }

    /// Reads the whole compiled form: whether it is, bit for bit, what was sealed.
    pub(super) fn check_compiled(&self, digest: &Digest, engine: &str) -> Result<(), String> {
        let wanted = self.sealed(digest, engine)?.bytes;
        let found = File::open(self.compiled_path(digest, engine))
            .and_then(|mut file| Digest::of_file(&mut file))
            .map_err(|error| error.to_string())?;
        match found == wanted {
            true => Ok(()),
            false => Err(format!("its seal says \"bytes {wanted}\", and it has {found}")),
        }
    }

    /// Gives the compiled form up.
    pub(super) fn remove_compiled(&self, digest: &Digest, engine: &str) {
        let path = self.compiled_path(digest, engine);
        for file in [seal_path(&path), path] {
            let _ = fs::remove_file(file);
        }
    }

    fn sealed(&self, digest: &Digest, engine: &str) -> Result<Sealed, String> {
        let seal = fs::read_to_string(seal_path(&self.compiled_path(digest, engine)));
        self.sealer.open_seal(digest, engine, &seal.map_err(|_| "it has no seal")?)
    }

    /// Writes a file under `unpacked/<digest>/` and returns the folder.
    pub(super) fn unpack(&self, digest: &Digest, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let folder = self.unpacked(digest);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        // Shown to processes of other users, and to them alone: the folders above stay closed.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        Self::write(&folder.join(name), bytes)?;
        Ok(folder)
    }

    /// Where the files of `digest` lie.
    pub(super) fn unpacked(&self, digest: &Digest) -> PathBuf {
        self.dir.join("unpacked").join(digest.as_str())
    }

    /// A new folder to fill and then to rename into place.
    pub(super) fn fresh_folder(&self) -> io::Result<PathBuf> {
        let number = TEMPORARIES.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}.tmp", std::process::id());
        let folder = self.dir.join("unpacked").join(name);
        fs::DirBuilder::new().mode(0o755).create(&folder)?;
        Ok(folder)
    }

    /// A folder next to those of all code.
    pub(super) fn beside_code(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.dir.join("unpacked").join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// A folder with nothing in it.
    pub(super) fn empty_folder(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.dir.join(name);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(folder)
    }

    /// Forgets everything kept for `digest`. What goes meanwhile, as a compiler that is not done
    /// yet gives its work up, is gone.
    pub(super) fn remove(&self, digest: &Digest) -> io::Result<()> {
        let _ = fs::remove_file(self.source_path(digest));
        let _ = fs::remove_dir_all(self.unpacked(digest));
        for entry in fs::read_dir(self.dir.join("compiled"))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(digest.as_str()) {
                match fs::remove_file(entry.path()) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Forgets all code but this. What is unpacked goes with its source: runtimes' own parts, which
    /// are no code of anybody, have none.
    pub(super) fn retain(&self, is_used: impl Fn(&Digest) -> bool) -> io::Result<()> {
        let mut others = HashSet::new();
        for folder in ["source", "compiled"] {
            for entry in fs::read_dir(self.dir.join(folder))? {
                let of = Digest::at_start_of(&entry?.file_name().to_string_lossy());
                others.extend(of.filter(|digest| !is_used(digest)));
            }
        }
        others.iter().try_for_each(|digest| self.remove(digest))
    }

    fn source_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("source").join(digest.as_str())
    }

    fn compiled_path(&self, digest: &Digest, engine: &str) -> PathBuf {
        self.dir.join("compiled").join(format!("{digest}-{engine}.cwasm"))
    }

    /// A reader sees the old file or the whole new one.
    fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
        let number = TEMPORARIES.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    }
}

/// Whether a seal is of this state of the compiled file, beyond doubt.
fn is_vouched_for(path: &Path, found: &fs::Metadata, sealed: &Sealed) -> bool {
    let is_settled = fs::metadata(seal_path(path)).is_ok_and(|seal| is_settled(found, &seal));
    is_settled && sealed.file == FileId::of(found)
}

/// Whether all of a file is in the page cache: who reads it then waits for no disk.
#[allow(unsafe_code)]
fn is_in_memory(file: &File, len: usize) -> bool {
    let (anywhere, shown) = (std::ptr::null_mut(), libc::PROT_READ);
    // SAFETY: a new mapping at a place of the system's choosing, through which nothing is read.
    let at = unsafe { libc::mmap(anywhere, len, shown, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if at == libc::MAP_FAILED {
        return false;
    }
    // Where pages are larger, there are fewer, and the rest stays as it is.
    let mut pages = vec![1u8; len.div_ceil(PAGE_BYTES_MIN)];
    // SAFETY: the mapping is `len` bytes long, and there is a byte for each of its pages.
    let told = unsafe { libc::mincore(at, len, pages.as_mut_ptr()) };
    // SAFETY: the whole of the mapping, of which nobody else knows.
    unsafe { libc::munmap(at, len) };
    told == 0 && pages.iter().all(|page| page & 1 == 1)
}

/// Whether a file had changed so long before it was sealed that a change since has another time.
fn is_settled(file: &fs::Metadata, seal: &fs::Metadata) -> bool {
    let changed_ns = |file: &fs::Metadata| {
        i128::from(file.ctime()) * 1_000_000_000 + i128::from(file.ctime_nsec())
    };
    changed_ns(seal) - changed_ns(file) > CLOCK_STEP_NS
}

fn seal_path(compiled: &Path) -> PathBuf {
    compiled.with_extension("seal")
}

#[cfg(test)]
mod tests;
