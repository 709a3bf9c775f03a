"""The power is cut at any point of a run: what was promised by then is there, as far as the durability level goes.

none    nothing is forced: it survives the death of every process, no power cut
calls   each scheduled task is there, once, with its call; what was finished may run again
normal  … and each result that was reported is there when a runner has been about
full    … and is where it was reported to be, at once
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from runforrest.errors import NotATaskList
from runforrest.folder import attempts, identity, journal, layout, settings
from runforrest.folder.fsio import FileOps
from runforrest.folder.leases import Membership
from runforrest.folder.settings import DURABILITIES
from runforrest.folder.stored import ATTEMPT, StoredTask, side_records
from runforrest.folder.transitions import TaskFolder
from runforrest.model.names import Name

from .power import MODELS, Disk, Operation, Recorder, cut
from .support import call_of, claim, lease_of, make, payload_of, places, result_of, runner, schedule, with_lease, write

Tried = Callable[[str, int], None]

SCHEDULED, REPORTED = "scheduled", "reported"


def finish(folder: TaskFolder, fs: Recorder, mine: Name, who: str, state: str) -> None:
    """What child, forcer and runner do; only then it is reported."""
    record = {"frame": ATTEMPT, "attempt": mine.attempt, "number": mine.tries, "runner": who, "payload": "value",
              "outcome": "returned" if state == layout.DONE else "raised"}
    attempts.write_attempt(fs, f"doing/{who}/{mine}", mine, record, result_of(mine.id))
    folder.force_result(mine, who)
    assert folder.commit(mine, who, state)
    fs.promise(REPORTED, state, str(mine))


def history(root: Path, durability: str) -> list[Operation]:
    """Two tasks and two runners: one task fails and is moved back by hand, the other is taken over."""
    fs = Recorder(root)
    folder = TaskFolder(fs, settings.create(fs, durability))
    for id in ("a", "b"):
        schedule(folder, id)
    folder.force()
    fs.promise(SCHEDULED, "a", "b")
    runner(folder, "R0")
    first = claim(folder, Name("a"), "R0")
    finish(folder, fs, first, "R0", layout.FAIL)
    claim(folder, Name("b"), "R0")
    assert folder.requeue(first, layout.FAIL)
    other = Membership(TaskFolder(fs, lease_of(0, folder.settings)), "R1")
    other.register()
    assert other.beat() and other.watch() == ["R0"]
    for name in folder.names(layout.TODO):
        finish(folder, fs, claim(folder, name, "R1"), "R1", layout.DONE)
    other.leave()
    return fs.log


def recover(root: Path) -> TaskFolder:
    """A new runner after the machine came up again."""
    folder = with_lease(make(root), 0)
    with mock.patch.object(identity, "boot_id", lambda: "of the next boot"):
        last = Membership(folder, "rescue")
        last.folder.local = True
        last.register()
        for _ in range(4):
            last.watch()
            for name in folder.names(layout.TODO):
                mine = claim(folder, name, "rescue")
                write(folder.fs, f"doing/rescue/{mine}", mine, "rescue")
                assert folder.commit(mine, "rescue", layout.DONE)
        last.leave()
    journal.tidy(folder.fs)
    return folder


def promised(log: list[Operation]) -> tuple[set[str], list[tuple[str, Name]]]:
    """The tasks that were scheduled for good, and where each result was last reported to be."""
    tasks = {id for each in log if each.kind == "promise" and each.names[0] == SCHEDULED for id in each.names[1:]}
    results = []
    for each in log:
        if each.kind == "promise" and each.names[0] == REPORTED:
            name = Name.parse(each.names[2])
            assert name is not None
            results.append((each.names[1], name))
    return tasks, results


def attempts_of(folder: TaskFolder, id: str) -> set[str]:
    """All attempts of a task that have a record somewhere."""
    found = {record.get("attempt", "") for record in side_records(folder.fs, Name(id))}
    for state in (layout.TODO, layout.DONE, layout.FAIL):
        for name in folder.names(state):
            if name.id == id:
                task = StoredTask.open(folder.fs, f"{state}/{name}", name)
                found |= {record.get("attempt", "") for record in task.attempts}
    return found


class Examination:
    """Disks of one durability level, each looked at."""

    def __init__(self, root: Path, durability: str) -> None:
        self.root, self.durability = root, durability
        self.found: Counter[str] = Counter()

    def look_at(self, disk: Disk, log: list[Operation]) -> None:
        disk.build(self.root)
        try:
            tasks, results = promised(log)
            if self.durability == "full":
                self.reported_are_in_place(results, log)
            if self.durability == "none":       # its settings may be torn, and the message says what to do
                self.found["damaged settings"] += self.remove_damaged_settings()
            folder = recover(self.root)
            where = places(self.root)
            assert all(len(each) == 1 for each in where.values()), where
            if self.durability != "none":
                assert tasks <= set(where), f"lost: {tasks - set(where)}"
                self.calls_are_whole(folder, tasks)
            lost = [str(name) for _, name in results if name.attempt not in attempts_of(folder, name.id)]
            self.found["reported results that ran again"] += len(lost)
            missing = self.missing_results(folder)
            self.found["ended tasks without their result"] += len(missing)
            if self.durability in ("normal", "full"):
                assert not lost and not missing, (lost, missing)
            self.found["disks"] += 1
        finally:
            shutil.rmtree(self.root, ignore_errors=True)

    def remove_damaged_settings(self) -> bool:
        try:
            make(self.root)
        except NotATaskList as error:
            assert "remove it" in str(error)
            os.unlink(self.root / layout.SETTINGS)
            return True
        return False

    def reported_are_in_place(self, results: list[tuple[str, Name]], log: list[Operation]) -> None:
        moved = {each.names[0] for each in log if each.kind == "rename"}
        for state, name in results:
            if f"{state}/{name}" not in moved:
                assert os.path.exists(self.root / state / str(name)), f"{state}/{name} is not there at once"

    def calls_are_whole(self, folder: TaskFolder, tasks: set[str]) -> None:
        for state in (layout.DONE, layout.FAIL):
            for name in folder.names(state):
                if name.id not in tasks:
                    continue
                fd = folder.fs.open_read(f"{state}/{name}")
                try:
                    assert StoredTask.read(fd, name).call(fd) == call_of(name.id)
                finally:
                    os.close(fd)

    def missing_results(self, folder: TaskFolder) -> list[str]:
        """In done/ or fail/, without a whole result of the try that the name states."""
        return [f"{state}/{name}" for state in (layout.DONE, layout.FAIL) for name in folder.names(state)
                if payload_of(folder.fs, f"{state}/{name}", name) != result_of(name.id)]


def examine(folder: Path, durability: str, model: str, most: int, step: int) -> Counter[str]:
    log = history(folder / "run", durability)
    chance, seen = random.Random(1), set()
    examination = Examination(folder / "disk", durability)
    for end in range(1, len(log) + 1, step):
        part = log[:end]
        for disk in cut(part, model, chance, most):
            key = (disk.key(), sum(each.kind == "promise" for each in part))
            if key not in seen:
                seen.add(key)
                examination.look_at(disk, part)
    return examination.found


def check(folder: Path, durability: str, model: str, most: int, step: int, tried: Tried) -> None:
    found = examine(folder, durability, model, most, step)
    assert found["disks"]
    print(durability, model, dict(found))
    tried(f"disks after a power cut, durability {durability}", found["disks"])
    if durability in ("none", "calls"):
        assert found["reported results that ran again"], "nothing is ever lost: are the cuts still cuts?"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_power_cut(quick_folder: Path, durability: str, model: str, tried: Tried) -> None:
    check(quick_folder, durability, model, 2, 5, tried)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_power_cut_at_any_point(quick_folder: Path, durability: str, model: str, tried: Tried) -> None:
    check(quick_folder, durability, model, 25, 1, tried)


@pytest.mark.parametrize("durability", DURABILITIES)
def test_the_death_of_all_processes(quick_folder: Path, durability: str, tried: Tried) -> None:
    """Whatever the level, nothing is lost when only the processes are: the system still writes it all."""
    log = history(quick_folder / "run", durability)
    examination = Examination(quick_folder / "disk", "full")
    for end in range(1, len(log) + 1):
        whole = [*log[:end], Operation("syncfs")]
        for disk in cut(whole, "loose", random.Random(1), 1):
            examination.look_at(disk, whole)
    tried("deaths of all processes", examination.found["disks"])


@pytest.mark.parametrize("broken", ["frames are not forced", "calls are not forced", "moves are not forced"])
def test_a_write_that_is_not_forced_is_noticed(
        quick_folder: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    monkeypatch.setattr(*{"frames are not forced": (TaskFolder, "force_result", lambda *args: None),
                          "calls are not forced": (FileOps, "force_all", lambda self: None),
                          "moves are not forced": (TaskFolder, "force_published", lambda *args: None)}[broken])
    with pytest.raises(AssertionError):
        for model in MODELS:
            examine(quick_folder, "full", model, 10, 1)
