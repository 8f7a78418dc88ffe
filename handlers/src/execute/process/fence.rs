//! What keeps a process in. Between fork and exec a process loses everything but its code, the
//! system's programs and libraries, a scratch folder of its own and one socket, the node's. What
//! the machine permits is tried at start and never assumed: [`Fence::rows`] says what each row of
//! `docs/guides/sandbox.md` rests on here, and what is open.
//!
//! Two walls that do not need each other: namespaces with a user of their own, and Landlock. System
//! calls that no function needs are refused by a third (seccomp).

mod cage;
mod filter;
mod groups;
mod landlock;
mod net;
mod root;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Serialize;

pub(super) use self::cage::Cage;
pub(in crate::execute) use self::groups::Group;
pub(super) use self::net::{PORT, receive_listener};
pub(in crate::execute) use self::net::{pair, receive, send};

/// First of the user ids that processes get where the node is root. Neither a system nor a
/// container manager hands out ids from here on.
const USER_FIRST: u32 = 1_900_000_000;
/// User ids of one node; the next node on the machine begins behind them.
const USERS_PER_NODE: u32 = 1024;
/// Nodes that get ids of their own, by their process id.
const NODES: u32 = 1 << 16;

/// What a process is shown, and how much it may use.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// Files and folders that may be read and executed beside the system's.
    pub(super) read: Vec<PathBuf>,
    /// Where it starts.
    pub(super) folder: PathBuf,
    /// Private memory.
    pub(super) memory_bytes: u64,
    /// Port of the node's socket, where the process shares the machine's network.
    pub(super) port: u16,
}

/// What the machine permits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    is_root: bool,
    /// `Err` holds what was refused.
    namespaces: Result<(), String>,
    /// 0: none.
    landlock_abi: u32,
    filter: Result<(), String>,
    groups: Grouped,
}

/// What control groups count; `Err` holds why there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grouped {
    by: Result<String, String>,
    has_all: bool,
}

/// How well a row of the table holds here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hold {
    /// As documented.
    Whole,
    /// In part; the text says which part is open.
    Part,
    /// Not at all.
    Open,
}

/// One thing that processes are kept from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FenceRow {
    /// What is kept away.
    pub what: &'static str,
    /// How well.
    pub hold: Hold,
    /// By what, or why not.
    pub by: String,
}

type Walls = (Cage, Option<OwnedFd>, Option<Group>);

/// The walls that this machine permits.
pub(super) struct Fence {
    facts: Facts,
    groups: Option<Arc<groups::Groups>>,
    /// Empty folder that a process' root is built on.
    point: PathBuf,
    users: AtomicU32,
    /// Where root plays another user, in tests.
    pub(super) plays_user: Option<u32>,
}

impl Fence {
    /// Tries what works. `point` must be an empty folder that holds nothing a process is shown.
    pub(super) fn detect(point: &Path) -> Self {
        Self::detect_as(point, None)
    }

    fn detect_as(point: &Path, plays_user: Option<u32>) -> Self {
        // SAFETY: asks for a number and touches no memory.
        #[allow(unsafe_code)]
        let is_root = unsafe { libc::geteuid() } == 0 && plays_user.is_none();
        let landlock_abi = landlock::abi();
        let made = groups::Groups::detect();
        let groups = Grouped {
            has_all: made.as_ref().is_ok_and(|groups| groups.has_all()),
            by: made.as_ref().map(|groups| groups.by()).map_err(Clone::clone),
        };
        let facts = Facts { is_root, namespaces: Ok(()), landlock_abi, filter: Ok(()), groups };
        let (groups, users) = (made.ok(), AtomicU32::new(0));
        let mut fence = Self { facts, groups, point: point.to_owned(), users, plays_user };
        if let Err(error) = fence.try_out() {
            fence.facts.namespaces = Err(error.to_string());
            if let Err(error) = fence.try_out() {
                fence.facts.filter = Err(error.to_string());
            }
        }
        fence
    }

    /// Runs a program that does nothing, behind every wall.
    fn try_out(&self) -> io::Result<()> {
        let folder = PathBuf::from("/");
        let view = View { folder, memory_bytes: 64 << 20, port: 1, ..View::default() };
        let (cage, _socket, _group) = self.cage(&view)?;
        let mut command = Command::new("/bin/true");
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        cage.around(&mut command);
        match command.status()? {
            status if status.success() => Ok(()),
            status => Err(io::Error::other(format!("/bin/true {status}"))),
        }
    }

    /// Whether processes have a network of their own, with the node's socket in it.
    pub(super) fn has_own_network(&self) -> bool {
        self.facts.namespaces.is_ok()
    }

