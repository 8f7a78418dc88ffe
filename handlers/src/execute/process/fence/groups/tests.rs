use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

const MOUNTS: &str = "\
30 22 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
31 22 0:27 /box /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 22 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 22 0:29 / /proc rw - proc proc rw
34 22
";

#[test]
fn groups_are_made_below_the_nodes_own() {
    let own = "5:memory:/user/7\n4:cpuacct,cpu:/box/a\n3:pids:/x\n0::/\n";
    let expected = [
        (vec!["memory"], PathBuf::from("/sys/fs/cgroup/memory/user/7")),
        (vec!["cpu"], PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/a")),
    ];
    assert_eq!(places_v1(own, MOUNTS), expected);
    // A group that this mount does not show, and no text at all.
    assert_eq!(places_v1("4:cpu:/elsewhere\n", MOUNTS), []);
    for (own, mounts) in [("", MOUNTS), (own, ""), ("::::\n4", "- - -\n x - y")] {
        assert_eq!(places_v1(own, mounts), []);
        assert_eq!(places_v2(own, mounts), []);
    }
}

/// A hierarchy of version 2 as the kernel shows it, as far as it is read: folders, and which
/// controllers each may give on.
fn unified(groups: &[(&str, &str)]) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    for (group, controllers) in groups {
        let folder = dir.path().join(group);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("cgroup.controllers"), format!("{controllers}\n")).unwrap();
    }
    let mount = format!("32 22 0:28 / {} rw - cgroup2 cgroup2 rw\n", dir.path().display());
    (dir, mount)
}

#[test]
fn in_version_2_they_are_made_beside_the_nodes_leaf() {
    let service = "system.slice/edgescale.service";
    let (dir, mount) =
        unified(&[(service, "cpuset cpu io memory pids"), ("", "cpu hugetlb"), ("user", "io")]);
    let at = |own: &str| places_v2(&format!("{own}\n"), &mount);
    let all = vec!["memory", "pids", "cpu"];
    let expected = [(all, dir.path().join(service))];
    assert_eq!(at(&format!("0::/{service}")), expected);
    assert_eq!(at(&format!("0::/{service}/node")), expected, "beside the leaf");
    assert_eq!(at("0::/"), [(vec!["cpu"], dir.path().to_owned())]);
    // No controller of ours, no such group, one that lies outside, none of version 2.
    for own in ["0::/user", "0::/gone", "0::/../user", "1:name=systemd:/", "0:/"] {
        assert_eq!(at(own), [], "{own}");
    }
    // A mount that shows less comes first.
    let part = "31 22 0:28 /other /elsewhere rw - cgroup2 cgroup2 rw\n";
    let own = format!("0::/{service}\n");
    assert_eq!(places_v2(&own, &format!("{part}{mount}")), expected);
}

#[test]
fn of_two_versions_the_one_with_more_is_taken() {
    let old = "30 22 0:26 / /old/memory rw - cgroup cgroup rw,memory\n\
               31 22 0:27 / /old/pids rw - cgroup cgroup rw,pids\n";
    let own = "2:pids:/\n1:memory:/\n0::/\n";
    let versions = |offered: &str, old: &str| {
        let (_dir, mount) = unified(&[("", offered)]);
        let choices = choices(own, &format!("{old}{mount}"));
        choices.into_iter().map(|(version, _)| version).collect::<Vec<u8>>()
    };
    assert_eq!(versions("", old), [1_u8], "as systemd calls hybrid: nothing is in the new one");
    assert_eq!(versions("cpu", old), [1_u8, 2]);
    assert_eq!(versions("cpu memory pids", old), [2_u8, 1]);
    assert_eq!(versions("cpu memory pids", ""), [2_u8]);
    assert!(versions("", "").is_empty());
}

