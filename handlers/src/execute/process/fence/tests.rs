//! Programs that try to get out, behind each set of walls that a machine may permit.

use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::*;

/// Tries everything and prints what came of it: `null` for what was refused.
const ATTACKS: &str = include_str!("tests/attacks.py");

/// Nobody on most systems.
const SOMEBODY: u32 = 65_534;

struct Ground {
    dir: tempfile::TempDir,
    python: PathBuf,
}

impl Ground {
    /// A folder that every user can reach, or `None` said aloud.
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        open_to_all(dir.path());
        for name in ["point", "code", "secret"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            open_to_all(&dir.path().join(name));
        }
        std::fs::write(dir.path().join("secret/key"), "key").unwrap();
        std::fs::write(dir.path().join("code/attacks.py"), ATTACKS).unwrap();
        // The system's own is for every user.
        let system = PathBuf::from("/usr/bin/python3");
        let ask =
            || Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        let python = match (system.exists(), ask()) {
            (true, _) => system,
            (false, Ok(found)) => String::from_utf8(found.stdout).unwrap().trim().into(),
            (false, Err(_)) => {
                aloud::skipped!("no python3 here to attack with");
                return None;
            }
        };
        Some(Self { python: python.canonicalize().unwrap(), dir })
    }

    fn fence(&self, change: impl FnOnce(&mut Fence)) -> Fence {
        let mut fence = Fence::detect(&self.dir.path().join("point"));
        change(&mut fence);
        fence
    }

    fn start(&self, fence: &Fence, arguments: &[&str]) -> (Child, Option<TcpListener>) {
        let home = self.python.parent().and_then(Path::parent).unwrap();
        let view = View {
            read: vec![self.dir.path().join("code"), home.join("bin"), home.join("lib")],
            folder: self.dir.path().join("code"),
            memory_bytes: 96 << 20,
            port: 1,
        };
        let (cage, socket, _group) = fence.cage(&view).unwrap();
        let mut command = Command::new(&self.python);
        command.args(["-I", "attacks.py"]).args(arguments).env_clear().process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        cage.around(&mut command);
        let child = command.spawn().unwrap();
        (child, socket.map(|socket| receive_listener(&socket).unwrap()))
    }

    /// What became of all attacks.
    fn attack(&self, fence: &Fence) -> Value {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let unix = self.dir.path().join("secret/socket");
        let _unix = UnixListener::bind(&unix).unwrap();
        open_to_all(&unix);
        let about = json!({
            "secret": self.dir.path().join("secret"),
            "code": self.dir.path().join("code"),
            "tcp": tcp.local_addr().unwrap().port(),
            "udp": udp.local_addr().unwrap().port(),
            "unix": unix,
            "node": std::process::id(),
        });
        let (child, _listener) = self.start(fence, &[&about.to_string()]);
        let output = child.wait_with_output().unwrap();
        std::fs::remove_file(&unix).unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{error}: {} {complaint}", output.status);
        })
    }
}

fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
}

/// What nobody may do, whichever walls stand.
fn check_common(found: &Value) {
    let refused = [
        "read the machine's files",
        "read files of others",
        "list other folders",
        "write beside the code",
        "write to the system",
        "read the environment of the node",
        "list processes",
        "connect over tcp",
        "connect over ipv6",
        "send over udp",
        "raw sockets",
        "netlink",
        "another's unix socket",
        "vsock",
        "trace the node",
        "read the node's memory",
        "become root",
        "a user namespace",
        "a namespace by clone",
        "mount",
        "leave the process group",
        "leave the session",
        "shared memory",
        "memory without a file",
        "system v memory",
        "io_uring",
        "bpf",
        "kernel keys",
        "userfaultfd",
        "perf events",
        "handles of files",
        "load a module",
        "load a module's file",
        "restart the machine",
        "rename the host",
        "read the kernel's log",
        "set the clock",
        "chroot",
    ];
    for name in refused {
        assert_eq!(found.get(name), Some(&Value::Null), "{name}: {found:#}");
    }
    let bounded = |name: &str, most: u64| {
        let reached = found[name].as_u64().unwrap_or_else(|| panic!("{name}: {found:#}"));
        assert!((1..=most).contains(&reached), "{name}: {found:#}");
    };
    bounded("descriptors", 256);
    bounded("memory_mb", 96);
    assert_eq!(found["works"], json!([true, "attacks.py", 4]), "{found:#}");
}

