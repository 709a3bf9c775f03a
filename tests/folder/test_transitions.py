"""schedule, claim, commit, release, requeue: one rename each, whatever its answer."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from runforrest.folder import journal, layout, settings, transitions
from runforrest.folder.frames import backwards
from runforrest.folder.fsio import FileOps
from runforrest.folder.stored import StoredTask
from runforrest.folder.transitions import TaskFolder
from runforrest.model.names import Name

from .support import Failing, Recording, call_of, claim, finish, ls, make, places, runner, schedule

ERRORS = [errno.ENOENT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EPERM]


@pytest.fixture
def folder(tasklist_dir: Path) -> TaskFolder:
    folder = make(tasklist_dir)
    runner(folder, "R")
    return folder


def renames(error: int, after: bool, folder: TaskFolder, to: str = "") -> TaskFolder:
    """The list seen through a file server that answers renames with this error (and does them, or not)."""
    fs = Failing(folder.fs.root, OSError(error, os.strerror(error), "x"),
                 lambda operation, *args: operation == "rename" and str(args[-1]).startswith(to), after)
    return TaskFolder(fs, folder.settings)


# -- the way of a task ---------------------------------------------------------------------


def test_the_way_of_a_task(folder: TaskFolder) -> None:
    name = schedule(folder, "x")
    assert places(folder.fs.root) == {"x": ["todo"]} and ls(folder.fs.root, layout.TMP) == []
    mine = claim(folder, name, "R")
    assert (mine.id, mine.tries, mine.lost) == ("x", 1, 0) and mine.tag
    assert folder.claims() == {"R": [mine]} and list(folder.names("todo")) == []
    finish(folder, mine, "R")
    assert folder.commit(mine, "R", "done")
    assert places(folder.fs.root) == {"x": ["done"]} and folder.count("done") == 1
    assert folder.requeue(mine, "done")
    again = claim(folder, mine, "R")
    assert again.tries == 2 and again.tag != mine.tag
    assert folder.release(again, "R")
    assert list(folder.names("todo")) == [again], "a released name keeps its try: it must not come back"
    assert folder.fs.read(f"todo/{again}").startswith(call_of("x"))


def test_one_inode_for_its_whole_life(folder: TaskFolder) -> None:
    name = schedule(folder, "x")
    inode = os.stat(folder.fs.path(f"todo/{name}")).st_ino
    mine = claim(folder, name, "R")
    finish(folder, mine, "R")
    folder.commit(mine, "R", "fail")
    assert os.stat(folder.fs.path(f"fail/{mine}")).st_ino == inode


def test_what_a_task_costs(folder: TaskFolder) -> None:
    fs = Recording(folder.fs.root)
    counted = TaskFolder(fs, folder.settings)
    name = schedule(counted, "x")
    assert [c[0] for c in fs.calls] == ["create", "write", "rename"]
    fs.calls.clear()
    mine = claim(counted, name, "R")
    finish(counted, mine, "R")
    counted.commit(mine, "R", "done")
    assert [c[0] for c in fs.calls] == ["rename", "open", "write", "rename"]


def test_ids_sort_as_scheduled(folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions.time, "time_ns", lambda: 1_700_000_000_000_000_000)    # a clock that stands still
    ids = [folder.new_id(0, "x") for _ in range(100)]
    monkeypatch.setattr(transitions.time, "time_ns", lambda: 1_600_000_000_000_000_000)    # and one set back
    ids += [folder.new_id(0, "a") for _ in range(100)]
    assert ids == sorted(ids) and len(set(ids)) == 200
    assert folder.new_id(1, "x") < ids[0] < folder.new_id(-1, "x")


# -- sources and destinations that are gone ------------------------------------------------


def test_a_claim_that_lost_the_race(folder: TaskFolder) -> None:
    name = schedule(folder, "x")
    claim(folder, name, "R")
    assert folder.claim(name, "R") is None


def test_a_claim_without_a_folder_of_ones_own(folder: TaskFolder) -> None:
    """Not None, which would read as 'nothing left to do'."""
    name = schedule(folder, "x")
    for _ in range(2):
        with pytest.raises(FileNotFoundError, match="folder was removed"):
            folder.claim(name, "nobody")
    assert places(folder.fs.root) == {"x": ["todo"]}


def test_commit_after_a_take_over(folder: TaskFolder) -> None:
    mine = claim(folder, schedule(folder, "x"), "R")
    folder.fs.rename(f"doing/R/{mine}", f"todo/{mine.taken()}")
    assert not folder.commit(mine, "R", "done") and not folder.release(mine, "R")
    assert places(folder.fs.root) == {"x": ["todo"]}


def test_requeue_of_what_is_gone(folder: TaskFolder) -> None:
    assert not folder.requeue(Name("x", 1, "ab"), "fail")


@pytest.mark.parametrize("state", ["done", "fail", "todo"])
def test_a_state_folder_that_a_person_removed_is_made_again(folder: TaskFolder, state: str) -> None:
    mine = claim(folder, schedule(folder, "x"), "R")
    finish(folder, mine, "R")
    (Path(folder.fs.root) / state).rmdir()
    assert list(folder.names(state)) == [] and folder.count(state) == 0
    assert folder.release(mine, "R") if state == "todo" else folder.commit(mine, "R", state)
    assert places(folder.fs.root) == {"x": [state]}


def test_schedule_without_todo_says_so_and_leaves_nothing(folder: TaskFolder) -> None:
    (Path(folder.fs.root) / "todo").rmdir()
    with pytest.raises(FileNotFoundError):
        schedule(folder, "x")
    assert ls(folder.fs.root, layout.TMP) == []


def test_schedule_after_the_last_runner_tidied_up(tasklist_dir: Path) -> None:
    folder = make(tasklist_dir)
    journal.tidy(folder.fs)
    assert not (tasklist_dir / layout.INTERNAL).exists() and not (tasklist_dir / layout.DOING).exists()
    schedule(folder, "x")
    assert places(tasklist_dir) == {"x": ["todo"]}


def test_schedule_on_a_full_disk_leaves_nothing(folder: TaskFolder) -> None:
    full = Failing(folder.fs.root, OSError(errno.ENOSPC, "full"), lambda operation, *args: operation == "write")
    with pytest.raises(OSError, match="full"):
        schedule(TaskFolder(full, folder.settings), "x")
    assert ls(folder.fs.root, layout.TMP) == [] == ls(folder.fs.root, "todo")
    runner_folder = Path(folder.fs.root, "doing/R")
    runner_folder.rmdir()
    shutil.rmtree(Path(folder.fs.root, layout.INTERNAL))
    with pytest.raises(OSError, match="full"):
        schedule(TaskFolder(full, folder.settings), "x")
    assert ls(folder.fs.root, layout.TMP) == [], "also where the folder had to be made first"


# -- lost replies --------------------------------------------------------------------------


@pytest.mark.parametrize("error", ERRORS)
def test_renames_that_took_place_and_say_they_did_not(folder: TaskFolder, error: int) -> None:
    name = schedule(renames(error, True, folder), "x")
    mine = renames(error, True, folder).claim(name, "R")
    assert mine is not None and folder.claims() == {"R": [mine]}
    assert renames(error, True, folder).release(mine, "R")
    mine = renames(error, True, folder).claim(mine, "R")
    assert mine is not None
    assert renames(error, True, folder).commit(mine, "R", "fail")
    assert renames(error, True, folder).requeue(mine, "fail")
    assert places(folder.fs.root) == {"x": ["todo"]}


@pytest.mark.parametrize("error", ERRORS)
def test_renames_that_did_not_take_place(folder: TaskFolder, error: int) -> None:
    with pytest.raises(OSError, match=os.strerror(error)):
        schedule(renames(error, False, folder), "x")
    assert places(folder.fs.root) == {}
    name = schedule(folder, "x")
    broken = renames(error, False, folder)
    if error in transitions.LOST_RACE:
        assert broken.claim(name, "R") is None
    else:
        with pytest.raises(OSError, match=os.strerror(error)):
            broken.claim(name, "R")
    mine = claim(folder, name, "R")
    calls: list[Callable[[], bool]] = [lambda: broken.commit(mine, "R", "done"), lambda: broken.release(mine, "R")]
    for call in calls:
        with pytest.raises(OSError, match=os.strerror(error)):
            call()
        assert places(folder.fs.root) == {"x": ["doing/R"]}
    assert folder.commit(mine, "R", "done")


def test_a_server_that_answers_nothing_takes_nothing_over(folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call fails, looking for the destination too: that is trouble, not 'somebody else has it'."""
    mine = claim(folder, schedule(folder, "x"), "R")
    broken = renames(errno.EIO, False, folder)

    def fails(*args: object) -> int:
        raise OSError(errno.EIO, "io")

    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", fails)
        for call in (lambda: broken.commit(mine, "R", "done"), lambda: broken.release(mine, "R")):
            with pytest.raises(OSError, match="io"):
                call()
    assert folder.commit(mine, "R", "done")


