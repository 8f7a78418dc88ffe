//! A disk that forgets: of what was not synced, a crash keeps some sectors and not others.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::wal::disk::DiskFile;

/// Bytes that get to the medium together, few, so that most writes are in several.
const SECTOR_BYTES: usize = 64;
/// Bytes that a medium may spoil when it loses its power while it writes some of them.
const SPOILT_BYTES: usize = 4096;

/// A disk in memory that knows what would be left of it.
#[derive(Clone)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
    trouble: Arc<Mutex<Trouble>>,
    /// Changes that are still made; after them the power is gone.
    left: Arc<AtomicU64>,
    /// Milliseconds that a sync takes; a crash in between loses what it was to save.
    pub sync_ms: u64,
}

/// What a disk refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trouble {
    #[default]
    None,
    /// Writes, after half of the bytes, as when it is full.
    Append,
    /// Syncs.
    Sync,
    /// Every change, as when it is read-only.
    Everything,
}

/// What becomes of a sector or a name that was changed and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is as it was.
    Lost,
    /// It is as it was to be.
    Kept,
    /// Half of it is, and a byte in it is neither.
    Torn,
    /// Nothing of it is either, nor of what lies around it, whether that was changed or not.
    Spoilt,
}

impl Fate {
    const ALL: [Fate; 4] = [Fate::Lost, Fate::Torn, Fate::Kept, Fate::Spoilt];
}

type Names = BTreeMap<String, usize>;

#[derive(Clone)]
struct State {
    files: Vec<MemFile>,
    /// The names on the medium, and those after each change since.
    names: Vec<Names>,
}

#[derive(Clone, Default)]
struct MemFile {
    bytes: Vec<u8>,
    synced: Vec<u8>,
}

impl Default for MemDisk {
    fn default() -> Self {
        MemDisk::of(State { files: Vec::new(), names: vec![Names::new()] })
    }
}

impl MemDisk {
    fn of(state: State) -> Self {
        let left = Arc::new(AtomicU64::new(u64::MAX));
        MemDisk { state: Arc::new(Mutex::new(state)), trouble: Arc::default(), left, sync_ms: 0 }
    }

    pub fn with_file(name: &str, bytes: &[u8]) -> MemDisk {
        let file = MemFile { bytes: bytes.to_vec(), synced: bytes.to_vec() };
        MemDisk::of(State { files: vec![file], names: vec![Names::from([(name.into(), 0)])] })
    }

    /// The disk as it may be after power loss.
    pub fn crash(&self, mut fate: impl FnMut() -> Fate) -> MemDisk {
        let state = lock(&self.state).clone();
        let later = state.names[1..].iter().take_while(|_| fate() == Fate::Kept).count();
        let names = state.names[later].clone();
        let mut left_of = |file: &MemFile| {
            let mut bytes = file.left(&mut fate);
            // Files may have been written ahead.
            bytes.resize(bytes.len() + bytes.len() * 7 % 3 * 40, 0);
            MemFile { synced: bytes.clone(), bytes }
        };
        let is_named = |i: usize| names.values().any(|file| *file == i);
        let left = |(i, file): (usize, &MemFile)| {
            if is_named(i) { left_of(file) } else { MemFile::default() }
        };
        let files = state.files.iter().enumerate().map(left).collect();
        let sync_ms = self.sync_ms;
        let disk = MemDisk { sync_ms, ..MemDisk::of(State { files, names: vec![names] }) };
        disk.trouble(*lock(&self.trouble));
        disk
    }

    /// A crash that loses everything unsynced, nothing, what came after some moment, or anything.
    pub fn crash_by(&self, mut random: impl FnMut(u64) -> u64) -> MemDisk {
        let mut kept = random(8);
        let worst = [Fate::Torn, Fate::Spoilt][random(2) as usize];
        match random(5) {
            0 => self.crash(|| Fate::Lost),
            1 => self.crash(|| Fate::Kept),
            2 => self.crash(|| {
                kept = kept.saturating_sub(1);
                [Fate::Lost, worst, Fate::Kept][kept.min(2) as usize]
            }),
            3 => self.crash(|| Fate::ALL[random(3) as usize]),
            _ => self.crash(|| Fate::ALL[random(4) as usize]),
        }
    }

    /// Changes the bytes of one file after the other.
    pub fn damage(&self, mut damage: impl FnMut(&mut Vec<u8>)) {
        for file in lock(&self.state).files.iter_mut().filter(|file| !file.bytes.is_empty()) {
            damage(&mut file.bytes);
            file.synced = file.bytes.clone();
        }
    }

    /// Makes the disk refuse from now on, or no longer.
    pub fn trouble(&self, trouble: Trouble) {
        *lock(&self.trouble) = trouble;
    }

    /// The power goes after so many changes. True if it is gone.
    pub fn power_for(&self, changes: u64) {
        self.left.store(changes, Ordering::Relaxed);
    }

