"""Task lists on a shared filesystem: how they are made, and what must be true of them at the end."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from runforrest import TaskList, defer
from runforrest.folder import layout
from runforrest.folder.fsio import FileOps
from runforrest.model.names import Name
from runforrest.results import load_task
from tests.folder.support import places
from tests.helpers import wait_for
from tests.hosts.machines import Machine

_numbers = count(1)


@dataclass
class Execution:
    """One time that a task was run: who did, and when, in seconds of the machine's clock."""

    attempt: str
    host: str
    begun: float
    last: float


class SharedList:
    """A list that several machines reach: ``path`` is where it is on the machine.

    It is made and looked at in folders of this machine, and copied from and to the shared filesystem: so
    what is read at the end has come through the mount of whoever is asked.
    """

    def __init__(self, machine: Machine, shared: Path, beat: float = 15.0, lease: int = 8) -> None:
        self.scratch = machine.scratch / f"list-{next(_numbers)}"
        self.log = self.scratch / "log"
        self.log.mkdir(parents=True)
        self.path = shared / self.scratch.name
        self.number = 0
        self._made = self.scratch / "made"
        self._tasks = TaskList(self._made)
        settings = json.loads((self._made / layout.SETTINGS).read_text())
        (self._made / layout.SETTINGS).write_text(json.dumps({**settings, "beat": beat, "lease": lease}))
        self._machine = machine

    def schedule(self, make: Callable[..., Any], *arguments: object, times: int = 1) -> SharedList:
        """``make(log, number, *arguments)``, so many times."""
        for _ in range(times):
            self._tasks.schedule(defer(make, str(self.log), self.number, *arguments))
            self.number += 1
        return self

    def put(self) -> SharedList:
        """Make it appear on the shared filesystem, from its first machine."""
        self._tasks.flush()
        self._machine.run("cp", "-r", str(self._made), str(self.path))
        return self

    # -- while it is at work ---------------------------------------------------------------

    def begun(self, host: str) -> int:
        """How many executions have begun there."""
        return sum(name.name.split(".")[2] == host for name in self.log.glob("*.begun"))

    def await_begun(self, host: str, number: int, seconds: float = 90) -> None:
        wait_for(lambda: self.begun(host) >= number, seconds, f"{host} begins {number} tasks")

    def enough(self) -> None:
        """Let the tasks end that are at work, wherever."""
        (self.log / "enough").touch()

    def executions(self) -> dict[int, list[Execution]]:
        """By task, in the order of their beginning."""
        found: dict[int, list[Execution]] = {}
        for file in self.log.glob("*.begun"):
            number, attempt, host = file.stem.split(".")
            ticks = file.with_suffix(".ticks")
            begun = file.stat().st_mtime
            last = ticks.stat().st_mtime if ticks.exists() else begun
            found.setdefault(int(number), []).append(Execution(attempt, host, begun, last))
        return {number: sorted(each, key=lambda e: e.begun) for number, each in found.items()}

    # -- at the end ------------------------------------------------------------------------

    def copy_of(self, machine: Machine) -> Path:
        """The whole list as this machine sees it."""
        copy = self.scratch / f"seen-by-{machine.name}-{next(_numbers)}"
        machine.run("cp", "-r", str(self.path), str(copy))
        return copy

    def remove(self) -> None:
        self._machine.run("rm", "-rf", str(self.path))
        shutil.rmtree(self.scratch)


@dataclass
class Result:
    """A finished list: what was found in it."""

    copy: Path                      # of the list, as the machine saw it
    published: Counter[str]         # tasks, by the host whose value was published
    taken_over: int                 # tasks that changed their runner
    repeated: int                   # executions above one per task


def check_finished(shared: SharedList, machine: Machine, torn: bool = False) -> Result:
    """Every task is in ``done`` once, with the value of the attempt that its name says, and that took place.

    torn  lines of the history may be, as a file server and its client, which don't see each other's locks, both wrote
    """
    copy = shared.copy_of(machine)
    found = places(copy)
    assert len(found) == shared.number, f"{shared.number - len(found)} tasks are lost"
    assert {where for each in found.values() for where in each} == {layout.DONE}, found
    assert all(len(each) == 1 for each in found.values()), "a task is in two places"
    executions = shared.executions()
    published: Counter[str] = Counter()
    numbers: Counter[int] = Counter()
    lost = 0
    for name in map(Name.parse, os.listdir(copy / layout.DONE)):
        assert name is not None
        number, me = load_task(FileOps(copy), layout.DONE, name).returnvalue
        _, attempt, host = me.split(".")
        assert attempt == name.attempt and attempt in {each.attempt for each in executions[number]}
        lost += name.lost > 0
        published[host] += 1
        numbers[number] += 1
    assert numbers == Counter(range(shared.number)), "each value once"
    _check_history(copy, shared.number, torn)
    return Result(copy, published, lost, sum(map(len, executions.values())) - shared.number)


def _check_history(copy: Path, tasks: int, torn: bool) -> None:
    """A hint for people; but it must not tell of two publications of one task."""
    lines = []
    for line in (copy / layout.HISTORY).read_text().splitlines():
        with suppress(*([ValueError] if torn else [])):
            lines.append(json.loads(line))
    told = Counter(line["task"] for line in lines if line["state"] == layout.DONE)
    assert max(told.values(), default=1) == 1, told
    assert len(told) <= tasks


def assert_one_after_the_other(shared: SharedList, off: Machine, other: Machine) -> None:
    """What was run twice: the machine that was cut off had ended it before the other began."""
    for first, second in (each for each in shared.executions().values() if len(each) > 1):
        assert (first.host, second.host) == (off.name, other.name)
        margin = second.begun - first.last
        print(f"a task on the host cut off was silent {margin:.1f} s before it began elsewhere")
        assert margin > 0


def leftovers(copy: Path) -> list[str]:
    """What is there besides tasks, results of attempts after a take-over, and late results.

    A journal that could not be merged when its runner left is no fault: it is a hint for people.
    """
    kept = (layout.TRIES, layout.DUP, layout.JOURNAL)
    return sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()
                  and path.suffix not in (".pkl", ".log") and path.name not in (layout.SETTINGS, layout.HISTORY)
                  and not str(path.relative_to(copy)).startswith(kept))
