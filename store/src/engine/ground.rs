//! The folder that a store stands on: its lock, its identity, its log and its objects.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::config::{Config, is_site_path};
use crate::error::{Error, Result};
use crate::objects::{Bucket, Objects};
use crate::runtime;
use crate::wal::disk::{Disk, Folder};

/// What an engine stands on; tests put other things there.
pub struct Ground {
    pub disk: Arc<dyn Disk>,
    pub objects: Objects,
    pub id: u64,
    pub lock: Option<File>,
}

/// What the store of a configuration stands on, if its bucket proves to be fit.
pub async fn ground_of(config: &Config) -> Result<Ground> {
    let (dir, site) = (config.dir.clone(), config.site.clone());
    if !is_site_path(&site) {
        return Err(Error::BadRequest(format!("site {site:?} is not a path of the tree")));
    }
    let (former, bucket) = (config.former.clone(), config.objects.clone());
    let opening = move || ground_in(&dir, &site, &former, bucket.as_ref());
    let ground = runtime::aside(opening).await;
    let ground = ground.map_err(|e| Error::io("store", e))??;
    if let Some(bucket) = &config.objects {
        ground.objects.prove(&bucket.to_string()).await?;
        note_place(&config.dir, bucket)?;
    }
    Ok(ground)
}

/// True if some process has the store of a folder open.
pub fn is_open(dir: &Path) -> bool {
    let lock = File::open(dir.join("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
}

/// Locks the folder and reads or draws the store's identity.
///
/// A store belongs to one site; one that was moved had another of the `former` paths.
fn ground_in(dir: &Path, site: &str, former: &[String], bucket: Option<&Bucket>) -> Result<Ground> {
    let io = |what: &str| {
        let what = format!("{what} in {}", dir.display());
        move |e| Error::io(what, e)
    };
    std::fs::create_dir_all(dir).map_err(io("folder"))?;
    // Reads go on where the disk takes no writes.
    let path = dir.join("lock");
    let lock = File::create(&path).or_else(|e| File::open(&path).map_err(|_| e));
    let lock = lock.map_err(io("lock"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            return Err(Error::Locked(dir.display().to_string()));
        }
        Err(std::fs::TryLockError::Error(e)) => return Err(io("lock")(e)),
    }
    let id = identity(dir, site, former)?;
    stay_at(dir, bucket)?;
    let objects = match bucket {
        Some(bucket) => bucket.objects(&format!("{id:016x}"))?.spooling(dir.to_owned()),
        None => Objects::folder(dir.join("objects"))?,
    };
    let disk = Folder::open(dir.join("wal")).map_err(io("log"))?;
    Ok(Ground { disk: Arc::new(disk), objects, id, lock: Some(lock) })
}

/// Where the place of the objects is noted, if it is not the folder.
const PLACE: &str = "objects-at";
const FOLDER: &str = "its own folder";

/// Refuses to look for objects elsewhere than they are.
fn stay_at(dir: &Path, bucket: Option<&Bucket>) -> Result<()> {
    let file = dir.join(PLACE);
    let was = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let objects = dir.join("objects");
            match ["t", "b"].iter().any(|part| objects.join(part).exists()) {
                true => FOLDER.to_owned(),
                false => return Ok(()),
            }
        }
        Err(e) => return Err(Error::io(file.display().to_string(), e)),
    };
    let now = bucket.map_or(FOLDER.to_owned(), Bucket::to_string);
    if was == now {
        return Ok(());
    }
    let renamed = match file.exists() {
        true => format!(", or, if it is one place with two names, remove {}", file.display()),
        false => String::new(),
    };
    Err(Error::BadRequest(format!(
        "store {} has its objects in {was}, not in {now}; set [objects] as it was, or export the \
         tables and begin with an empty folder{renamed}",
        dir.display()
    )))
}

/// Notes that the objects are in a bucket, now that it has proved to be fit.
fn note_place(dir: &Path, bucket: &Bucket) -> Result<()> {
    let (file, side) = (dir.join(PLACE), dir.join("objects-at.unfinished"));
    let io = |e| Error::io(file.display().to_string(), e);
    if file.exists() {
        return Ok(());
    }
    let mut made = File::create(&side).map_err(io)?;
    std::io::Write::write_all(&mut made, bucket.to_string().as_bytes()).map_err(io)?;
    made.sync_all().map_err(io)?;
    std::fs::rename(&side, &file).map_err(io)?;
    File::open(dir).and_then(|d| d.sync_all()).map_err(io)
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
