"""The history: lines of all runners in one file; and tidying up."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runforrest.folder import identity, journal, layout
from runforrest.folder.fsio import FileOps
from runforrest.folder.journal import Journal, locked, merge_journal, tidy
from runforrest.model.names import Name

from .support import Failing, ls, make, runner, schedule


@pytest.fixture
def fs(tasklist_dir: Path) -> FileOps:
    return make(tasklist_dir).fs


def history(fs: FileOps) -> list[dict[str, object]]:
    return [json.loads(line) for line in fs.read(layout.HISTORY).splitlines()]


def test_lines_come_together_at_the_end(fs: FileOps) -> None:
    one, two = Journal(fs, "R1"), Journal(fs, "R2")
    for n in range(3):
        one.add(Name("x"), "done", {"n": n, "path": Path("x")})
        two.add(Name("x"), "done", {"n": 10 + n})
        one.flush()
    assert not os.path.exists(fs.path(layout.HISTORY))
    assert fs.read(f"{layout.JOURNAL}/R1.jsonl").count(b"\n") == 3
    one.close()
    two.close()
    assert [line["n"] for line in history(fs)] == [0, 1, 2, 10, 11, 12]
    assert ls(fs.root, layout.JOURNAL) == [] and not os.path.exists(fs.path(layout.LOCK))


def test_nothing_to_say_writes_nothing(fs: FileOps) -> None:
    Journal(fs, "R").close()
    assert not os.path.exists(fs.path(layout.HISTORY))


def test_due_after_a_while(fs: FileOps, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(journal.time, "monotonic", lambda: now[0])
    mine = Journal(fs, "R")
    assert not mine.due()
    mine.add(Name("x"), "done", {})
    assert not mine.due()
    now[0] += journal.FLUSH_SECONDS + 0.1
    assert mine.due()
    mine.flush()
    assert not mine.due()


def test_a_disk_in_trouble_costs_lines_never_a_task(fs: FileOps) -> None:
    full = Failing(fs.root, OSError(errno.ENOSPC, "full"), lambda operation, *args: operation in ("write", "rename"))
    mine = Journal(full, "R")
    mine.add(Name("x"), "done", {"n": 1})
    mine.flush()
    mine.close()


def test_a_journal_folder_that_was_tidied_away_is_made_again(fs: FileOps) -> None:
    tidy(fs)
    mine = Journal(fs, "R")
    mine.add(Name("x"), "done", {"n": 1})
    mine.close()
    assert history(fs) == [{"task": "x", "state": "done", "n": 1}]


def test_many_merge_at_once(fs: FileOps) -> None:
    def work(number: int) -> None:
        mine = Journal(FileOps(fs.root), f"R{number}")
        for n in range(5):
            mine.add(Name("x"), "done", {"n": 10 * number + n, "text": "x" * 5000})
            mine.flush()
        mine.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(8):                 # whoever did not get the lock leaves his lines to others
        merge_journal(fs, f"R{number}")
    assert sorted(int(str(line["n"])) for line in history(fs)) == [10 * r + n for r in range(8) for n in range(5)]


def test_without_the_lock_the_lines_wait(fs: FileOps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "LOCK_SECONDS", 0.01)
    mine = Journal(fs, "R")
    mine.add(Name("x"), "done", {"n": 1})
    with locked(FileOps(fs.root)) as got:
        assert got
        mine.close()
        tidy(fs)
        assert ls(fs.root, layout.JOURNAL) == ["R.jsonl"]
    merge_journal(fs, "R")
    assert history(fs) == [{"task": "x", "state": "done", "n": 1}]


def test_one_at_a_time_has_the_lock(fs: FileOps, monkeypatch: pytest.MonkeyPatch,
                                    tried: Callable[[str, int], None]) -> None:
    """Each makes the file anew, as the one before has removed it."""
    monkeypatch.setattr(journal, "LOCK_SECONDS", 100.0)     # it goes to whoever asks at the right moment
    holders: list[int] = []

    def work(number: int) -> None:
        for _ in range(50):
            with locked(FileOps(fs.root)) as got:
                assert got
                holders.append(number)
                assert holders == [number], "alone"
                holders.remove(number)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert not fs.exists(layout.LOCK)
    tried("times a lock was taken", 8 * 50)


def test_the_lock_is_on_the_file_that_has_the_name(fs: FileOps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening it and locking it, whoever had it removes it, and another one makes it anew."""
    flock = fcntl.flock

    def replaced(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        fs.unlink(layout.LOCK)
        fs.create(layout.LOCK, [])
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", replaced)
    with locked(fs) as first:
        monkeypatch.setattr(journal, "LOCK_SECONDS", 0.01)
        with locked(fs) as second:
            assert first and not second


def test_a_fork_does_not_keep_the_lock(fs: FileOps) -> None:
    with locked(fs) as got:
        assert got
        pid = os.fork()
        if not pid:
            time.sleep(60)
            os._exit(0)
    try:
        with locked(fs) as got:
            assert got
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_no_lock_in_a_list_that_was_removed_or_through_a_link(fs: FileOps, tmp_path: Path) -> None:
    target = tmp_path / "target"
    os.symlink(target, fs.path(layout.LOCK))
    with locked(fs) as got:
        assert not got
    assert not target.exists()
    shutil.rmtree(fs.root)
    with locked(fs) as got:
        assert not got
    assert not os.path.exists(fs.root)


def test_tidy_removes_only_what_is_empty(fs: FileOps, tasklist_dir: Path) -> None:
    fs.create(f"{layout.TRIES}/x.t1-ab.lost", [b"record"])
    fs.mkdir("doing/R")
    tidy(fs)
    assert ls(tasklist_dir, ".") == [".runforrest", "doing", "done", "fail", layout.SETTINGS, "todo"]
    assert ls(tasklist_dir, ".runforrest") == ["tries"]
    fs.rmdir("doing/R")
    fs.unlink(f"{layout.TRIES}/x.t1-ab.lost")
    tidy(fs)
    assert ls(tasklist_dir, ".") == ["done", "fail", layout.SETTINGS, "todo"]
    tidy(fs)


def test_on_glusterfs_the_folders_stay(fs: FileOps, tasklist_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that start at the same moment find it, and need not make it: see docs/filesystems.md, GlusterFS."""
    monkeypatch.setattr(identity, "filesystem_type", lambda directory: "fuse.glusterfs")
    for name in (*layout.GATED, layout.WAITING):
        fs.mkdir(name)
    tidy(fs)
    assert ls(tasklist_dir, ".") == [".runforrest", "doing", "done", "fail", layout.SETTINGS, "todo"]
    assert ls(tasklist_dir, ".runforrest") == sorted(name.rpartition("/")[2] for name in layout.INTERNALS)


class Interrupted(FileOps):
    """Somebody else comes before the n-th rmdir."""

    def __init__(self, root: Path, number: int, somebody: Callable[[], object]) -> None:
        super().__init__(root)
        self.number, self.somebody, self.count = number, somebody, 0

    def before(self, operation: str, *args: object) -> None:
        if operation == "rmdir":
            self.count += 1
            if self.count == self.number:
                self.somebody()


@pytest.mark.parametrize("number", range(1, 10))
def test_a_newcomer_while_the_last_one_tidies_up(tasklist_dir: Path, number: int) -> None:
    """At every operation of the tidying, a newcomer schedules and registers: it finds or makes what it needs."""
    folder = make(tasklist_dir)
    fs = Interrupted(tasklist_dir, number, lambda: (schedule(folder, "x"), runner(folder, "R")))
    tidy(fs)
    assert fs.count == len(layout.INTERNALS) + 2
    came = number <= fs.count
    assert ls(tasklist_dir, "todo") == (["x.pkl"] if came else [])
    if came:
        assert ls(tasklist_dir, "doing") == ["R"] and runner(folder, "next").peers() == {"R": "0"}
