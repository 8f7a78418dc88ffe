//! Starts processes: empty environment, own process group, fenced in, and gone when this program
//! is.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::fence::{Fence, Group, View, receive_listener};

/// How long the pauses get while code is busy.
const BUSY_PAUSE_MAX: Duration = Duration::from_millis(256);

/// What to execute.
#[derive(Clone, Debug)]
pub(in crate::execute) struct Program {
    file: PathBuf,
    arguments: Vec<String>,
    folder: PathBuf,
    environment: BTreeMap<String, String>,
    /// What it must be able to read, its folder included.
    read: Vec<PathBuf>,
    /// What its runtime takes beside the handler's own memory.
    runtime_memory_mb: u32,
}

impl Program {
    pub(in crate::execute) fn new(file: PathBuf, arguments: Vec<String>, folder: PathBuf) -> Self {
        let environment = BTreeMap::from([
            ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("HOME".to_owned(), "/tmp".to_owned()),
            ("TZ".to_owned(), "UTC".to_owned()),
        ]);
        let read = vec![folder.clone()];
        Self { file, arguments, folder, environment, read, runtime_memory_mb: 32 }
    }

    /// Lets it read and execute what lies at `path`.
    pub(in crate::execute) fn sees(mut self, path: &Path) -> Self {
        self.read.push(path.to_owned());
        self
    }

    /// Lets it read an interpreter's own libraries, which lie beside the folder it is in. Only
    /// those folders: what else lies there may be somebody's home.
    pub(super) fn sees_home_of(mut self, interpreter: &Path) -> Self {
        let Some(home) = interpreter.parent().and_then(Path::parent) else { return self };
        let parts = ["bin", "lib", "lib64", "conf", "share"].map(|part| home.join(part));
        self.read.extend(parts.into_iter().filter(|part| part.is_dir()));
        self
    }

    /// Allows for a runtime that is larger than most.
    pub(super) fn with_runtime_memory_mb(mut self, memory_mb: u32) -> Self {
        self.runtime_memory_mb = memory_mb;
        self
    }

    pub(super) fn runtime_memory_mb(&self) -> u32 {
        self.runtime_memory_mb
    }

    /// Adds an environment variable.
    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// Puts an argument before all others.
    pub(super) fn with_option(mut self, option: String) -> Self {
        self.arguments.insert(0, option);
        self
    }

    /// Whether it has this environment variable, or may not have it.
    pub(super) fn has(&self, name: &str) -> bool {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        self.environment.contains_key(name) || name.starts_with("LD_") || !name.chars().all(is_name)
    }

    /// Name of the executable, for messages.
    pub(in crate::execute) fn name(&self) -> String {
        self.file.display().to_string()
    }
}

/// The thread that forks. Linux ends a child with the *thread* that made it when the child asks
/// to go with its parent, so that thread must live as long as the children.
pub(in crate::execute) struct Spawner {
    requests: mpsc::Sender<Order>,
    fence: Arc<Fence>,
}

/// What was started.
pub(in crate::execute) struct Spawned {
    pub(in crate::execute) child: Child,
    /// The node's socket in the network of the process, where it has one of its own.
    pub(super) listener: Option<TcpListener>,
    /// What counts it with all that it forks, where that can be.
    pub(in crate::execute) group: Option<Group>,
}

/// What stands in place of a process' standard input and output.
pub(in crate::execute) struct Ends {
    pub(in crate::execute) stdin: OwnedFd,
    pub(in crate::execute) stdout: OwnedFd,
}

struct Order {
    program: Program,
    memory_bytes: u64,
    port: u16,
    ends: Option<Ends>,
    reply: oneshot::Sender<io::Result<Spawned>>,
}

impl Spawner {
    pub(super) fn start(runtime: Handle, fence: Arc<Fence>) -> io::Result<Self> {
        let (requests, orders) = mpsc::channel::<Order>();
        let walls = Arc::clone(&fence);
        thread::Builder::new().name("guest-starter".into()).spawn(move || {
            let _entered = runtime.enter();
            for order in orders {
                let started = start_patiently(&walls, &order);
                // Whoever ordered it may have gone; the child is then dropped, and killed.
                let _ = order.reply.send(started);
            }
        })?;
        Ok(Self { requests, fence })
    }

    /// Whether a process finds the node's socket in a network of its own.
    pub(super) fn has_own_network(&self) -> bool {
        self.fence.has_own_network()
    }

    /// Starts a program; `port` is where the node listens on the machine's network, if it does.
    /// Unless said, nothing comes in and what goes out can be read.
    pub(in crate::execute) async fn spawn(
        &self,
        program: Program,
        memory_bytes: u64,
        port: u16,
        ends: Option<Ends>,
    ) -> io::Result<Spawned> {
        let (reply, started) = oneshot::channel();
        let gone = |_| io::Error::other("the process starter has ended");
        self.requests
            .send(Order { program, memory_bytes, port, ends, reply })
            .map_err(|_| io::Error::other("the process starter has ended"))?;
        started.await.map_err(gone)?
    }
}

/// Code that was just written may be busy for a moment: a child that another thread forks meanwhile
/// has the file open until it becomes a program itself.
fn start_patiently(fence: &Fence, order: &Order) -> io::Result<Spawned> {
    let mut pause = Duration::from_millis(1);
    loop {
        match start(fence, order) {
            Err(e) if e.kind() == ErrorKind::ExecutableFileBusy && pause < BUSY_PAUSE_MAX => {
                thread::sleep(pause);
                pause *= 2;
            }
            started => return started,
        }
    }
}

fn start(fence: &Fence, order: &Order) -> io::Result<Spawned> {
    let program = &order.program;
    let view = View {
        read: program.read.clone(),
        folder: program.folder.clone(),
        memory_bytes: order.memory_bytes,
        port: order.port,
    };
    let (cage, socket, group) = fence.cage(&view)?;
    let mut command = std::process::Command::new(&program.file);
    command
        .args(&program.arguments)
        .current_dir(&program.folder)
        .env_clear()
        .envs(&program.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if let Some(Ends { stdin, stdout }) = &order.ends {
        command.stdin(stdin.try_clone()?).stdout(stdout.try_clone()?);
    }
    cage.around(&mut command);
    let child = Command::from(command).kill_on_drop(true).spawn()?;
    let listener = socket.map(|socket| receive_listener(&socket)).transpose()?;
    Ok(Spawned { child, listener, group })
}

/// Kills a process group; a group that is gone already is no error.
#[allow(unsafe_code)]
pub(in crate::execute) fn kill_group(leader: u32) {
    let Ok(leader) = libc::pid_t::try_from(leader) else { return };
    // SAFETY: sends a signal; `leader` is a child that was put in a group of its own.
    unsafe { libc::kill(-leader, libc::SIGKILL) };
}

pub(super) fn make_executable(file: &Path) -> io::Result<()> {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755))
}