    /// The walls around one process, made before it is forked; and where the socket that the
    /// process' network has for the node will arrive, and what counts the process with its forks.
    pub(super) fn cage(&self, view: &View) -> io::Result<Walls> {
        let shown = root::Shown::new(&view.read);
        let mut cage = Cage::new(&view.folder, view.memory_bytes)?;
        cage.start_as = self.plays_user;
        let mut arrives = None;
        match self.facts.namespaces.is_ok() {
            true => {
                let (here, there) = net::pair()?;
                let user = self.facts.is_root.then(|| self.next_user());
                let root = root::Root::new(&self.point, &shown)?;
                cage.namespaces = Some(cage::Namespaces::new(root, user, there));
                cage.rules = landlock::Rules::inside(self.facts.landlock_abi)?;
                arrives = Some(here);
            }
            false => {
                cage.drops_rights = self.facts.is_root;
                let abi = self.facts.landlock_abi;
                cage.rules = landlock::Rules::around(abi, &shown, view.port)?;
            }
        }
        if self.facts.filter.is_ok() {
            cage.filters = filter::programs(self.has_own_network())?;
        }
        let group = match &self.groups {
            Some(groups) => {
                let (group, doors) = groups.group(view.memory_bytes)?;
                cage.doors = doors;
                Some(group)
            }
            None => None,
        };
        Ok((cage, arrives, group))
    }

    fn next_user(&self) -> u32 {
        let number = self.users.fetch_add(1, Ordering::Relaxed) % USERS_PER_NODE;
        USER_FIRST + (std::process::id() % NODES) * USERS_PER_NODE + number
    }

    /// What each row of the table rests on here.
    pub(super) fn rows(&self) -> Vec<FenceRow> {
        rows(&self.facts)
    }
}

fn rows(facts: &Facts) -> Vec<FenceRow> {
    let own_user = facts.namespaces.is_ok();
    let user = if facts.is_root { "a user id of its own" } else { "a user namespace of its own" };
    let why_not = facts.namespaces.clone().err().unwrap_or_default();
    let landlock = format!("Landlock {}", facts.landlock_abi);
    let row = |what, hold, by: String| FenceRow { what, hold, by };
    let both = |inside: &str| match facts.landlock_abi {
        0 => inside.to_owned(),
        _ => format!("{inside}; {landlock}"),
    };
    let files = match (own_user, facts.landlock_abi) {
        (true, _) => (Hold::Whole, both("a root folder of its own")),
        (false, 1..) => (Hold::Whole, format!("{landlock}; no root of its own: {why_not}")),
        (false, 0) => (Hold::Open, format!("no Landlock, no namespaces: {why_not}")),
    };
    let network = match (own_user, facts.landlock_abi) {
        (true, _) => (Hold::Whole, "a network of its own with one socket in it".to_owned()),
        (false, 4..) => (Hold::Part, format!("{landlock} by port only: {why_not}")),
        (false, _) => (Hold::Open, format!("no namespaces: {why_not}")),
    };
    let others = match (own_user, facts.landlock_abi) {
        (true, _) if facts.is_root => (Hold::Whole, both(user)),
        (_, 6..) => (Hold::Whole, both(if own_user { user } else { "no namespaces" })),
        (true, _) => (Hold::Part, "signals to the node's user: no Landlock 6".to_owned()),
        (false, _) => (Hold::Open, format!("no namespaces, no Landlock 6: {why_not}")),
    };
    let forks = match own_user {
        true => (Hold::Whole, format!("{} processes, {user}", cage::PROCESSES_MAX)),
        false => (Hold::Open, format!("no user to count by: {why_not}")),
    };
    let calls = match &facts.filter {
        Ok(()) => (Hold::Whole, "seccomp".to_owned()),
        Err(why) => (Hold::Open, format!("no seccomp: {why}")),
    };
    let groups = match &facts.groups {
        Grouped { by: Ok(by), has_all: true } => (Hold::Whole, by.clone()),
        Grouped { by: Ok(by), has_all: false } => (Hold::Part, format!("{by} only")),
        Grouped { by: Err(why), .. } => (Hold::Open, format!("no control groups: {why}")),
    };
    vec![
        row("files outside its code", files.0, files.1),
        row("network beyond the node's socket", network.0, network.1),
        row("other processes", others.0, others.1),
        row("fork bombs", forks.0, forks.1),
        row("system calls nobody needs", calls.0, calls.1),
        row("memory, descriptors, file sizes", Hold::Whole, "resource limits".into()),
        row("memory and cores of all it forks", groups.0, groups.1),
    ]
}

/// Tries the walls in a folder of its own, for `edgescale doctor`.
pub fn fence_report() -> io::Result<Vec<FenceRow>> {
    let point = std::env::temp_dir().join(format!("edgescale-fence-{}", std::process::id()));
    std::fs::create_dir_all(&point)?;
    let rows = Fence::detect(&point).rows();
    std::fs::remove_dir(&point)?;
    Ok(rows)
}

#[cfg(test)]
mod tests;