/// Where namespaces stand.
fn check_namespaces(found: &Value) {
    check_common(found);
    assert_eq!(found["signal the node"], Value::Null, "{found:#}");
    let bounded = |name: &str, most: u64| {
        let reached = found[name].as_u64().unwrap_or_else(|| panic!("{name}: {found:#}"));
        assert!((1..=most).contains(&reached), "{name}: {found:#}");
    };
    bounded("forks", cage::PROCESSES_MAX);
    bounded("threads", cage::PROCESSES_MAX);
    bounded("disk_mb", 64);
    bounded("files", 4096);
}

#[test]
fn nothing_is_reached_from_inside_every_wall() {
    let Some(ground) = Ground::new() else { return };
    let fence = ground.fence(|_| {});
    if let Err(why) = &fence.facts.namespaces {
        aloud::skipped!("no namespaces here: {why}");
        return;
    }
    check_namespaces(&ground.attack(&fence));
    // Each wall alone.
    check_namespaces(&ground.attack(&ground.fence(|fence| fence.facts.landlock_abi = 0)));
}

#[test]
fn nothing_is_reached_where_the_node_is_no_root() {
    let Some(ground) = Ground::new() else { return };
    let fence = Fence::detect_as(&ground.dir.path().join("point"), Some(SOMEBODY));
    if !Fence::detect(&ground.dir.path().join("point")).facts.is_root {
        aloud::skipped!("not root; the other tests run as a user already");
        return;
    }
    if let Err(why) = &fence.facts.namespaces {
        aloud::skipped!("no user namespaces here: {why}");
        return;
    }
    if fence.facts.landlock_abi < 6 {
        eprintln!(
            "skipped: signals are fenced in by Landlock 6, here is {}",
            fence.facts.landlock_abi
        );
        return;
    }
    if !reachable_by_all(&ground.python) {
        aloud::skipped!("{} is for its owner only", ground.python.display());
        return;
    }
    check_namespaces(&ground.attack(&fence));
}

fn reachable_by_all(file: &Path) -> bool {
    let open = |path: &Path| {
        path.metadata().is_ok_and(|found| found.permissions().mode() & 0o005 == 0o005)
    };
    file.ancestors().all(open)
}

#[test]
fn landlock_alone_keeps_files_and_others_away() {
    let Some(ground) = Ground::new() else { return };
    let fence = ground.fence(|fence| fence.facts.namespaces = Err("taken away".into()));
    if fence.facts.landlock_abi < 6 {
        aloud::skipped!("Landlock {} here, 6 wanted", fence.facts.landlock_abi);
        return;
    }
    let found = ground.attack(&fence);
    check_common(&found);
    assert_eq!(found["signal the node"], Value::Null);
    assert_eq!(found["disk_mb"], 0, "there is no scratch folder");
}

#[test]
fn a_process_finds_the_nodes_socket_in_its_network() {
    let Some(ground) = Ground::new() else { return };
    let fence = ground.fence(|_| {});
    let (mut child, listener) = ground.start(&fence, &["connect"]);
    let Some(listener) = listener else {
        aloud::skipped!("no network namespaces here");
        child.kill().unwrap();
        child.wait().unwrap();
        return;
    };
    listener.set_nonblocking(false).unwrap();
    let (mut stream, from) = listener.accept().unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), from.ip().to_string().as_str()), ("hello", "127.0.0.1"));
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_is_open_is_said() {
    let groups = Grouped { by: Ok("control groups".into()), has_all: true };
    let whole =
        Facts { is_root: true, namespaces: Ok(()), landlock_abi: 7, filter: Ok(()), groups };
    assert!(rows(&whole).iter().all(|row| row.hold == Hold::Whole));
    let bare = Facts {
        is_root: false,
        namespaces: Err("not permitted".into()),
        landlock_abi: 0,
        filter: Err("not built in".into()),
        groups: Grouped { by: Err("not writable".into()), has_all: false },
    };
    for row in rows(&bare).iter().filter(|row| row.what != "memory, descriptors, file sizes") {
        assert_eq!(row.hold, Hold::Open, "{row:?}");
        assert!(row.by.contains("not "), "{row:?}");
    }
    let half = Facts { landlock_abi: 4, ..bare };
    let network = rows(&half).into_iter().find(|row| row.what.starts_with("network")).unwrap();
    assert_eq!(network.hold, Hold::Part);
}