    /// True if the power is gone.
    pub fn is_off(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    fn refuse(&self, troubles: &[Trouble]) -> io::Result<()> {
        match troubles.contains(&lock(&self.trouble)) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    /// One change is about to be made.
    fn spend(&self) -> io::Result<()> {
        let left =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        left.map(drop).map_err(|_| io::Error::other("power is gone"))
    }

    fn change(&self, troubles: &[Trouble]) -> io::Result<MutexGuard<'_, State>> {
        self.refuse(troubles)?;
        self.spend()?;
        Ok(lock(&self.state))
    }

    fn handle(&self, file: usize) -> Box<dyn DiskFile> {
        Box::new(MemHandle { disk: self.clone(), file })
    }
}

impl State {
    fn now(&self) -> &Names {
        self.names.last().expect("there are always names")
    }

    fn file(&self, name: &str) -> io::Result<usize> {
        self.now().get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&mut self, change: impl FnOnce(&mut Names)) {
        let mut names = self.now().clone();
        change(&mut names);
        self.names.push(names);
    }
}

impl MemFile {
    fn left(&self, fate: &mut impl FnMut() -> Fate) -> Vec<u8> {
        let (new, old) = (&self.bytes, &self.synced);
        if new.len() < old.len() && fate() != Fate::Kept {
            return old.clone();
        }
        let mut left = old[..old.len().min(new.len())].to_vec();
        let mut spoilt = Vec::new();
        for from in (0..new.len()).step_by(SECTOR_BYTES) {
            let to = new.len().min(from + SECTOR_BYTES);
            if old.get(from..to) == Some(&new[from..to]) {
                continue;
            }
            let to = match fate() {
                Fate::Lost => continue,
                Fate::Kept => to,
                Fate::Torn => (from + to).div_ceil(2),
                Fate::Spoilt => {
                    spoilt.push(from - from % SPOILT_BYTES);
                    to
                }
            };
            left.resize(left.len().max(to), 0);
            let differs = (from..to).rfind(|at| old.get(*at) != Some(&new[*at]));
            left[from..to].copy_from_slice(&new[from..to]);
            if let (Some(at), true) = (differs, to - from <= SECTOR_BYTES / 2) {
                left[at] ^= 0x55;
            }
        }
        for from in spoilt {
            let to = left.len().min(from + SPOILT_BYTES);
            left[from..to]
                .iter_mut()
                .zip((1u8..=255).cycle())
                .for_each(|(byte, i)| *byte = i.wrapping_mul(91));
        }
        left
    }
}

impl Disk for MemDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.state).now().keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let state = lock(&self.state);
        Ok(state.files[state.file(name)?].bytes.clone())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.change(&[Trouble::Everything])?;
        let file = state.files.len();
        state.files.push(MemFile::default());
        state.rename(|names| {
            names.insert(name.into(), file);
        });
        drop(state);
        Ok(self.handle(file))
    }

    fn reuse(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = lock(&self.state).file(name)?;
        Ok(self.handle(file))
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        let file = lock(&self.state).file(name)?;
        MemHandle { disk: self.clone(), file }.cut(len)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = lock(&self.state).file(from)?;
        self.change(&[Trouble::Everything])?.rename(|names| {
            names.remove(from);
            names.insert(to.into(), file);
        });
        let mut state = self.change(&[Trouble::Sync])?;
        state.names = vec![state.now().clone()];
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        lock(&self.state).file(name)?;
        self.change(&[Trouble::Everything])?.rename(|names| {
            names.remove(name);
        });
        Ok(())
    }

    fn retry_after(&self) -> Duration {
        Duration::from_millis(2)
    }
}

struct MemHandle {
    disk: MemDisk,
    file: usize,
}

impl DiskFile for MemHandle {
    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.refuse(&[Trouble::Everything])?;
        let refused = self.disk.refuse(&[Trouble::Append]);
        self.disk.spend()?;
        let bytes = if refused.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        let (at, end) = (at as usize, at as usize + bytes.len());
        let mut state = lock(&self.disk.state);
        let file = &mut state.files[self.file].bytes;
        file.resize(file.len().max(end), 0);
        file[at..end].copy_from_slice(bytes);
        refused
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.refuse(&[Trouble::Sync, Trouble::Everything])?;
        self.disk.spend()?;
        let synced = lock(&self.disk.state).files[self.file].bytes.clone();
        std::thread::sleep(Duration::from_millis(self.disk.sync_ms));
        lock(&self.disk.state).files[self.file].synced = synced;
        Ok(())
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.disk.change(&[Trouble::Everything])?;
        state.files[self.file].bytes.truncate(len as usize);
        drop(state);
        let mut state = self.disk.change(&[Trouble::Everything])?;
        let file = &mut state.files[self.file];
        file.synced = file.bytes.clone();
        Ok(())
    }
}
