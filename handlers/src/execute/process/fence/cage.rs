//! The walls around one process, put up by itself between fork and exec. Everything that needs
//! memory is made before; what runs here are system calls on what is there.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use seccompiler::BpfProgram;

use super::landlock::Rules;
use super::root::Root;
use super::{filter, groups, net};

/// Processes and threads of one handler's process.
pub(super) const PROCESSES_MAX: u64 = 64;
/// Most open files of a process.
const FILES_MAX: u64 = 256;
/// Largest file a process may write.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Stack of a process' main thread.
const STACK_BYTES_MAX: u64 = 8 << 20;

pub(in crate::execute::process) struct Cage {
    pub(super) namespaces: Option<Namespaces>,
    pub(super) rules: Option<Rules>,
    pub(super) filters: Vec<BpfProgram>,
    /// For root where no other user can be had.
    pub(super) drops_rights: bool,
    /// Files of the control groups that it joins.
    pub(super) doors: Vec<File>,
    /// The user that root plays first, in tests.
    pub(super) start_as: Option<u32>,
    folder: CString,
    memory_bytes: u64,
}

pub(super) struct Namespaces {
    root: Root,
    /// Root becomes this user; any other keeps its own, in a user namespace.
    user: Option<u32>,
    socket: OwnedFd,
}

impl Namespaces {
    pub(super) fn new(root: Root, user: Option<u32>, socket: OwnedFd) -> Self {
        Self { root, user, socket }
    }
}

impl Cage {
    pub(super) fn new(folder: &Path, memory_bytes: u64) -> io::Result<Self> {
        Ok(Self {
            namespaces: None,
            rules: None,
            filters: Vec::new(),
            drops_rights: false,
            start_as: None,
            doors: Vec::new(),
            folder: text(folder)?,
            memory_bytes,
        })
    }

    /// Has the command's child put the walls up before it executes anything.
    #[allow(unsafe_code)]
    pub(in crate::execute::process) fn around(self, command: &mut Command) {
        // SAFETY: between fork and exec `enter` makes system calls on memory that is there
        // already; it allocates nothing and takes no lock.
        unsafe { command.pre_exec(move || self.enter()) };
    }

    fn enter(&self) -> io::Result<()> {
        groups::join(&self.doors)?;
        if let Some(user) = self.start_as {
            become_user(user)?;
            set_option(libc::PR_SET_DUMPABLE, 1)?;
        }
        if let Some(namespaces) = &self.namespaces {
            namespaces.enter()?;
        }
        change_folder(&self.folder)?;
        self.limit()?;
        if self.drops_rights {
            drop_rights()?;
        }
        set_option(libc::PR_SET_NO_NEW_PRIVS, 1)?;
        set_option(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)?;
        if let Some(rules) = &self.rules {
            rules.restrict()?;
        }
        // Only now: until it is another program it has all files of the node, which may be more.
        limit(libc::RLIMIT_NOFILE, FILES_MAX)?;
        self.filters.iter().try_for_each(filter::apply)
    }

    fn limit(&self) -> io::Result<()> {
        limit(libc::RLIMIT_DATA, self.memory_bytes)?;
        limit(libc::RLIMIT_FSIZE, FILE_BYTES_MAX)?;
        limit(libc::RLIMIT_STACK, STACK_BYTES_MAX)?;
        limit(libc::RLIMIT_CORE, 0)?;
        limit(libc::RLIMIT_MSGQUEUE, 0)?;
        match &self.namespaces {
            Some(_) => limit(libc::RLIMIT_NPROC, PROCESSES_MAX),
            None => Ok(()),
        }
    }
}

impl Namespaces {
    #[allow(unsafe_code)]
    fn enter(&self) -> io::Result<()> {
        let mut kinds =
            libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        if self.user.is_none() {
            kinds |= libc::CLONE_NEWUSER;
        }
        // SAFETY: these two ask for numbers and touch no memory.
        let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
        // SAFETY: this process has one thread, and the call touches no memory.
        check(unsafe { libc::unshare(kinds) })?;
        if self.user.is_none() {
            write_file(c"/proc/self/setgroups", b"deny")?;
            write_file(c"/proc/self/uid_map", Line::same(user).bytes())?;
            write_file(c"/proc/self/gid_map", Line::same(group).bytes())?;
        }
        net::give_listener(self.socket.as_raw_fd())?;
        self.root.build()?;
        match self.user {
            Some(user) => become_user(user),
            None => Ok(()),
        }
    }
}

/// A line `id id 1` of an id map, without an allocation.
struct Line {
    bytes: [u8; 24],
    len: usize,
}

impl Line {
    fn same(id: u32) -> Self {
        let mut line = Self { bytes: [0; 24], len: 0 };
        line.number(id);
        line.push(b' ');
        line.number(id);
        line.push(b' ');
        line.push(b'1');
        line
    }

    fn number(&mut self, number: u32) {
        if number >= 10 {
            self.number(number / 10);
        }
        self.push(b'0' + (number % 10) as u8);
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[allow(unsafe_code)]
fn become_user(user: u32) -> io::Result<()> {
    // SAFETY: an empty list is named by length 0 and is not read.
    check(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: takes numbers and touches no memory.
    check(unsafe { libc::setresgid(user, user, user) })?;
    // SAFETY: takes numbers and touches no memory.
    check(unsafe { libc::setresuid(user, user, user) })
}

/// Gives up every capability for good; the user stays.
#[allow(unsafe_code)]
fn drop_rights() -> io::Result<()> {
    const LAST: libc::c_ulong = 63;
    for right in 0..=LAST {
        // SAFETY: takes numbers; a capability that the kernel does not know is an error that
        // changes nothing.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, right, 0, 0, 0) };
    }
    // SECBIT_NOROOT and SECBIT_NOROOT_LOCKED of linux/securebits.h: being root gives nothing back.
    set_option(libc::PR_SET_SECUREBITS, 0b11)?;
    // The header and two empty sets of linux/capability.h, version 3.
    let header: [u32; 2] = [0x2008_0522, 0];
    let sets = [0u32; 6];
    // SAFETY: both arrays outlive the call, which only reads them.
    let code = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    check(code as libc::c_int)
}

#[allow(unsafe_code)]
fn change_folder(folder: &CString) -> io::Result<()> {
    // SAFETY: the text ends with a zero and outlives the call.
    check(unsafe { libc::chdir(folder.as_ptr()) })
}

#[allow(unsafe_code)]
fn limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` outlives the call, which fills it.
    check(unsafe { libc::getrlimit(resource, &mut now) })?;
    // Who is not root cannot raise a limit; a lower one is as good.
    let value = value.min(now.rlim_max);
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `limit` outlives the call, which only reads it.
    check(unsafe { libc::setrlimit(resource, &limit) })
}

#[allow(unsafe_code)]
fn set_option(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: these options take one number and touch no memory.
    check(unsafe { libc::prctl(option, value, 0, 0, 0) })
}

#[allow(unsafe_code)]
fn write_file(file: &std::ffi::CStr, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the name ends with a zero and outlives the call.
    let fd = unsafe { libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    check(fd)?;
    // SAFETY: `bytes` outlives the call, which reads no more than its length.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    let error = io::Error::last_os_error();
    // SAFETY: `fd` was opened above and is closed once.
    unsafe { libc::close(fd) };
    if written == bytes.len() as isize { Ok(()) } else { Err(error) }
}

pub(super) fn text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::other(format!("{} has a zero in its name", path.display())))
}

/// -1 is the error that the system noted.
pub(super) fn check(code: libc::c_int) -> io::Result<()> {
    match code {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
