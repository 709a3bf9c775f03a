"""The real program, killed at each of its file operations, and with errors injected into them, by strace.

A kill falls on the entry of the call, so the call does not take place; the state after it is the next one's.
strace counts the calls of one process: of the runner's own by their number in a first run, of a guard or a
child from where the task itself lets strace attach to it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from runforrest import TaskList, defer
from runforrest.folder import layout
from tests.helpers import wait_for

from .support import claim, finish, make, places, runner, schedule

Tried = Callable[[str, int], None]

NAMES = ("rename", "unlink", "mkdir", "rmdir")
CALLS = (*NAMES, "openat", "write", "ftruncate", "fsync")
POINTS = 40                     # of the runner's own, at most
ATTACH_SECONDS = 20.0
TASKS = 3
SILENT: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def strace_works() -> bool:
    if shutil.which("strace") is None:
        return False
    done = subprocess.run(["strace", "-qq", "-o", os.devnull, "-e", "inject=fsync:error=EIO:when=1", "true"],
                          stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


needs_strace = pytest.mark.skipif(not strace_works(), reason="needs strace (`apt-get install strace`), and leave to")


# -- tasks ---------------------------------------------------------------------------------------


def traced(number: int, whom: str, ask: str, dies: bool) -> int:
    """In its first attempt, ask for a tracer of this child, its guard or its runner; and wait until it is there."""
    if not os.path.exists(ask):
        child, guard = os.getpid(), os.getppid()
        victim = {"child": child, "guard": guard, "runner": parent_of(parent_of(guard))}[whom]
        status = os.open(f"/proc/{victim}/status", os.O_RDONLY)     # once: the next openat is not the task's own
        with open(ask, "w") as file:
            file.write(f"{victim}\n")
        deadline = time.monotonic() + ATTACH_SECONDS
        while b"TracerPid:\t0\n" in os.pread(status, 4096, 0) and time.monotonic() < deadline:
            time.sleep(0.001)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
    return number


def parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])


@contextmanager
def tracing(ask: Path, log: Path, inject: str, *threads: str) -> Iterator[None]:
    """Attach strace to whom a task asks for.  Not from below the guard, which stops all before it kills all."""
    found: list[subprocess.Popen[bytes]] = []

    def attach() -> None:
        pid = wait_for(lambda: ask.exists() and ask.read_text().endswith("\n") and ask.read_text(), ATTACH_SECONDS)
        found.append(subprocess.Popen(
            [*strace(log), "-e", f"inject={inject}", *threads, "-p", str(pid).strip()], **SILENT))

    thread = threading.Thread(target=attach)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        for tracer in found:
            try:
                tracer.wait(ATTACH_SECONDS)     # it ends with whom it traces
            except subprocess.TimeoutExpired:
                tracer.kill()
                tracer.wait()


# -- the runner ----------------------------------------------------------------------------------


def prepare(root: Path) -> None:
    """Tasks to run, each after the one before, and what a dead runner left: one that was at work, and one finished."""
    shutil.rmtree(root, ignore_errors=True)
    tasks = TaskList(root, durability="full")
    before: tuple[str, ...] = ()
    for number in range(TASKS):
        before = (tasks.schedule(defer(abs, -number), name=f"task{number}", crash_limit=10, backoff=0, after=before),)
    folder = make(root)
    runner(folder, "dead")
    os.rename(root / layout.HB / "dead@0", root / layout.HB / "dead@dead")
    claim(folder, folder.names("todo")[0], "dead")
    finish(folder, claim(folder, schedule(folder, "finished"), "dead"), "dead")


def strace(log: Path) -> list[str]:
    """With paths behind descriptors, and no contents."""
    return ["strace", "-qq", "-y", "-s", "0", "-o", str(log), "-e", "trace=" + ",".join(CALLS), "-e", "signal=none"]


def command(root: Path) -> list[str]:
    return [sys.executable, "-m", "runforrest", "run", "-n", "1", "--quiet", str(root)]


def run(root: Path, log: Path, *inject: str) -> int:
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([*strace(log), *inject, *command(root)], cwd=ROOT, env=environment, timeout=100, check=False,
                          **SILENT).returncode


def points(root: Path, log: Path) -> list[tuple[str, int]]:
    """What it changes below the list's folder: the call, and its number among those of its kind."""
    numbers: dict[str, int] = {}
    found = []
    for line in log.read_text(errors="replace").splitlines():
        call = line.partition("(")[0]
        if call not in CALLS:
            continue
        numbers[call] = numbers.get(call, 0) + 1
        if str(root) in line and (call != "openat" or re.search("O_CREAT|O_WRONLY|O_RDWR", line)):
            found.append((call, numbers[call]))
    return found


