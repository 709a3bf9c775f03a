"""Who a process is, and what can be proven of another one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runforrest.folder import identity
from runforrest.folder.identity import verdict


def me(**other: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(identity.identity())), **other}


@pytest.fixture
def dead() -> list[Any]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    entry = [process.pid, identity.start_time(process.pid)]
    process.communicate(b"\n")
    return entry


def test_i_am_alive() -> None:
    assert verdict(me(), local=True) == verdict(me(), local=False) == "alive"
    assert identity.start_time(os.getpid()) == identity.start_time(os.getpid()) is not None


def test_a_process_that_ended(dead: list[Any]) -> None:
    assert dead[1] is not None and identity.start_time(dead[0]) is None
    assert verdict(me(processes=[dead]), False) == "dead"
    mine = me()["processes"]
    assert verdict(me(processes=[dead, *mine]), False) == "ending"
    assert verdict(me(processes=[*mine, dead]), False) == "alive"


def test_a_zombie_has_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert identity.start_time(process.pid) is None
    finally:
        process.wait()


def test_a_pid_that_was_used_again() -> None:
    pid, started = me()["processes"][0]
    assert verdict(me(processes=[[pid, str(int(float(started)) - 1)]]), False) == "dead"
    assert verdict(me(processes=[[pid, None]]), False) == "dead"


def test_another_boot_proves_something_only_on_a_disk_of_this_machine() -> None:
    assert verdict(me(boot="before", local=True), local=True) == "dead"
    assert verdict(me(boot="before", local=True), local=False) == "unknown"
    assert verdict({}, local=True) == verdict(me(boot=None, local=True), local=True) == "unknown"


def test_on_a_file_server_its_clients_are_not_dead() -> None:
    """The folder is on a disk of this machine, but not to who has written this."""
    assert verdict(me(boot="the client's", local=False), local=True) == "unknown"
    assert verdict({k: v for k, v in me(boot="before").items() if k != "local"}, local=True) == "unknown"


def test_a_clone_of_this_machine_proves_nothing(dead: list[Any]) -> None:
    """It was copied while at work: the same boot, pids and pid namespace."""
    assert verdict(me(host="clone", processes=[dead]), local=False) == "unknown"


def test_another_container_proves_nothing(dead: list[Any]) -> None:
    assert verdict(me(pid_namespace="pid:[1]", processes=[dead]), True) == "unknown"


@pytest.mark.parametrize("processes", [None, [], [1], [[1]], [[1, 2, 3]], {}])
def test_what_is_malformed_proves_nothing(processes: object) -> None:
    assert verdict(me(processes=processes), True) == "unknown"


def test_the_host_may_stand_in_a_file_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kept in [("node1.cluster.org", "node1"), ("", "host"), ("a b/c@d", "a_b_c_d"), ("x" * 99, "x" * 40)]:
        monkeypatch.setattr(identity.socket, "gethostname", lambda name=name: name)
        assert identity.hostname() == kept


def test_which_filesystem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert identity.filesystem_type("/proc") == "proc"
    assert not identity.is_local("/proc")
    lines = ["1 0 8:1 / / rw - ext4 /dev/sda1 rw", "2 1 0:40 / /mnt/donn\u00e9es rw shared:1 - nfs4 server:/x rw",
             "3 1 0:41 / /mnt/two\\040words rw - fuse.sshfs there:/x rw", "4 1 0:42 / /mnt rw - tmpfs tmpfs rw",
             "5 1 0:43 / /mnt/back\\134slash rw - nfs server:/y rw"]
    table = tmp_path / "mountinfo"
    table.write_text("\n".join(lines) + "\n", "utf-8")
    real = open
    monkeypatch.setattr("builtins.open", lambda path, *args, **more: real(
        table if path == "/proc/self/mountinfo" else path, *args, **more))
    for path, kind in [("/mnt/donn\u00e9es/list", "nfs4"), ("/mnt/two words", "fuse.sshfs"), ("/mnt/other", "tmpfs"),
                       ("/mnt/two wordsx", "tmpfs"), ("/home", "ext4"), ("/mnt/back\\slash/x", "nfs")]:
        assert identity.filesystem_type(path) == kind
    assert identity.is_local("/home") and not identity.is_local("/mnt/donn\u00e9es/list")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="only root can mount")
def test_a_real_mount(tmp_path: Path) -> None:
    point = tmp_path / "two words"
    point.mkdir()
    if subprocess.run(["mount", "-t", "ramfs", "ramfs", str(point)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        assert identity.filesystem_type(str(point)) == "ramfs"
    finally:
        subprocess.run(["umount", str(point)], check=True)