# -- files that can't be read --------------------------------------------------------------


def test_that_a_file_is_damaged_is_told_beside_it(tasklist_dir: Path) -> None:
    """And forced; for good once the file can't be read while others can be written."""
    folder = make(tasklist_dir, "normal")
    runner(folder, "R")
    mine = claim(folder, schedule(folder, "x"), "R")
    file, beside = f"doing/R/{mine}", f"{layout.TRIES}/{mine.side()}"
    lost = Failing(tasklist_dir, OSError(errno.EIO, "io"),
                   lambda operation, *args: operation in ("open", "fsync") and file in args)
    record = TaskFolder(lost, folder.settings).record_unreadable(mine, "R", "lost")
    assert StoredTask.open(folder.fs, file, mine).attempts == [record]
    TaskFolder(lost, folder.settings).force_result(mine, "R")
    with pytest.raises(OSError, match="not be read for a while"):
        folder.record_unreadable(mine, "R", "readable again")
    assert not folder.fs.exists(beside)
    with pytest.raises(OSError, match="io"):
        TaskFolder(lost, folder.settings).force_result(mine, "R")
    away = Failing(tasklist_dir, OSError(errno.EIO, "io"), lambda operation, *args: operation in ("open", "create"))
    with pytest.raises(OSError, match="io"):
        TaskFolder(away, folder.settings).record_unreadable(mine, "R", "nothing can be written")
    assert StoredTask.open(folder.fs, file, mine).attempts == []


