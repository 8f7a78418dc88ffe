//! The first file of an opening. What recovery could not cut off is cut off before it is begun, and
//! as long as the disk refuses, both are tried again: a store that only reads does not need them.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex};

use crate::runtime::Inbox;

use super::disk::Disk;
use super::spares::{Begun, Spares, begin, spare_name};
use super::waiting::Announcer;
use super::{Command, LogFile, Recovered, Writer, file_name, lock};

/// The last file, which may not be synced and may have an unfinished end, which nobody reads and
/// nothing may follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmended {
    pub name: String,
    /// Bytes to leave; with none, the file is to go.
    pub left_bytes: u64,
}

impl Unmended {
    fn mend(&self, disk: &dyn Disk) -> io::Result<()> {
        let mended = match self.left_bytes {
            0 => disk.remove(&self.name),
            left_bytes => disk.truncate(&self.name, left_bytes),
        };
        match mended {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            mended => mended,
        }
    }
}

impl Recovered {
    /// Cuts off an unfinished end and syncs the rest, or leaves that for later if the disk refuses.
    pub(super) fn mend(&mut self, disk: &dyn Disk, end: Unmended) {
        if let Err(error) = end.mend(disk) {
            tracing::warn!(file = end.name, %error, "the end of the log stays as it is for now");
            self.unmended = Some(end);
        }
    }
}

/// What it takes to begin the file.
pub struct First {
    pub disk: Arc<dyn Disk>,
    pub files: Arc<Mutex<VecDeque<LogFile>>>,
    pub spares: Arc<Mutex<Spares>>,
    pub number: u64,
    pub first_seq: u64,
    pub snapshot: Arc<[u8]>,
    pub unmended: Option<Unmended>,
}

impl First {
    /// Begins the file and lists it.
    pub fn begin(&mut self) -> io::Result<Begun> {
        if let Some(end) = &self.unmended {
            end.mend(&*self.disk)?;
            self.unmended = None;
        }
        let (number, first_seq) = (self.number, self.first_seq);
        let spare = lock(&self.spares).take();
        let begun = begin(&*self.disk, spare, number, first_seq, &[&self.snapshot])?;
        lock(&self.files).push_back(begun.listed(number, first_seq));
        Ok(begun)
    }

    /// Who goes on with the file, which was begun or is begun now, once the disk takes it; none if
    /// the log is closed before.
    pub async fn writer(
        mut self,
        begun: Option<Begun>,
        inbox: &Inbox<Command>,
        told: &Announcer,
    ) -> Option<Writer> {
        let mut waiting = VecDeque::new();
        let file = match begun {
            Some(begun) => begun,
            None => self.insist(inbox, &mut waiting).await?,
        };
        told.take_again();
        let First { disk, files, spares, number, .. } = self;
        Some(Writer { disk, file, number, has_ended: false, files, spares, waiting })
    }

    async fn insist(
        &mut self,
        inbox: &Inbox<Command>,
        waiting: &mut VecDeque<Command>,
    ) -> Option<Begun> {
        loop {
            match inbox.next_within(self.disk.retry_after()).await {
                Ok(Command::Close) | Err(RecvTimeoutError::Disconnected) => return None,
                Ok(command) => waiting.push_back(command),
                Err(RecvTimeoutError::Timeout) => {
                    if let Ok(begun) = self.clear().and_then(|()| self.begin()) {
                        return Some(begun);
                    }
                }
            }
        }
    }

    /// Removes what is left of the attempt before: if the disk is full, it takes the room. It may
    /// have got its name; nothing in it was ever acknowledged.
    fn clear(&self) -> io::Result<()> {
        match self.disk.rename(&file_name(self.number), &spare_name(self.number)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        lock(&self.spares).remove_all(&*self.disk)
    }
}
