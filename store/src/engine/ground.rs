//! The folder that a store stands on: its lock, its identity, its log and its objects.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::objects::Objects;
use crate::wal::disk::{Disk, Folder};

/// What an engine stands on; tests put other things there.
pub struct Ground {
    pub disk: Arc<dyn Disk>,
    pub objects: Objects,
    pub id: u64,
    pub lock: Option<File>,
}

/// Locks the folder and reads or draws the store's identity.
///
/// A store belongs to one site; one that was moved had another of the `former` paths.
pub fn ground_in(dir: &Path, site: &str, former: &[String]) -> Result<Ground> {
    let io = |what: &str| {
        let what = format!("{what} in {}", dir.display());
        move |e| Error::io(what, e)
    };
    std::fs::create_dir_all(dir).map_err(io("folder"))?;
    let lock = File::create(dir.join("lock")).map_err(io("lock"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            return Err(Error::Locked(dir.display().to_string()));
        }
        Err(std::fs::TryLockError::Error(e)) => return Err(io("lock")(e)),
    }
    let objects = Objects::folder(dir.join("objects"))?;
    let id = identity(dir, site, former)?;
    let disk = Folder::open(dir.join("wal")).map_err(io("log"))?;
    Ok(Ground { disk: Arc::new(disk), objects, id, lock: Some(lock) })
}

fn identity(dir: &Path, site: &str, former: &[String]) -> Result<u64> {
    let path = dir.join("identity");
    let io = |e| Error::io(path.display().to_string(), e);
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.is_empty() => {
            let owner = text.trim_end().rsplit_once(' ').map(|(owner, _)| owner);
            let is_ours = |owner: &str| owner == site || former.iter().any(|path| path == owner);
            if !owner.is_some_and(is_ours) {
                return Err(Error::BadRequest(format!(
                    "store {} belongs to site {:?}, not {site:?}",
                    dir.display(),
                    owner.unwrap_or("?")
                )));
            }
            Ok(id_of(text.trim_end()))
        }
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io(e)),
        _ => {
            let text = format!("{site} {:016x}", crate::entropy());
            let mut file = File::create(&path).map_err(io)?;
            std::io::Write::write_all(&mut file, text.as_bytes()).map_err(io)?;
            file.sync_all().map_err(io)?;
            File::open(dir).and_then(|d| d.sync_all()).map_err(io)?;
            Ok(id_of(&text))
        }
    }
}

/// The first 64 bits of the hash of a site path and the store's random number.
fn id_of(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}
