"""Symbolic links, and what is no file, inside a list: nothing is read, written or moved through them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runforrest import defer, errors
from runforrest.folder import journal
from runforrest.folder.fsio import FileOps
from runforrest.folder.leases import Membership
from runforrest.folder.settings import FOLDERS, open_list
from runforrest.folder.transitions import TaskFolder
from tests.cli.programs import runforrest

from .planting import Canary, make, only, opened, record_of, run, tree


@pytest.fixture
def victim(place: Path) -> Path:
    """A folder of ours outside of the list, with a file in it."""
    path = place / "victim"
    path.mkdir(0o700)
    (path / "file").write_bytes(b"precious")
    return path


def folder_of(directory: Path) -> TaskFolder:
    fs = FileOps(directory)
    return TaskFolder(fs, open_list(fs, False))


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_a_task_that_is_a_link(place: Path, canary: Canary, isolation: str) -> None:
    make(place / "tasks", defer(abs, -1), durability="full")
    (place / "elsewhere.pkl").write_bytes(canary.pickle)
    (place / "tasks" / "todo" / "0.pkl").symlink_to(place / "elsewhere.pkl")
    assert len(run(place / "tasks", isolation)) == 2
    assert not canary.sang and (place / "elsewhere.pkl").read_bytes() == canary.pickle
    link = only(place / "tasks", "fail")
    assert link.is_symlink() and record_of_link(link)["outcome"] == "unloadable"
    [task] = opened(place / "tasks").fail_tasks()
    assert isinstance(task.errorvalue, errors.Unloadable) and not canary.sang


def record_of_link(path: Path) -> dict[str, object]:
    """Its record is beside it."""
    target = os.readlink(path)
    path.unlink()
    path.write_bytes(b"")
    try:
        return record_of(path)
    finally:
        path.unlink()
        path.symlink_to(target)


def test_a_result_that_is_a_link(place: Path, canary: Canary) -> None:
    make(place / "tasks")
    (place / "elsewhere.pkl").write_bytes(canary.pickle)
    for state in ("done", "fail"):
        (place / "tasks" / state / "x.pkl").symlink_to(place / "elsewhere.pkl")
    tasks = [*opened(place / "tasks").done_tasks(), *opened(place / "tasks").fail_tasks()]
    assert [type(task.errorvalue) for task in tasks] == [errors.Unloadable] * 2 and not canary.sang


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_that_is_a_link(place: Path, victim: Path, canary: Canary, folder: str) -> None:
    make(place / "tasks")
    path = place / "tasks" / folder
    (victim / "0.pkl").write_bytes(canary.pickle)
    before = tree(victim)
    if path.exists():                       # some come with the first task that needs them
        path.rename(place / "before")
    path.symlink_to(victim)
    for use in (lambda: run(place / "tasks"), lambda: run(place / "tasks", trust=True),
                lambda: open_list(FileOps(place / "tasks"))):
        with pytest.raises(errors.UntrustedFolder, match="is not a folder but a link"):
            use()
    for command in (["run"], ["run", "--trust"], ["status"], ["ls"], ["clean", "--all", "--yes"]):
        ended = runforrest(command[0], place / "tasks", *command[1:])
        assert ended.returncode == 2 and "is not a folder but a link" in ended.stderr
    assert tree(victim) == before and not canary.sang


def test_a_folder_that_becomes_a_link_later(place: Path, victim: Path) -> None:
    """A runner that comes, or makes missing folders, looks again."""
    made = make(place / "tasks", defer(abs, -1))
    run_ = made.run(1)
    (place / "tasks" / ".runforrest" / "hb").rmdir()
    (place / "tasks" / ".runforrest" / "hb").symlink_to(victim)
    with pytest.raises(errors.UntrustedFolder):
        list(run_)
    assert tree(victim) == {"file": b"precious"}


def test_a_runner_that_is_a_link(place: Path, victim: Path, canary: Canary) -> None:
    """Taking back the tasks of a runner that never was must not move files in from elsewhere."""
    make(place / "tasks", defer(abs, -1))
    (victim / "x.t1-ab.pkl").write_bytes(canary.pickle)
    before = tree(victim)
    (place / "tasks" / "doing" / "ghost").symlink_to(victim)
    (place / "tasks" / ".runforrest" / "hb" / "ghost@dead").write_text("{}")
    Membership(folder_of(place / "tasks")).recover()
    run(place / "tasks")
    assert tree(victim) == before and not canary.sang


@pytest.mark.parametrize("name", ["history.jsonl", ".runforrest.lock", "done/log", ".runforrest/journal/R.jsonl"])
def test_files_that_are_written_to(place: Path, victim: Path, name: str) -> None:
    make(place / "tasks", defer(abs, -1), defer(print, "x" * 100_000))
    (place / "tasks" / name).symlink_to(victim / "file")
    assert len(run(place / "tasks")) == 2
    lines = journal.Journal(FileOps(place / "tasks"), "R")
    for task in opened(place / "tasks")._folder.names("done"):
        lines.add(task, "done", {"outcome": "returned"})
    lines.close()
    assert runforrest("run", place / "tasks").returncode == 0
    assert tree(victim) == {"file": b"precious"}


def test_settings_that_are_a_link(place: Path, victim: Path) -> None:
    make(place / "tasks")
    settings = place / "tasks" / "runforrest.json"
    (victim / "file").write_bytes(settings.read_bytes())
    settings.unlink()
    settings.symlink_to(victim / "file")
    with pytest.raises(errors.NotATaskList, match="can't be opened"):
        opened(place / "tasks")


def test_a_session_that_is_a_link(place: Path, canary: Canary) -> None:
    make(place / "tasks", defer(abs, -1))
    (place / "elsewhere").write_bytes(canary.session())
    (place / "tasks" / "session.pkl").symlink_to(place / "elsewhere")
    ended = runforrest("run", place / "tasks", "-s", place / "tasks" / "session.pkl")
    assert ended.returncode == 3 and not canary.sang


OPENING: dict[str, Callable[[FileOps, str], object]] = {
    "read": FileOps.read, "append": lambda fs, name: fs.append(name, [b"x"]),
    "create": lambda fs, name: fs.create(name, [b"x"]), "open_output": FileOps.open_output, "empty": FileOps.empty,
    "listdir": FileOps.listdir, "share_folder": FileOps.share_folder, "force_folder": FileOps.force_folder}


@pytest.mark.parametrize("what", OPENING)
@pytest.mark.parametrize("target", ["victim/file", "victim", "missing"])
def test_no_operation_follows_a_link(place: Path, victim: Path, what: str, target: str) -> None:
    (place / "link").symlink_to(place / target)
    mode = victim.stat().st_mode
    fs = FileOps(place)
    fs.trust.shared = True
    with pytest.raises(OSError):
        OPENING[what](fs, "link")
    assert tree(victim) == {"file": b"precious"} and victim.stat().st_mode == mode and not (place / "missing").exists()


def test_links_themselves_are_renamed_and_removed(place: Path, victim: Path) -> None:
    fs = FileOps(place)
    (place / "link").symlink_to(victim)
    fs.rename("link", "other")
    fs.unlink("other")
    assert tree(victim) == {"file": b"precious"} and not (place / "other").is_symlink()


def test_a_pipe_does_not_make_anybody_wait(place: Path) -> None:
    make(place / "tasks", defer(abs, -1), durability="normal")
    os.mkfifo(place / "tasks" / "todo" / "0.pkl", 0o600)
    os.mkfifo(place / "tasks" / "history.jsonl", 0o600)
    refused, fine = sorted(run(place / "tasks"), key=lambda task: task.errorvalue is None)
    assert isinstance(refused.errorvalue, errors.Untrusted) and "not a regular file" in str(refused.errorvalue)
    assert fine.errorvalue is None


def test_a_pipe_that_somebody_reads(place: Path) -> None:
    make(place / "tasks", durability="full")
    path = place / "tasks" / "todo" / "0.pkl"
    os.mkfifo(path, 0o600)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        [task] = run(place / "tasks")
        assert isinstance(task.errorvalue, errors.Untrusted)
        assert os.read(reader, 100) == b""
    finally:
        os.close(reader)
