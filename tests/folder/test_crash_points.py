"""A crash, and an error, at every single file operation of every transition.

After a crash, a new runner must bring each task to exactly one place, with its result.  After an error,
the call has either succeeded or raised that error, and nothing is lost or doubled.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runforrest.folder import attempts, cleaning, journal, layout
from runforrest.folder.cancelling import Canceller
from runforrest.folder.fsio import FileOps
from runforrest.folder.gate import ANYHOW
from runforrest.folder.gates import Gates
from runforrest.folder.leases import Membership
from runforrest.folder.stored import StoredTask
from runforrest.folder.transitions import TaskFolder
from runforrest.model.names import Name

from .support import (
    claim,
    finish,
    make,
    payload_of,
    places,
    result_of,
    runner,
    schedule,
    schedule_after,
    with_lease,
    write,
)

ERRORS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.ESTALE, errno.ETIMEDOUT,
          errno.ENOTCONN]
Tried = Callable[[str, int], None]


class Crash(BaseException):
    """The process is gone: nothing that comes after this happens."""


class Nth(FileOps):
    """Something happens at the n-th operation; then, for a crash, nothing at all happens any more."""

    def __init__(self, root: str | os.PathLike[str], number: int, error: BaseException | None,
                 after: bool = False) -> None:
        super().__init__(root)
        self.number, self.error, self.late = number, error, after
        self.seen = 0
        self.what: tuple[object, ...] = ()

    def before(self, operation: str, *args: object) -> None:
        if not self.late:
            self._count(operation, *args)
        elif isinstance(self.error, Crash) and self.what:
            raise self.error

    def after(self, operation: str, *args: object) -> None:
        if self.late:
            self._count(operation, *args)

    def _count(self, operation: str, *args: Any) -> None:
        self.seen += 1
        if self.error is None or self.seen < self.number:
            return
        if self.seen > self.number and not isinstance(self.error, Crash):
            return
        self.what = self.what or (operation, *args)
        if isinstance(self.error, Crash) and self.seen == self.number and operation == "write":
            data = b"".join(args[1])
            with open(self.path(args[0]), "ab") as file:
                file.write(data[:len(data) // 2])
        raise self.error


@dataclass
class Case:
    """A transition: how the list is prepared, what is done, and the ids that must be there afterwards."""

    prepare: Callable[[TaskFolder], Any]
    act: Callable[[TaskFolder, Any], object]
    optional: tuple[str, ...] = ()             # tasks that may or may not be there afterwards
    errors: bool = True
    failing: tuple[str, ...] = ()              # tasks that are not run, as what they wait for has failed


def claimed(folder: TaskFolder) -> Name:
    runner(folder, "R")
    return claim(folder, schedule(folder, "x"), "R")


def taken_over(folder: TaskFolder) -> Name:
    mine = claimed(folder)
    folder.fs.rename(f"doing/R/{mine}", f"doing/R/{mine.taken()}")
    return mine.taken()


def finished(folder: TaskFolder) -> Name:
    mine = claimed(folder)
    finish(folder, mine, "R")
    return mine


def with_a_torn_frame(folder: TaskFolder) -> Name:
    mine = claimed(folder)
    folder.fs.append(f"doing/R/{mine}", [b"torn"])
    return mine


def dead_runner(folder: TaskFolder) -> None:
    """One that died with a task at work, a finished one, and one that was taken over before."""
    runner(folder, "D")
    claim(folder, schedule(folder, "x"), "D")
    finish(folder, claim(folder, schedule(folder, "y"), "D"), "D")
    third = claim(folder, schedule(folder, "z"), "D")
    folder.fs.rename(f"doing/D/{third}", f"doing/D/{third.taken()}")
    finish(folder, third.taken(), "D")
    schedule(folder, "w")
    folder.fs.create(f"{layout.JOURNAL}/D.jsonl", [b"{}\n"])
    folder.fs.create(f"{layout.TMP}/D.slot0.log", [b"output"])
    runner(folder, "J")


def judge(folder: TaskFolder) -> Membership:
    member = Membership(with_lease(folder, 0), "J")
    member.folder.local = False
    return member


def finish_and_commit(folder: TaskFolder, mine: Name, cut: int | None = None) -> bool:
    write(folder.fs, f"doing/R/{mine}", mine, "R", cut=cut)
    attempts.force_attempt(folder.fs, f"doing/R/{mine}", mine)
    return folder.commit(mine, "R", "done")


def failed(folder: TaskFolder) -> Name:
    mine = finished(folder)
    folder.commit(mine, "R", "fail")
    return mine


def cut_of(folder: TaskFolder, mine: Name) -> int:
    return os.stat(folder.fs.path(f"doing/R/{mine}")).st_size - len(b"torn")


def leave(folder: TaskFolder, mine: Name) -> None:
    member = Membership(folder, "R")
    lines = journal.Journal(folder.fs, "R")
    lines.add(Name("x"), "done", {"n": 1})
    lines.close()
    member.leave()
    if not member.peers():
        journal.tidy(folder.fs)


def chain(folder: TaskFolder) -> Name:
    """x and y wait for p, z for x, and w, however they end, for p and y; p has been run."""
    runner(folder, "R")
    mine = claim(folder, schedule(folder, "p"), "R")
    schedule_after(folder, "x", "p")
    schedule_after(folder, "y", "p")
    schedule_after(folder, "z", "x")
    schedule_after(folder, "w", "p", "y", even_if_failed=True)
    finish(folder, mine, "R")
    return mine


def chain_of_a_failure(folder: TaskFolder) -> Name:
    runner(folder, "R")
    mine = claim(folder, schedule(folder, "p"), "R")
    finish(folder, mine, "R", "raised")
    schedule_after(folder, "x", "p")
    schedule_after(folder, "y", "p")
    schedule_after(folder, "z", "x", "y")
    schedule_after(folder, "w", "p", even_if_failed=True)
    return mine


def chain_that_failed(folder: TaskFolder) -> list[Name]:
    end_and_tell(folder, chain_of_a_failure(folder), "fail")
    return list(folder.names("fail"))


def end_and_tell(folder: TaskFolder, mine: Name, state: str) -> None:
    assert folder.commit(mine, "R", state)
    Gates(folder).ended((mine.id, state))


CASES = {
    "schedule": Case(lambda folder: schedule(folder, "w"), lambda folder, _: schedule(folder, "x"), optional=("x",)),
    "schedule after tidying": Case(lambda folder: journal.tidy(folder.fs), lambda folder, _: schedule(folder, "x"),
                                   optional=("x",)),
    "register": Case(lambda folder: schedule(folder, "x"), lambda folder, _: Membership(folder, "R").register()),
    "register after tidying": Case(lambda folder: (schedule(folder, "x"), journal.tidy(folder.fs)),
                                   lambda folder, _: Membership(folder, "R").register()),
    "claim": Case(lambda folder: (schedule(folder, "x"), runner(folder, "R"))[0],
                  lambda folder, name: folder.claim(name, "R")),
    "beat": Case(claimed, lambda folder, _: Membership(folder, "R").beat()),
    "finish": Case(claimed, finish_and_commit),
    "finish after a take-over": Case(taken_over, finish_and_commit),
    "finish what a child has torn": Case(with_a_torn_frame,
                                         lambda folder, mine: finish_and_commit(folder, mine, cut_of(folder, mine))),
    "commit": Case(finished, lambda folder, mine: folder.commit(mine, "R", "done")),
    "commit without done/": Case(lambda folder: (finished(folder), os.rmdir(folder.fs.path("done")))[0],
                                 lambda folder, mine: folder.commit(mine, "R", "done")),
    "release": Case(claimed, lambda folder, mine: folder.release(mine, "R")),
    "requeue": Case(failed, lambda folder, mine: folder.requeue(mine, "fail")),
    "leave": Case(claimed, leave),
    "reclaim": Case(dead_runner, lambda folder, _: judge(folder).watch()),
    "wait": Case(lambda folder: (schedule(folder, "p"), schedule_after(folder, "x", "p")),
                 lambda folder, _: schedule_after(folder, "y", "p", "x"), optional=("y",)),
    "wait for what is in doing": Case(claimed, lambda folder, _: schedule_after(folder, "y", "x"), optional=("y",)),
    "wait for what has failed": Case(chain_that_failed, lambda folder, _: schedule_after(folder, "v", "w", "y"),
                                     optional=("v",), failing=("p", "x", "y", "z", "v")),
    "let go": Case(chain, lambda folder, mine: end_and_tell(folder, mine, "done")),
    "fail what waits": Case(chain_of_a_failure, lambda folder, mine: end_and_tell(folder, mine, "fail"),
                            failing=("p", "x", "y", "z")),
    "sweep": Case(lambda folder: folder.commit(chain(folder), "R", "done"), lambda folder, _: Gates(folder).sweep()),
    "sweep failures": Case(lambda folder: folder.commit(chain_of_a_failure(folder), "R", "fail"),
                           lambda folder, _: Gates(folder).sweep(), failing=("p", "x", "y", "z")),
    "try a chain again": Case(chain_that_failed, lambda folder, names: Gates(folder).requeue(names),
                              failing=("p", "x", "y", "z")),
    "cancel what waits": Case(lambda folder: (schedule(folder, "p"), schedule_after(folder, "x", "p"),
                                              schedule_after(folder, "y", "x")),
                              lambda folder, _: Canceller(folder, ["x"]).look(), failing=("x", "y")),
    "clean": Case(dead_runner, lambda folder, _: cleaning.clean(folder.fs), optional=("w", "x", "y", "z")),
}


def operations(case: Case, root: Path, durability: str, after: bool = False) -> int:
    """How many there are in this transition."""
    folder = make(root, durability)
    prepared = case.prepare(folder)
    fs = Nth(root, 0, None, after)
    case.act(TaskFolder(fs, folder.settings), prepared)
    shutil.rmtree(root, ignore_errors=True)
    return fs.seen


def prepare(case: Case, root: Path, durability: str) -> tuple[TaskFolder, Any, set[str]]:
    folder = make(root, durability)
    prepared = case.prepare(folder)
    return folder, prepared, set(places(root)) - set(case.optional)


def check(root: Path, ids: set[str], case: Case) -> None:
    found = places(root)
    assert ids <= set(found) <= ids | set(case.optional)
    assert all(len(where) == 1 for where in found.values()), found
    check_order(FileOps(root), {id: where for id, (where,) in found.items()}, case is CASES["try a chain again"])


def check_order(fs: FileOps, where: dict[str, str], again: bool) -> None:
    """Nothing can be run before what it waits for is done.  ``again``: or has ended once."""
    for id, folder in where.items():
        if not folder.startswith((layout.WAITING, layout.FAIL)):
            (file,) = (file for file in os.listdir(fs.path(folder)) if file.split(".")[0] == id)
            name = Name.parse(file)
            assert name is not None
            after = StoredTask.open(fs, f"{folder}/{file}", name).envelope.get("after") or {}
            anyhow = str(after.get("gate")).endswith(ANYHOW)
            for other in () if again and anyhow else after.get("ids", ()):
                fine = (layout.DONE, layout.FAIL) if anyhow else (layout.DONE,)
                assert where[other] in fine, f"{id} is in {folder}/, {other} in {where[other]}/"


def recover(root: Path, ids: set[str], case: Case) -> None:
    """A new runner, alone, finishes everything; each task is in one place, with its result."""
    folder = with_lease(make(root), 0)
    last = Membership(folder, "rescue")
    last.folder.local = False
    last.register()
    gates = Gates(folder)
    for _ in range(5):
        if last.peers():
            last.watch()
        gates.sweep()
        for name in list(folder.names("todo")):
            mine = claim(folder, name, "rescue")
            finish(folder, mine, "rescue")
            assert folder.commit(mine, "rescue", "done")
    last.leave()
    journal.tidy(folder.fs)
    check(root, ids, case)
    assert set(os.listdir(root)) - {layout.INTERNAL, layout.HISTORY, layout.LOCK} == {
        "todo", "done", "fail", layout.SETTINGS}
    assert os.listdir(root / "todo") == []
    for state in ("done", "fail"):
        for name in folder.names(state):
            failing = name.id in case.failing
            if failing and state == "fail" and name.id != "p":
                result = StoredTask.open(folder.fs, f"fail/{name}", name).result()
                assert result and result["outcome"] in ("dependency_failed", "cancelled")
                continue
            assert payload_of(folder.fs, f"{state}/{name}", name) == result_of(name.id)
            assert state == "done" or case is CASES["requeue"] or name.id not in ids or failing
    assert {id for id, where in places(root).items() if where == ["fail"]} <= {*case.failing, "x"}


@pytest.mark.parametrize("name", CASES)
def test_a_crash_at_every_operation(quick_folder: Path, name: str, tried: Tried) -> None:
    case, root, durability = CASES[name], quick_folder / "list", "full"
    points = 0
    for after in (False, True):
        for number in range(1, operations(case, root, durability, after) + 1):
            folder, prepared, ids = prepare(case, root, durability)
            fs = Nth(root, number, Crash(), after)
            try:
                case.act(TaskFolder(fs, folder.settings), prepared)
            except Crash:
                pass
            assert fs.what
            if name == "clean" and not (root / layout.SETTINGS).exists():
                shutil.rmtree(root, ignore_errors=True)
                continue
            check(root, ids, case)
            recover(root, ids, case)
            shutil.rmtree(root)
            points += 1
    assert points
    tried("crashes at an operation of a transition", points)


@pytest.mark.parametrize("error", [*map(errno.errorcode.get, ERRORS), "ENOENT although done"])
@pytest.mark.parametrize("name", CASES)
def test_an_error_at_every_operation(quick_folder: Path, name: str, error: str, tried: Tried) -> None:
    """It raises this error, or succeeds; and what was there still is, once."""
    case, root = CASES[name], quick_folder / "list"
    late = error == "ENOENT although done"
    code = errno.ENOENT if late else getattr(errno, error)
    raised = points = 0
    for number in range(1, operations(case, root, "full", late) + 1):
        folder, prepared, ids = prepare(case, root, "full")
        fs = Nth(root, number, OSError(code, os.strerror(code), "here"), late)
        again = TaskFolder(fs, folder.settings)
        try:
            case.act(again, prepared)
        except OSError as caught:
            raised += 1
            assert caught.errno in (code, errno.ENOENT, errno.EEXIST), f"at {fs.what}: {caught!r}"
        except attempts.TakenOver:
            assert late, f"at {fs.what}"
        assert fs.what
        if name == "clean" and not (root / layout.SETTINGS).exists():
            shutil.rmtree(root, ignore_errors=True)
            points += 1
            continue
        check(root, ids, case)
        recover(root, ids, case)
        shutil.rmtree(root)
        points += 1
    print(f"{name}, {error}: {points} operations, {raised} raised")
    tried("errors at an operation of a transition", points)


@pytest.mark.parametrize("error", [*map(errno.errorcode.get, ERRORS), "ENOENT although done"])
def test_a_schedule_that_raised_has_not_scheduled(quick_folder: Path, error: str) -> None:
    """Who is told of an error tries again: the task must not be there twice."""
    case, root = CASES["schedule"], quick_folder / "list"
    late = error == "ENOENT although done"
    code = errno.ENOENT if late else getattr(errno, error)
    for number in range(1, operations(case, root, "full", late) + 1):
        folder, prepared, _ = prepare(case, root, "full")
        fs = Nth(root, number, OSError(code, os.strerror(code), "here"), late)
        try:
            case.act(TaskFolder(fs, folder.settings), prepared)
        except OSError:
            assert "x" not in places(root), f"scheduled, and raised at {fs.what}"
            assert os.listdir(root / layout.TMP) == [] or late, f"left in tmp/ at {fs.what}"
        else:
            assert places(root)["x"] == ["todo"]
        shutil.rmtree(root)