# -- races ---------------------------------------------------------------------------------


def test_claims_in_a_race_are_won_once(tasklist_dir: Path) -> None:
    folder = make(tasklist_dir)
    names = [schedule(folder, f"x{n:03d}") for n in range(150)]
    won: Counter[str] = Counter()
    start = threading.Barrier(4)

    def race(number: int) -> None:
        own = TaskFolder(FileOps(tasklist_dir), folder.settings)
        own.fs.mkdir(f"doing/R{number}")
        start.wait()
        for name in names:
            if own.claim(name, f"R{number}") is not None:
                won[name.id] += 1

    threads = [threading.Thread(target=race, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == {name.id: 1 for name in names}
    assert sum(map(len, folder.claims().values())) == 150


# -- forcing in batches --------------------------------------------------------------------


def batches(folder: TaskFolder, number: int) -> int:
    fs = folder.fs
    assert isinstance(fs, Recording)
    before = fs.count("syncfs")
    for n in range(number):
        schedule(folder, f"y{before}.{n}")
    return fs.count("syncfs") - before


@pytest.mark.parametrize(("durability", "number", "during", "at_flush"), [
    ("none", 2500, 0, 0), ("calls", 2500, 2, 1), ("normal", 2000, 2, 0), ("full", 1, 0, 1), ("normal", 0, 0, 0)])
def test_one_force_for_a_batch(tasklist_dir: Path, monkeypatch: pytest.MonkeyPatch, durability: str, number: int,
                               during: int, at_flush: int) -> None:
    monkeypatch.setattr(transitions, "BATCH_SECONDS", 1e9)
    fs = Recording(tasklist_dir)
    folder = make(tasklist_dir, durability, fs)
    assert batches(folder, number) == during
    folder.force()
    folder.force()
    assert fs.count("syncfs") == during + at_flush
    assert fs.count("fsync") == 0


def test_a_slow_scheduler_forces_after_a_while(tasklist_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(transitions.time, "monotonic", lambda: now[0])
    folder = make(tasklist_dir, "normal", Recording(tasklist_dir))
    assert batches(folder, 3) == 0
    now[0] += transitions.BATCH_SECONDS + 1
    assert batches(folder, 1) == 1
    assert batches(folder, 1) == 0


def test_a_force_that_fails_is_told_once_and_loses_no_task(tasklist_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`schedule` raised would read as 'not scheduled', and the task be scheduled twice."""
    monkeypatch.setattr(transitions, "BATCH", 2)
    fs = Failing(tasklist_dir, OSError(errno.EIO, "io"), lambda operation, *args: operation == "syncfs")
    folder = make(tasklist_dir, "normal", fs)
    schedule(folder, "x")
    schedule(folder, "y")
    assert fs.failed == 1 and places(tasklist_dir) == {"x": ["todo"], "y": ["todo"]}
    with pytest.raises(OSError, match="io"):
        folder.force()
    fs.when = lambda operation, *args: False
    folder.force()
    folder.force()


def test_full_durability_forces_the_folder_before_it_reports(tasklist_dir: Path) -> None:
    fs = Recording(tasklist_dir)
    folder = make(tasklist_dir, "full", fs)
    runner(folder, "R")
    mine = claim(folder, schedule(folder, "x"), "R")
    finish(folder, mine, "R")
    folder.force_result(mine, "R")
    fs.calls.clear()
    assert folder.commit(mine, "R", "done")
    assert fs.calls == [("rename", f"doing/R/{mine}", f"done/{mine}"), ("syncfs", "")]
    fs.calls.clear()
    folder.local = False
    assert folder.commit(mine, "R", "done")
    assert fs.calls[-1] == ("fsync", "done")


def files_forced(folder: TaskFolder, mine: Name, refused: bool = False) -> list[object]:
    """What `force_result` forces behind an attempt that was written, and that nothing was forced before."""
    fs = folder.fs
    assert isinstance(fs, Recording)
    other = f"{fs.root}/another name"
    if refused:
        os.link(fs.path(f"doing/R/{mine}"), other)
    fs.calls.clear()
    finish(folder, mine, "R")
    assert fs.of("fsync", "syncfs") == []
    folder.force_result(mine, "R")
    return [call[1] for call in fs.of("fsync", "syncfs")]


@pytest.mark.parametrize("durability", settings.DURABILITIES)
def test_the_result_is_forced_wherever_it_is(tasklist_dir: Path, durability: str) -> None:
    folder = make(tasklist_dir, durability, Recording(tasklist_dir))
    runner(folder, "R")
    forces = durability in ("normal", "full")
    mine = claim(folder, schedule(folder, "x"), "R")
    assert files_forced(folder, mine) == [f"doing/R/{mine}"] * forces
    linked = claim(folder, schedule(folder, "y"), "R")
    assert files_forced(folder, linked, refused=True) == [
        f"doing/R/{linked}", f"{layout.TRIES}/{linked.side()}", layout.TRIES] * forces
    first = claim(folder, schedule(folder, "z"), "R")
    taken = first.taken()
    folder.fs.rename(f"doing/R/{first}", f"doing/R/{taken}")
    assert files_forced(folder, taken) == [f"{layout.TRIES}/{taken.side()}", layout.TRIES] * forces
    folder.force_result(claim(folder, schedule(folder, "w"), "R").taken(), "R")     # nothing there to force


def test_full_durability_and_a_force_that_fails(tasklist_dir: Path) -> None:
    """Published, but not reported: the runner asks again, and is told that it is."""
    fs = Failing(tasklist_dir, OSError(errno.EIO, "io"), lambda *call: call == ("syncfs", ""))
    folder = make(tasklist_dir, "full", fs)
    runner(folder, "R")
    mine = claim(folder, schedule(folder, "x"), "R")
    with pytest.raises(OSError, match="io"):
        folder.commit(mine, "R", "done")
    fs.when = lambda operation, *args: False
    assert folder.commit(mine, "R", "done")
    assert places(tasklist_dir) == {"x": ["done"]}


# -- looking -------------------------------------------------------------------------------


def test_listings_leave_out_what_is_no_task(folder: TaskFolder) -> None:
    root = Path(folder.fs.root)
    schedule(folder, "b")
    schedule(folder, "a")
    (root / "todo" / "notes.txt").write_text("x")
    (root / "todo" / ".nfs123.pkl").write_text("x")
    (root / "todo" / "folder.pkl").mkdir()
    (root / "doing" / "file").write_text("x")
    (root / "doing" / "R" / "notes.txt").write_text("x")
    assert [n.id for n in folder.names("todo")] == ["a", "b"] and folder.count("todo") == 2
    assert folder.claims() == {"R": [], "file": []}


def test_the_envelope_is_the_first_frame(folder: TaskFolder) -> None:
    name = schedule(folder, "x", retries=3)
    fd = folder.fs.open_read(f"todo/{name}")
    try:
        [frame] = backwards(fd)
        assert frame.start == 0 and frame.payload(fd) == call_of("x") and frame.record["limits"] == {"retries": 3}
    finally:
        os.close(fd)


def test_schedule_while_the_last_runner_tidies_up(tasklist_dir: Path) -> None:
    """Tidied away again at any one operation: made again, whatever was there a moment ago."""
    folder = make(tasklist_dir)

    class Tidied(FileOps):
        def __init__(self, number: int) -> None:
            super().__init__(tasklist_dir)
            self.number, self.count = number, 0

        def before(self, operation: str, *args: object) -> None:
            self.count += 1
            if self.count == self.number:
                journal.tidy(folder.fs)

    for number in range(1, 20):
        journal.tidy(folder.fs)
        schedule(TaskFolder(Tidied(number), folder.settings), f"x{number:02d}")
    assert len(places(tasklist_dir)) == 19