#[test]
fn who_was_killed_for_memory_is_told_by_either_version() {
    let dir = tempfile::tempdir().unwrap();
    let groups =
        Groups { folders: vec![], version: 2, controllers: vec!["memory"], left: Mutex::default() };
    let group = Group { folders: vec![dir.path().to_owned()], groups: Arc::new(groups) };
    assert!(!group.was_out_of_memory(), "nothing is counted");
    for (file, none, one) in [
        ("memory.events", "low 0\nmax 7\noom 1\noom_kill 0\n", "oom 1\noom_kill 1\n"),
        ("memory.oom_control", "under_oom 0\noom_kill 0\n", "under_oom 0\noom_kill 2\n"),
    ] {
        let file = dir.path().join(file);
        for (text, expected) in [(none, false), ("oom_kill many\n", false), (one, true)] {
            fs::write(&file, text).unwrap();
            assert_eq!(group.was_out_of_memory(), expected, "{text}");
        }
        fs::remove_file(&file).unwrap();
    }
}

/// A process that forks is counted with its forks.
fn run(groups: &Arc<Groups>, memory_bytes: u64, script: &str) -> (String, bool) {
    use std::os::unix::process::CommandExt;
    let (group, doors) = groups.group(memory_bytes).unwrap();
    let mut command = Command::new("python3");
    command.args(["-I", "-c", script]).stdout(Stdio::piped());
    // SAFETY: between fork and exec it makes system calls on memory that is there already.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(move || join(&doors));
    }
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), group.was_out_of_memory())
}

#[test]
fn memory_and_processes_are_counted_over_forks() {
    let groups = match Groups::detect() {
        Ok(groups) => groups,
        Err(why) => return aloud::skipped!("no control groups here: {why}"),
    };
    if groups.version == 1 {
        aloud::skipped!("limits by control groups of version 2: they are of version 1 here");
    }
    if !groups.controllers.contains(&"memory") || !groups.controllers.contains(&"pids") {
        return aloud::skipped!("{} only", groups.by());
    }
    // Each fork stays below a limit of one process; together they do not.
    let script = "
import os, time
pipe = os.pipe()
for n in range(6):
    if os.fork() == 0:
        kept = bytearray(40 << 20)
        os.write(pipe[1], b'x')
        time.sleep(60)
os.close(pipe[1])
time.sleep(0.2)
ended = 0
deadline = time.time() + 5
while ended == 0 and time.time() < deadline:
    pid, status = os.waitpid(-1, os.WNOHANG)
    ended += pid != 0
    time.sleep(0.01)
print('ended' if ended else 'all lived', flush=True)
import signal
os.killpg(0, signal.SIGKILL)
";
    let script = format!("import os\nos.setpgid(0, 0)\n{script}");
    let (said, was_killed) = run(&groups, 64 << 20, &script);
    assert!(was_killed, "six times 40 MiB: {said}");
    let (said, was_killed) = run(&groups, 512 << 20, &script);
    assert_eq!((said.trim(), was_killed), ("all lived", false));

    let forks = "
import os, threading, time
count = 0
try:
    for count in range(200):
        threading.Thread(target=time.sleep, args=(2,), daemon=True).start()
except RuntimeError:
    pass
print(count, flush=True)
os._exit(0)
";
    let (said, _) = run(&groups, 512 << 20, forks);
    let count: u64 = said.trim().parse().unwrap();
    assert!((1..=PROCESSES_MAX).contains(&count), "{count} threads");

    // What a node left that is no more goes when the next one begins.
    let place = groups.folders[0].parent().unwrap();
    let stale = place.join(format!("edgescale-{}-0", u32::MAX));
    fs::create_dir_all(stale.join("7")).unwrap();
    drop(Groups::detect().unwrap());
    assert!(!stale.exists());

    // Nothing of it stays behind.
    let folders = groups.folders.clone();
    let started = Instant::now();
    loop {
        groups.clear();
        if groups.left.lock().unwrap().is_empty() {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "groups stay behind");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(groups);
    assert!(folders.iter().all(|folder| !folder.exists()));
}
