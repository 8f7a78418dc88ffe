//! Control groups (Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst of Linux): what limits of
//! a single process cannot do. All that a handler's process forks has one limit of memory and one
//! of processes, and all handlers together are given as much of the cores as the node, when both
//! want them. Used where the node may make groups below its own; else said, and left out.

use std::cmp::Reverse;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::cage::PROCESSES_MAX;

/// What counts beside a process' private memory: its `/tmp`, and what the kernel keeps for it.
const BESIDE_BYTES: u64 = (64 + 32) << 20;
/// The controllers that are used.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// What the leaf is called: `DelegateSubgroup=node` of a systemd service.
const LEAF: &str = "node";

/// Numbers the groups of all fences of this program.
static NUMBERS: AtomicU32 = AtomicU32::new(0);

/// Where groups are made.
pub(super) struct Groups {
    /// A folder for all processes in each hierarchy: one in version 2, one per controller in 1.
    folders: Vec<PathBuf>,
    version: u8,
    controllers: Vec<&'static str>,
    /// Groups that still held somebody when they should have gone.
    left: Mutex<Vec<PathBuf>>,
}

/// The groups of one process; gone with it.
pub(in crate::execute) struct Group {
    folders: Vec<PathBuf>,
    groups: Arc<Groups>,
}

impl Groups {
    /// Tries to make a group with limits; says why none can be.
    pub(super) fn detect() -> Result<Arc<Self>, String> {
        let said =
            |what: &str| fs::read_to_string(what).map_err(|error| format!("{what}: {error}"));
        let (own, mounts) = (said("/proc/self/cgroup")?, said("/proc/self/mountinfo")?);
        let mut refused = "no hierarchy with memory, pids or cpu is mounted".to_owned();
        for (version, places) in choices(&own, &mounts) {
            match Self::make(version, &places) {
                Ok(groups) => return Ok(Arc::new(groups)),
                Err(why) => refused = why,
            }
        }
        Err(refused)
    }

    fn make(version: u8, places: &[(Vec<&'static str>, PathBuf)]) -> Result<Self, String> {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("edgescale-{}-{number}", std::process::id());
        let (mut folders, mut controllers) = (Vec::new(), Vec::new());
        let mut refused = String::new();
        for (wanted, place) in places {
            remove_stale(place);
            let folder = place.join(&name);
            let made = enable(version, place, wanted)
                .and_then(|()| fs::create_dir(&folder))
                .and_then(|()| enable(version, &folder, wanted))
                .map_err(|error| format!("{}: {error}", folder.display()));
            match made {
                Ok(()) => {
                    folders.push(folder);
                    controllers.extend(wanted);
                }
                Err(why) => {
                    let _ = fs::remove_dir(&folder);
                    refused = why;
                }
            }
        }
        let left = Mutex::default();
        let groups = Self { folders, version, controllers, left };
        match groups.controllers.is_empty() {
            true => Err(refused),
            false => Ok(groups),
        }
    }

    /// What is counted, for messages.
    pub(super) fn by(&self) -> String {
        format!("control groups {}: {}", self.version, self.controllers.join(", "))
    }

    pub(super) fn has_all(&self) -> bool {
        self.controllers.len() == CONTROLLERS.len()
    }

    /// Groups for one process with so much private memory, and the files through which it joins.
    pub(super) fn group(self: &Arc<Self>, memory_bytes: u64) -> io::Result<(Group, Vec<File>)> {
        self.clear();
        let name = NUMBERS.fetch_add(1, Ordering::Relaxed).to_string();
        let mut group = Group { folders: Vec::new(), groups: Arc::clone(self) };
        let mut doors = Vec::new();
        for folder in &self.folders {
            let folder = folder.join(&name);
            fs::create_dir(&folder)?;
            group.folders.push(folder.clone());
            let memory = (memory_bytes + BESIDE_BYTES).to_string();
            for (file, value, must) in [
                ("memory.limit_in_bytes", memory.as_str(), true),
                ("memory.memsw.limit_in_bytes", &memory, false),
                ("memory.max", &memory, true),
                ("memory.swap.max", "0", false),
                ("memory.oom.group", "1", false),
                ("pids.max", &PROCESSES_MAX.to_string(), true),
            ] {
                let file = folder.join(file);
                if file.exists() {
                    let written = fs::write(&file, value);
                    written.or_else(|error| if must { Err(error) } else { Ok(()) })?;
                }
            }
            doors.push(OpenOptions::new().write(true).open(folder.join("cgroup.procs"))?);
        }
        Ok((group, doors))
    }

    /// Removes what is empty by now.
    fn clear(&self) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|folder| fs::remove_dir(folder).is_err() && folder.exists());
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.clear();
        self.folders.iter().for_each(|folder| drop(fs::remove_dir(folder)));
    }
}