def hit(root: Path, log: Path) -> bool:
    """Whether the fault fell on an operation in the folder."""
    return any(str(root) in line and ("(INJECTED)" in line or line.rstrip().endswith("= ?"))
               for line in log.read_text(errors="replace").splitlines())


def bring_to_an_end(root: Path) -> None:
    """Each task is in one place, and a fresh runner brings it to done/, with its result."""
    found = set(places(root))
    assert all(len(where) == 1 for where in places(root).values()), places(root)
    tasks = TaskList(root, exist_ok=True, pre_clean=False)
    for _ in tasks.run(1):
        pass
    assert all(where == ["done"] for where in places(root).values()), places(root)
    assert set(places(root)) == found and len(found) == TASKS + 1
    values = sorted(task.returnvalue for task in tasks.done_tasks() if "task" in task.scheduled.id)
    assert values == list(range(TASKS))


def spread(found: list[tuple[str, int]], most: int) -> list[tuple[str, int]]:
    """At most so many, and the operations on names first: they are the protocol."""
    names = [point for point in found if point[0] in NAMES]
    others = [point for point in found if point[0] not in NAMES]
    return (names + others)[:most]


@needs_strace
@pytest.mark.parametrize("fault", ["signal=KILL", "error=EIO", "error=ENOSPC"])
def test_the_runner_at_each_of_its_file_operations(quick_folder: Path, fault: str, tried: Tried) -> None:
    root, log = quick_folder / "list", quick_folder / "log"
    prepare(root)
    assert run(root, log) == 0
    found = points(root, log)
    assert {call for call, _ in found} >= {*NAMES, "openat", "write"}, found
    hits = 0
    for call, number in spread(found, POINTS if "KILL" in fault else POINTS // 2):
        prepare(root)
        run(root, log, "-e", f"inject={call}:{fault}:when={number}")
        hits += hit(root, log)
        bring_to_an_end(root)
    assert hits > 10
    tried(f"the real runner at a file operation, {fault} by strace", hits)


@needs_strace
@pytest.mark.parametrize("fault", ["signal=KILL", "error=EIO", "error=ENOSPC"])
@pytest.mark.parametrize("whom, calls, least", [
    ("child", ["openat", "write"], 2), ("guard", ["openat", "write", "ftruncate"], 2),
    ("runner", ["fsync", "rename"], 2)])
def test_who_finishes_a_task_at_each_of_its_file_operations(
        quick_folder: Path, whom: str, calls: list[str], least: int, fault: str, tried: Tried) -> None:
    """The child writes the frame of its task; its guard that of a child that was killed; its runner moves it."""
    root, hits = quick_folder / "list", 0
    for call, number in product(calls, (1, 2)):
        shutil.rmtree(root, ignore_errors=True)
        log, ask = quick_folder / f"log-{call}-{number}", quick_folder / f"ask-{call}-{number}"
        tasks = TaskList(root, durability="full")
        tasks.schedule(defer(traced, number, whom, str(ask), whom == "guard"), name="task", crash_limit=10, backoff=0)
        with tracing(ask, log, f"{call}:{fault}:when={number}", *(["-f"] if whom == "runner" else [])):
            subprocess.run(command(root), cwd=ROOT, timeout=100, check=False, **SILENT)
        hits += hit(root, log)
        assert len(places(root).popitem()[1]) == 1
        for _ in tasks.run(1):
            pass
        assert places(root).popitem()[1] == ["done"]
        assert [task.returnvalue for task in tasks.done_tasks()] == [number]
    assert hits >= least
    tried(f"the real {whom} at a file operation, {fault} by strace", hits)
