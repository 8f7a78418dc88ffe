#!/usr/bin/env python3
"""Interrupts a command as Ctrl-C does and checks that it leaves no process behind.

    check_interrupt.py make demo JSON=1

The command runs in a session of its own, with a mark in its environment that every process it
starts inherits. Once a tree is up (a nats-server and a node are seen), the whole group gets SIGINT.
Reads /proc, so it runs on Linux only.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time
import uuid

MARK = "EDGESCALE_CHECK_RUN"
START_S = 600  # a build may come first
STOP_S = 20


def main(command):
    mark = uuid.uuid4().hex
    child = subprocess.Popen(
        command, env={**os.environ, MARK: mark}, start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        seen = wait_for_tree(child, mark)
        os.killpg(child.pid, signal.SIGINT)
        left = wait_for_end(child, seen, mark)
    finally:
        for pid in marked(mark):
            os.kill(pid, signal.SIGKILL)
    if left:
        lines = "\n".join(f"  {pid}: {name}" for pid, name in sorted(left.items()))
        sys.exit(f"{STOP_S} s after SIGINT these processes are left:\n{lines}")
    print(f"SIGINT ended all {len(seen)} processes; exit code {child.returncode}")


def wait_for_tree(child, mark):
    """Processes of the command, by id, once servers and nodes are among them."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if child.poll() is not None:
            sys.exit(f"the command ended by itself with {child.returncode}")
        seen = marked(mark)
        names = list(seen.values())
        if any("nats-server" in n for n in names) and any(" node " in n for n in names):
            time.sleep(1)  # into the run, not only into its start
            return marked(mark) or seen
        time.sleep(0.05)
    sys.exit(f"no tree after {START_S} s")


def wait_for_end(child, seen, mark):
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline:
        child.poll()
        left = marked(mark) | {pid: name for pid, name in seen.items() if command_of(pid) == name}
        if child.returncode is not None and not left:
            return {}
        time.sleep(0.05)
    return left or {child.pid: " ".join(child.args)}


def marked(mark):
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            is_ours = wanted in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        name = command_of(int(folder.name))
        if is_ours and name:
            found[int(folder.name)] = name
    return found


def command_of(pid):
    """The command line; empty for a process that has ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