impl Group {
    /// Whether somebody in it was killed because its memory was used up.
    pub(in crate::execute) fn was_out_of_memory(&self) -> bool {
        let told = |file: PathBuf| fs::read_to_string(file).unwrap_or_default();
        let killed = |text: String| {
            let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok());
            count.unwrap_or(0u64) > 0
        };
        let files = ["memory.oom_control", "memory.events"];
        self.folders.iter().any(|folder| files.iter().any(|file| killed(told(folder.join(file)))))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let mut left = self.groups.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.append(&mut self.folders);
        drop(left);
        self.groups.clear();
    }
}

/// Removes what nodes left behind that are no more; a group that holds somebody stays.
fn remove_stale(place: &Path) {
    let folders = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten();
        let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
        folders.filter(|path| path.is_dir()).collect::<Vec<PathBuf>>()
    };
    for folder in folders(place) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let pid = name.strip_prefix("edgescale-").and_then(|rest| rest.split('-').next());
        let is_stale = pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists());
        if is_stale {
            folders(&folder).iter().for_each(|group| drop(fs::remove_dir(group)));
            let _ = fs::remove_dir(&folder);
        }
    }
}

/// Joins the groups; runs between fork and exec.
#[allow(unsafe_code)]
pub(super) fn join(doors: &[File]) -> io::Result<()> {
    for door in doors {
        // SAFETY: the descriptor is open and the one byte outlives the call.
        let written = unsafe { libc::write(door.as_raw_fd(), b"0".as_ptr().cast(), 1) };
        if written != 1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// In version 2, lets groups below `folder` have controllers.
fn enable(version: u8, folder: &Path, controllers: &[&str]) -> io::Result<()> {
    if version == 1 {
        return Ok(());
    }
    let wanted: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    let mut file = OpenOptions::new().write(true).open(folder.join("cgroup.subtree_control"))?;
    file.write_all(wanted.join(" ").as_bytes())
}

/// Folders in which groups may be made, and the controllers of each.
type Places = Vec<(Vec<&'static str>, PathBuf)>;

/// By which version there are groups, and where: the one with more controllers first, as a machine
/// may have some in each.
fn choices(own: &str, mounted: &str) -> Vec<(u8, Places)> {
    let mut choices = vec![(1, places_v1(own, mounted)), (2, places_v2(own, mounted))];
    choices.retain(|(_, places)| !places.is_empty());
    choices.sort_by_key(|(_, places)| {
        Reverse(places.iter().map(|(controllers, _)| controllers.len()).sum::<usize>())
    });
    choices
}

/// A mounted hierarchy: the group that its root is, where it lies, its kind and its options.
struct Mount<'a> {
    root: &'a str,
    point: &'a Path,
    kind: &'a str,
    options: &'a str,
}

fn mounts(text: &str) -> impl Iterator<Item = Mount<'_>> {
    text.lines().filter_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        let mut head = head.split(' ').skip(3);
        let (root, point) = (head.next()?, Path::new(head.next()?));
        let mut tail = tail.split(' ');
        let (kind, options) = (tail.next()?, tail.nth(1)?);
        Some(Mount { root, point, kind, options })
    })
}

impl Mount<'_> {
    /// The folder of a group, where this mount shows it: one outside of the namespace does not
    /// lie below (`/../other`).
    fn folder(&self, group: &str) -> Option<PathBuf> {
        let below = Path::new(group).strip_prefix(self.root).ok()?;
        let is_below = !below.components().any(|part| part == Component::ParentDir);
        is_below.then(|| self.point.join(below))
    }
}

/// The controllers of version 1, and the node's own group in the hierarchy of each.
fn places_v1(own: &str, mounted: &str) -> Places {
    let mut places = Places::new();
    for controller in CONTROLLERS {
        let is_it = |names: &str| names.split(',').any(|name| name == controller);
        let group = own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            is_it(parts.next()?).then(|| parts.next()).flatten()
        });
        let Some(group) = group else { continue };
        let mut mounts =
            mounts(mounted).filter(|mount| mount.kind == "cgroup" && is_it(mount.options));
        let Some(folder) = mounts.find_map(|mount| mount.folder(group)) else { continue };
        match places.iter_mut().find(|(_, other)| *other == folder) {
            Some((controllers, _)) => controllers.push(controller),
            None => places.push((vec![controller], folder)),
        }
    }
    places
}

/// The same in version 2. A group that holds processes gives its children no controllers, so a
/// node that was put into a leaf of its own, [`LEAF`], makes groups beside that.
fn places_v2(own: &str, mounted: &str) -> Places {
    let group = own.lines().find_map(|line| line.strip_prefix("0::"));
    let mut mounts = mounts(mounted).filter(|mount| mount.kind == "cgroup2");
    let folder = group.and_then(|group| mounts.find_map(|mount| mount.folder(group)));
    let Some(mut folder) = folder else { return Vec::new() };
    if folder.file_name().is_some_and(|name| name == LEAF) {
        folder.pop();
    }
    let offered = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    let has = |name: &&str| offered.split_whitespace().any(|offered| offered == *name);
    let controllers: Vec<&str> = CONTROLLERS.into_iter().filter(has).collect();
    match controllers.is_empty() {
        true => Vec::new(),
        false => vec![(controllers, folder)],
    }
}

#[cfg(test)]
mod tests;
