"""A host with a kernel of its own loses its power in the middle of a run, on ext4, XFS and Btrfs.

Its disks then hold what that kernel had written to them, and no more.  What the program was told before
the cut stands in a folder of this machine; so does who executed what.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runforrest.folder import layout
from runforrest.folder.fsio import FileOps
from runforrest.model.names import Name
from runforrest.results import load_task
from tests.folder.support import places
from tests.helpers import wait_for
from tests.hosts.machines import Host
from tests.install import missing_packages

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FILESYSTEMS = ("btrfs", "ext4", "xfs")          # in the order in which the host has its disks
TASKS, BEFORE = 90, 15                         # results that come back before the power goes
MKFS = {"btrfs": ["-q", "-f"], "ext4": ["-q", "-F"], "xfs": ["-q", "-f"]}

PROGRAM = """
import sys
from runforrest import TaskList, defer
from tests.hosts.work import tick
directory, durability, told, number = *sys.argv[1:4], int(sys.argv[4])
tasks = TaskList(directory, durability=durability)
for n in range(number):
    tasks.schedule(defer(tick, told, n, 0.3 if n < number - 30 else 200.0))     # the last wait to be told: `enough`
run = tasks.run(2, isolation="reuse")           # from here on what was scheduled is safe
open(f"{told}/scheduled", "x").close()
for task in run:
    open(f"{told}/{task.returnvalue[0]}.told", "x").close()
"""


@pytest.fixture
def host(hosts: list[Host]) -> Iterator[Host]:
    """One with an empty disk for each filesystem, mounted at /mnt/<its name>."""
    missing = {"xfsprogs", "btrfs-progs"}.intersection(missing_packages())
    if missing:
        pytest.skip(f"needs {', '.join(sorted(missing))}: python tests/install.py")
    host = hosts[2]
    host.power_off()
    disks = {fs: host.part.folder / f"{host.name}.{fs}.img" for fs in FILESYSTEMS}
    for fs, disk in disks.items():
        with disk.open("wb") as file:
            file.truncate(400 << 20)
        subprocess.run([f"mkfs.{fs}", *MKFS[fs], str(disk)], check=True, stdout=subprocess.DEVNULL)
    boot(host)
    yield host
    for disk in disks.values():
        disk.unlink()                           # the host is not at work on them, and does without after its next boot


def boot(host: Host) -> None:
    host.boot()
    for letter, fs in zip("bcd", FILESYSTEMS, strict=True):
        host.ssh(f"mkdir -p /mnt/{fs} && mount -t {fs} /dev/ubd{letter} /mnt/{fs}")


def told(folder: Path, suffix: str = "told") -> set[int]:
    return {int(file.name.split(".")[0]) for file in folder.glob(f"*.{suffix}")}


@pytest.mark.parametrize("durability", ["calls", "normal", "full"])
def test_power_loss(host: Host, tmp_path: Path, durability: str, tried: Callable[[str, int], None]) -> None:
    """No task is lost; with 'normal' and 'full', nothing that was told to be finished runs again."""
    logs = {fs: host.scratch / f"{tmp_path.name}-{fs}" for fs in FILESYSTEMS}
    for fs, log in logs.items():
        log.mkdir(parents=True)
        host.start([sys.executable, "-c", PROGRAM, f"/mnt/{fs}/tasks", durability, str(log), str(TASKS)])
    wait_for(lambda: all(len(told(log)) >= BEFORE for log in logs.values()), 120, "each list is under way")
    host.power_off()
    before = {fs: (told(log), executions(log)) for fs, log in logs.items()}
    for log in logs.values():
        (log / "enough").touch()
    boot(host)
    jobs = {fs: host.runner(Path(f"/mnt/{fs}/tasks"), 2, "--isolation", "reuse") for fs in FILESYSTEMS}
    for fs, job in jobs.items():
        assert job.wait(120) == 0, f"{fs}: {job.said()}"
    for fs, log in logs.items():
        known, first = before[fs]
        assert len(known) < TASKS, "the power went too late"
        copy = log / "copy"
        host.run("cp", "-r", f"/mnt/{fs}/tasks", str(copy))
        check_all_done(copy)
        again = {n for n, count in executions(log).items() if count > first[n] and n in known}
        print(f"{fs}, {durability}: {len(known)} of {TASKS} told before the cut, {len(again)} of them ran again")
        assert durability == "calls" or not again, f"{fs}: told to be finished, and run again: {sorted(again)}"
        tried(f"power cuts survived on {fs}", 1)


def executions(log: Path) -> Counter[int]:
    return Counter(int(file.name.split(".")[0]) for file in log.glob("*.begun"))


def check_all_done(copy: Path) -> None:
    found = places(copy)
    assert {where for each in found.values() for where in each} == {layout.DONE}, found
    assert all(len(each) == 1 for each in found.values()), "a task is in two places"
    names = [Name.parse(file.name) for file in (copy / layout.DONE).glob("*.pkl")]
    values = Counter(load_task(FileOps(copy), layout.DONE, name).returnvalue[0] for name in names if name)
    assert values == Counter(range(TASKS))
