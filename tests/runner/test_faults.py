"""A folder in trouble for a while: the runner waits, says so, and goes on; no result is dropped.

The faults come in through the one seam to the filesystem, in the runner, its guards and its children alike;
`test_full_disk` has the same with a real small disk, `tests/hosts` with real servers that stop.
"""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from runforrest import TaskList, defer
from tests.helpers import wait_for
from tests.runner.faults import VARIABLE, WRITES
from tests.runner.support import a_runner, all_gone, counts, lines, with_short_lease
from tests.tasks import log_and_sleep

HOOK = "tests.runner.faults:hook"
TASKS = 40
FAULTS = {
    "disk full": (errno.ENOSPC, "create write append mkdir"),
    "quota": (errno.EDQUOT, "create write append mkdir"),
    "read-only": (errno.EROFS, WRITES),
    "permission lost": (errno.EACCES, WRITES + " listdir exists"),
    "stale handle": (errno.ESTALE, WRITES + " listdir exists"),
    "I/O error": (errno.EIO, WRITES + " listdir exists"),
    "not connected": (errno.ENOTCONN, WRITES + " listdir exists"),
    "timed out": (errno.ETIMEDOUT, WRITES + " listdir exists"),
}


@pytest.fixture
def fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "fault"))
    return tmp_path / "fault"


def begin(fault: Path, text: str) -> None:
    """From one moment to the next."""
    fault.with_suffix(".new").write_text(text)
    os.rename(fault.with_suffix(".new"), fault)


@pytest.mark.parametrize("isolation", ["process", "reuse"])
@pytest.mark.parametrize("what", [what if what == "disk full" else pytest.param(what, marks=pytest.mark.slow)
                                  for what in FAULTS])
def test_a_fault_that_passes_costs_no_result(tasklist_dir: Path, tmp_path: Path, fault: Path, what: str,
                                             isolation: str, tried: Callable[[str, int], None]) -> None:
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    with_short_lease(tasklist_dir, 0.5, 100)
    for number in range(TASKS):
        tasks.schedule(defer(log_and_sleep, str(log), number, 0.05))
    code, operations = FAULTS[what]
    with a_runner(tasklist_dir, 2, isolation, hook=HOOK) as runner:
        wait_for(lambda: len(lines(log)) >= 5)
        begin(fault, f"{code} {operations}")
        time.sleep(1.5)                     # nothing to wait for: the point is that little happens
        begun = len(lines(log))
        time.sleep(1.0)
        assert len(lines(log)) <= begun + 1, "new tasks are started in a folder that is in trouble"
        assert runner.poll() is None, "the runner has given up"
        fault.unlink()
        text, _ = runner.communicate(timeout=60)
    assert runner.returncode == 0 and "left: done" in text
    assert "in trouble" in text and os.strerror(code) in text and "well again" in text
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": TASKS, "fail": 0}
    assert Counter(t.returnvalue for t in tasks.done_tasks()) == Counter(range(TASKS))
    executions = Counter(int(line.split()[0]) for line in lines(log))
    assert set(executions.values()) == {1}, "a result was dropped and made again"
    tried("faults of a folder survived", 1)


def test_a_server_that_hangs_for_longer_than_the_lease(tasklist_dir: Path, tmp_path: Path, fault: Path) -> None:
    """Every file operation hangs, the heartbeat and the loop's own: the tasks are dead before the lease is over."""
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    with_short_lease(tasklist_dir, 0.5, 6)
    for number in range(4):
        tasks.schedule(defer(log_and_sleep, str(log), number, 600.0))
    with a_runner(tasklist_dir, 2, hook=HOOK) as runner:
        wait_for(lambda: len(lines(log)) == 2)
        children = [psutil.Process(int(line.split()[1])) for line in lines(log)]
        hung = time.monotonic()
        begin(fault, f"hang {WRITES} listdir exists")
        wait_for(lambda: all_gone(children), 30, "the tasks of a runner that can't reach its folder end")
        took = time.monotonic() - hung
        fault.unlink()
        wait_for(lambda: len(lines(log)) == 4, 30, "it goes on, as nobody has taken over")
        runner.terminate()
        text, _ = runner.communicate(timeout=30)
    print(f"ended {took:.2f} s after the server hung, of a lease of 3 s")
    assert took < 3.0, "another runner may run them by now"        # not speed: the promise itself
    assert "could not be reached for 2 s: its tasks are ended" in text and "going on" in text
    assert counts(tasklist_dir) == {"todo": 4, "doing": 0, "done": 0, "fail": 0}
    assert all(t.attempts == [] for t in tasks.todo_tasks()), "uncounted"
