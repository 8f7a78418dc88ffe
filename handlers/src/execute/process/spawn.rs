//! Starts processes: empty environment, own process group, resource limits, no new rights, and
//! gone when this program is.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Most open files of a process.
const FILES_MAX: u64 = 256;
/// Largest file a process may write.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Stack of a process' main thread.
const STACK_BYTES_MAX: u64 = 8 << 20;

/// What to execute.
#[derive(Clone, Debug)]
pub(super) struct Program {
    file: PathBuf,
    arguments: Vec<String>,
    folder: PathBuf,
    environment: BTreeMap<String, String>,
}

impl Program {
    pub(super) fn new(file: PathBuf, arguments: Vec<String>, folder: PathBuf) -> Self {
        let environment = BTreeMap::from([
            ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("HOME".to_owned(), "/nonexistent".to_owned()),
            ("TZ".to_owned(), "UTC".to_owned()),
        ]);
        Self { file, arguments, folder, environment }
    }

    /// Adds an environment variable.
    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// Name of the executable, for messages.
    pub(super) fn name(&self) -> String {
        self.file.display().to_string()
    }
}

/// The thread that forks. Linux ends a child with the *thread* that made it when the child asks
/// to go with its parent, so that thread must live as long as the children.
pub(super) struct Spawner {
    requests: mpsc::Sender<Order>,
}

struct Order {
    program: Program,
    memory_bytes: u64,
    reply: oneshot::Sender<io::Result<Child>>,
}

impl Spawner {
    pub(super) fn start(runtime: Handle) -> io::Result<Self> {
        let (requests, orders) = mpsc::channel::<Order>();
        thread::Builder::new().name("guest-starter".into()).spawn(move || {
            let _entered = runtime.enter();
            for order in orders {
                let child = start(&order.program, order.memory_bytes);
                // Whoever ordered it may have gone; the child is then dropped, and killed.
                let _ = order.reply.send(child);
            }
        })?;
        Ok(Self { requests })
    }

    pub(super) async fn spawn(&self, program: Program, memory_bytes: u64) -> io::Result<Child> {
        let (reply, child) = oneshot::channel();
        let gone = |_| io::Error::other("the process starter has ended");
        self.requests
            .send(Order { program, memory_bytes, reply })
            .map_err(|_| io::Error::other("the process starter has ended"))?;
        child.await.map_err(gone)?
    }
}

#[allow(unsafe_code)]
fn start(program: &Program, memory_bytes: u64) -> io::Result<Child> {
    let mut command = Command::new(&program.file);
    command
        .args(&program.arguments)
        .current_dir(&program.folder)
        .env_clear()
        .envs(&program.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    // SAFETY: between fork and exec `restrict` makes only system calls that are safe there, on
    // values of its own stack.
    unsafe { command.pre_exec(move || restrict(memory_bytes)) };
    command.spawn()
}

fn restrict(memory_bytes: u64) -> io::Result<()> {
    limit(libc::RLIMIT_DATA, memory_bytes)?;
    limit(libc::RLIMIT_NOFILE, FILES_MAX)?;
    limit(libc::RLIMIT_FSIZE, FILE_BYTES_MAX)?;
    limit(libc::RLIMIT_STACK, STACK_BYTES_MAX)?;
    limit(libc::RLIMIT_CORE, 0)?;
    set_option(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    set_option(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)
}

#[allow(unsafe_code)]
fn limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `limit` outlives the call, which only reads it.
    check(unsafe { libc::setrlimit(resource, &limit) })
}

#[allow(unsafe_code)]
fn set_option(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: these options take one number and touch no memory.
    check(unsafe { libc::prctl(option, value, 0, 0, 0) })
}

/// Kills a process group; a group that is gone already is no error.
#[allow(unsafe_code)]
pub(super) fn kill_group(leader: u32) {
    let Ok(leader) = libc::pid_t::try_from(leader) else { return };
    // SAFETY: sends a signal; `leader` is a child that was put in a group of its own.
    unsafe { libc::kill(-leader, libc::SIGKILL) };
}

pub(super) fn make_executable(file: &Path) -> io::Result<()> {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o700))
}

fn check(code: libc::c_int) -> io::Result<()> {
    match code {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
