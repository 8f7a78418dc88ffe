//! The root folder of a process: the system's programs and libraries, its code, a scratch folder
//! in memory, a few devices. Nothing else exists in it, and nothing but the scratch folder can be
//! written.

use std::ffi::{CStr, CString};
use std::io;
use std::path::{Path, PathBuf};

use super::cage::{check, text};

/// What every program needs to be there; what a machine lacks is left out.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/proc/cpuinfo",
    "/proc/meminfo",
];
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
/// What a process may know of itself; loaders look there for where a program lies.
pub(super) const SELF: &str = "/proc/self";
/// Where a process may write.
pub(super) const SCRATCH: &str = "/tmp";
/// Size of the scratch folder and number of files in it.
const SCRATCH_OPTIONS: &CStr = c"size=64m,nr_inodes=4096,mode=1777";

/// What a process is shown, the system's part included.
pub(super) struct Shown {
    pub(super) read: Vec<PathBuf>,
    pub(super) devices: Vec<PathBuf>,
}

impl Shown {
    pub(super) fn new(own: &[PathBuf]) -> Self {
        let present = |path: &&&str| Path::new(path).symlink_metadata().is_ok();
        let mut read: Vec<PathBuf> = SYSTEM.iter().filter(present).map(PathBuf::from).collect();
        read.extend(java_settings());
        for path in own.iter().filter(|path| path.exists()) {
            if !read.iter().any(|known| path.starts_with(known)) {
                read.push(path.clone());
            }
        }
        let devices = DEVICES.iter().filter(present).map(PathBuf::from).collect();
        Self { read, devices }
    }
}

/// Java's settings lie apart from its libraries, one folder per version.
fn java_settings() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir("/etc") else { return Vec::new() };
    let is_java =
        |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("java-");
    entries.flatten().filter(is_java).map(|entry| entry.path()).collect()
}

pub(super) struct Root {
    point: CString,
    steps: Vec<Step>,
    /// Its folder below `point`, made when the root is.
    scratch: Step,
}

/// One thing to make below the new root.
enum Step {
    Folder(CString),
    File(CString),
    Link { to: CString, at: CString },
    Show { from: CString, at: CString },
}

impl Root {
    pub(super) fn new(point: &Path, shown: &Shown) -> io::Result<Self> {
        let inside = |path: &Path| point.join(path.strip_prefix("/").unwrap_or(path));
        let scratch = inside(Path::new(SCRATCH));
        let mut steps = Vec::new();
        for path in shown.read.iter().chain(&shown.devices) {
            let above: Vec<&Path> = path.ancestors().skip(1).collect();
            for folder in above.iter().rev().filter(|folder| folder.parent().is_some()) {
                steps.push(Step::Folder(text(&inside(folder))?));
            }
            let (at, kind) = (text(&inside(path))?, path.symlink_metadata()?.file_type());
            if kind.is_symlink() {
                steps.push(Step::Link { to: text(&std::fs::read_link(path)?)?, at });
                continue;
            }
            steps.push(if kind.is_dir() {
                Step::Folder(at.clone())
            } else {
                Step::File(at.clone())
            });
            steps.push(Step::Show { from: text(path)?, at });
        }
        let itself = text(&inside(Path::new(SELF)))?;
        steps.push(Step::Folder(text(&inside(Path::new("/proc")))?));
        steps.push(Step::Folder(itself.clone()));
        // A link that leads each process to its own folder: here that of the one that follows it.
        steps.push(Step::Show { from: text(Path::new(SELF))?, at: itself });
        Ok(Self { point: text(point)?, steps, scratch: Step::Folder(text(&scratch)?) })
    }

    /// Builds it and makes it the root, in a mount namespace of its own.
    pub(super) fn build(&self) -> io::Result<()> {
        const CLOSED: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV;
        mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None)?;
        let sizes = Some(c"size=1m,mode=755");
        mount(Some(c"tmpfs"), &self.point, Some(c"tmpfs"), CLOSED, sizes)?;
        // Before what is shown: that may lie below it.
        self.scratch.make()?;
        mount(Some(c"tmpfs"), self.scratch.at(), Some(c"tmpfs"), CLOSED, Some(SCRATCH_OPTIONS))?;
        self.steps.iter().try_for_each(Step::make)?;
        set_attributes(&self.point, libc::AT_RECURSIVE, READ_ONLY | NO_RIGHTS, 0)?;
        set_attributes(self.scratch.at(), 0, 0, READ_ONLY)?;
        turn_to(&self.point)
    }
}

impl Step {
    fn at(&self) -> &CStr {
        match self {
            Self::Folder(at) | Self::File(at) | Self::Link { at, .. } | Self::Show { at, .. } => at,
        }
    }

    #[allow(unsafe_code)]
    fn make(&self) -> io::Result<()> {
        let made = match self {
            // SAFETY: the name ends with a zero and outlives the call.
            Self::Folder(at) => check(unsafe { libc::mkdir(at.as_ptr(), 0o755) }),
            // SAFETY: the name ends with a zero and outlives the call.
            Self::File(at) => check(unsafe { libc::mknod(at.as_ptr(), libc::S_IFREG | 0o644, 0) }),
            // SAFETY: both names end with a zero and outlive the call.
            Self::Link { to, at } => check(unsafe { libc::symlink(to.as_ptr(), at.as_ptr()) }),
            Self::Show { from, at } => {
                mount(Some(from), at, None, libc::MS_BIND | libc::MS_REC, None)
            }
        };
        match made {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            other => other,
        }
    }
}

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// `MOUNT_ATTR_RDONLY`
const READ_ONLY: u64 = 1;
/// `MOUNT_ATTR_NOSUID`
const NO_RIGHTS: u64 = 2;

/// Unlike a remount this leaves flags that belong to another user namespace as they are.
#[allow(unsafe_code)]
fn set_attributes(point: &CStr, flags: libc::c_int, set: u64, clear: u64) -> io::Result<()> {
    let wanted = MountAttributes { set, clear, propagation: 0, user_namespace: 0 };
    // SAFETY: the name ends with a zero; it and `wanted`, whose size is given, outlive the call.
    let code = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            point.as_ptr(),
            flags,
            &wanted as *const MountAttributes,
            size_of::<MountAttributes>(),
        )
    };
    check(code as libc::c_int)
}

/// Makes `point` the root and lets go of the old one.
#[allow(unsafe_code)]
fn turn_to(point: &CStr) -> io::Result<()> {
    // SAFETY: the name ends with a zero and outlives the call.
    check(unsafe { libc::chdir(point.as_ptr()) })?;
    // SAFETY: as above; with both names the same the old root lies on top of the new one.
    let code = unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) };
    check(code as libc::c_int)?;
    // SAFETY: the name ends with a zero and outlives the call.
    check(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) })
}

#[allow(unsafe_code)]
fn mount(
    from: Option<&CStr>,
    at: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
    options: Option<&CStr>,
) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    let (from, kind, options) = (pointer(from), pointer(kind), pointer(options));
    // SAFETY: every text ends with a zero and outlives the call, and what is absent is null.
    check(unsafe { libc::mount(from, at.as_ptr(), kind, flags, options.cast()) })
}
