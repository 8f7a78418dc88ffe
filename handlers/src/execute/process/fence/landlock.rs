//! Landlock (Documentation/userspace-api/landlock.rst of Linux): what a process may open, by
//! folder; which port it may connect to; and that it signals nobody outside. Spoken directly,
//! because rules are made after the process has its own root, where nothing may be allocated.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use super::cage::{check, text};
use super::root::{SCRATCH, SELF, Shown};

const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const TRUNCATE: u64 = 1 << 14;
const READ: u64 = EXECUTE | READ_FILE | READ_DIR;
/// What a rule for one file may name.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE;
/// Newest rights that each version of the interface knows; index is the version.
const FILE_RIGHTS: [u64; 6] =
    [0, (1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1];
const BIND_OR_CONNECT: u64 = 0b11;
const CONNECT: u64 = 0b10;
/// Abstract sockets and signals.
const SCOPES: u64 = 0b11;
const PATH_RULE: libc::c_int = 1;
const PORT_RULE: libc::c_int = 2;

/// `struct landlock_ruleset_attr`
#[repr(C)]
struct Handled {
    files: u64,
    ports: u64,
    scopes: u64,
}

/// `struct landlock_path_beneath_attr`
#[repr(C, packed)]
struct PathRule {
    rights: u64,
    place: libc::c_int,
}

/// `struct landlock_net_port_attr`
#[repr(C)]
struct PortRule {
    rights: u64,
    port: u64,
}

/// The version of the interface that this kernel speaks; 0 when it has none.
#[allow(unsafe_code)]
pub(super) fn abi() -> u32 {
    let nothing = std::ptr::null::<Handled>();
    // SAFETY: with no attributes and flag 1 (VERSION) the call only answers a number.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0, 1) };
    u32::try_from(version).unwrap_or(0)
}

/// What one process is allowed.
pub(super) struct Rules {
    handled: Handled,
    places: Vec<(CString, u64)>,
    port: Option<u16>,
}

impl Rules {
    /// For a process with a root and a network of its own: the second wall.
    pub(super) fn inside(abi: u32) -> io::Result<Option<Self>> {
        let Some(handled) = handled(abi, false) else { return Ok(None) };
        let all = handled.files;
        let places = vec![
            (text(Path::new("/"))?, READ),
            (text(Path::new(SCRATCH))?, all),
            (text(Path::new("/dev"))?, READ | WRITE_FILE),
        ];
        Ok(Some(Self { handled, places, port: None }))
    }

    /// For a process in the machine's own root and network: the only wall. It has no scratch
    /// folder.
    pub(super) fn around(abi: u32, shown: &Shown, port: u16) -> io::Result<Option<Self>> {
        let Some(handled) = handled(abi, true) else { return Ok(None) };
        let mut places = Vec::new();
        for path in shown.read.iter().map(|path| target(path)) {
            places.push((text(&path)?, if path.is_dir() { READ } else { READ & OF_FILES }));
        }
        for path in &shown.devices {
            places.push((text(path)?, READ_FILE | WRITE_FILE));
        }
        places.push((text(Path::new(SELF))?, READ));
        let port = (handled.ports != 0).then_some(port);
        Ok(Some(Self { handled, places, port }))
    }

    /// Puts the process under these rules for good. Runs between fork and exec.
    #[allow(unsafe_code)]
    pub(super) fn restrict(&self) -> io::Result<()> {
        let size = size_of::<Handled>();
        let handled = &self.handled as *const Handled;
        // SAFETY: the attributes, whose size is given, outlive the call, which only reads them.
        let set = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, handled, size, 0) };
        let set = set as libc::c_int;
        check(set)?;
        for (path, rights) in &self.places {
            add_path(set, path, rights & self.handled.files)?;
        }
        if let Some(port) = self.port {
            let rule = PortRule { rights: CONNECT, port: port.into() };
            add(set, PORT_RULE, (&raw const rule).cast())?;
        }
        // SAFETY: takes numbers and touches no memory.
        let code = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, set, 0) };
        // SAFETY: `set` was opened above and is closed once.
        unsafe { libc::close(set) };
        check(code as libc::c_int)
    }
}

fn handled(abi: u32, ports_too: bool) -> Option<Handled> {
    let newest = FILE_RIGHTS.len() - 1;
    let files = FILE_RIGHTS[(abi as usize).min(newest)];
    let ports = if ports_too && abi >= 4 { BIND_OR_CONNECT } else { 0 };
    let scopes = if abi >= 6 { SCOPES } else { 0 };
    (files != 0).then_some(Handled { files, ports, scopes })
}

fn target(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[allow(unsafe_code)]
fn add_path(set: libc::c_int, path: &CString, rights: u64) -> io::Result<()> {
    // SAFETY: the name ends with a zero and outlives the call.
    let place = unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    check(place)?;
    let rule = PathRule { rights, place };
    let added = add(set, PATH_RULE, (&raw const rule).cast());
    // SAFETY: `place` was opened above and is closed once.
    unsafe { libc::close(place) };
    added
}

#[allow(unsafe_code)]
fn add(set: libc::c_int, kind: libc::c_int, rule: *const libc::c_void) -> io::Result<()> {
    // SAFETY: `rule` points to the structure that `kind` names and outlives the call.
    let code = unsafe { libc::syscall(libc::SYS_landlock_add_rule, set, kind, rule, 0) };
    check(code as libc::c_int)
}
