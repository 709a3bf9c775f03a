"""`snapshot`: counts, runners and rates of lists that were made by hand, to the byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runforrest.folder import identity
from runforrest.folder.fsio import FileOps
from runforrest.folder.journal import Journal
from runforrest.folder.leases import Membership
from runforrest.folder.settings import Settings, create, now_text
from runforrest.folder.transitions import TaskFolder
from runforrest.model.names import Name
from runforrest.status import snapshot
from tests.helpers import wait_for


@pytest.fixture
def folder(tasklist_dir: Path) -> TaskFolder:
    fs = FileOps(tasklist_dir)
    return TaskFolder(fs, create(fs, "none"))


def fill(folder: TaskFolder, number: int) -> None:
    for _ in range(number):
        folder.schedule(folder.new_id(0, "work"), b"no pickle at all", {"frame": "envelope"})


def test_empty(folder: TaskFolder) -> None:
    found = snapshot(folder)
    assert (found.todo, found.doing, found.done, found.fail, found.runners) == (0, 0, 0, 0, ())
    assert (found.rate, found.time_left, found.durability) == (None, None, "none")


def test_folders_that_are_missing_count_nothing(tasklist_dir: Path) -> None:
    (tasklist_dir / "todo").mkdir(parents=True)
    (tasklist_dir / "todo" / "x.pkl").touch()
    (tasklist_dir / "todo" / "README").touch()
    (tasklist_dir / "todo" / ".nfs0001.pkl").touch()
    fs = FileOps(tasklist_dir)
    found = snapshot(TaskFolder(fs, Settings()))
    assert (found.todo, found.doing, found.done, found.fail) == (1, 0, 0, 0)


def test_counts_and_an_alive_runner(folder: TaskFolder) -> None:
    fill(folder, 5)
    member = Membership(folder)
    member.register()
    names = list(folder.names("todo"))
    mine = [folder.claim(name, member.runner) for name in names[:3]]
    assert mine[0] and mine[1] and mine[2]
    folder.commit(mine[0], member.runner, "done")
    folder.commit(mine[1], member.runner, "fail")
    found = snapshot(folder)
    assert (found.todo, found.doing, found.done, found.fail) == (2, 1, 1, 1)
    (runner,) = found.runners
    assert (runner.name, runner.state, runner.pid) == (member.runner, "alive", os.getpid())
    (task,) = runner.tasks
    assert (task.id, task.name) == (names[2].id, "work")
    assert abs(_seconds(task.since) - _seconds(now_text())) < 5
    assert abs(_seconds(runner.beat) - _seconds(now_text())) < 5
    assert json.loads(json.dumps(found.to_json()))["runners"][0]["tasks"][0]["id"] == names[2].id


def _seconds(text: str) -> float:
    from datetime import datetime
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def dead() -> dict[str, Any]:
    """The identity of a process that has ended."""
    program = "from runforrest.folder.identity import identity; import json; print(json.dumps(identity()))"
    found = json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(("number", "found", "state"), [
    ("7", identity.identity, "alive"), ("7", dead, "lost"), ("dead", identity.identity, "lost"),
    ("7", lambda: {**identity.identity(), "pid_namespace": "another"}, "unknown"), ("7", lambda: {}, "unknown"),
    ("7", lambda: ["nonsense"], "unknown")])
def test_states_of_runners(folder: TaskFolder, number: str, found: Callable[[], object], state: str) -> None:
    folder.fs.mkdir("doing/R")
    folder.fs.create(f".runforrest/hb/R@{number}", [json.dumps(found()).encode()])
    (runner,) = snapshot(folder).runners
    assert (runner.name, runner.state) == ("R", state)


def test_a_runner_that_is_stopped(folder: TaskFolder) -> None:
    """It does not beat, whatever its process is."""
    with subprocess.Popen([sys.executable, "-c", "print('up', flush=True); input()"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        found = {**identity.identity(), "pid": process.pid,
                 "processes": [[process.pid, identity.start_time(process.pid)]]}
        folder.fs.mkdir("doing/R")
        folder.fs.create(".runforrest/hb/R@7", [json.dumps(found).encode()])
        wait_for(lambda: snapshot(folder).runners[0].state == "stopped")
        process.send_signal(signal.SIGCONT)
        wait_for(lambda: snapshot(folder).runners[0].state == "alive")
        process.communicate(b"\n")


def test_a_claimed_task_whose_result_waits_is_not_newly_claimed(folder: TaskFolder) -> None:
    """Each try to write it changes the file's times."""
    fill(folder, 1)
    member = Membership(folder)
    member.register()
    mine = folder.claim(folder.names("todo")[0], member.runner)
    path = folder.fs.path(f"doing/{member.runner}/{mine}")
    os.utime(path, (1e9, 1e9))
    assert snapshot(folder).runners[0].tasks[0].since
    os.truncate(path, os.path.getsize(path))
    assert snapshot(folder).runners[0].tasks[0].since == ""


def test_a_folder_without_a_heartbeat(folder: TaskFolder) -> None:
    folder.fs.mkdir("doing/R")
    (runner,) = snapshot(folder).runners
    assert (runner.name, runner.state, runner.host) == ("R", "unknown", "")


def test_rate_and_time_left(folder: TaskFolder) -> None:
    """Two tasks in ten seconds, seen at the second one's end; a third attempt went back to todo/."""
    fill(folder, 6)
    member = Membership(folder)
    member.register()
    journal = Journal(folder.fs, member.runner)
    ended = [(20.0, "done"), (15.0, "todo"), (10.0, "fail")]
    for before, state in ended:
        from runforrest.status.tasks import iso
        journal.add(Name("x"), state, {"ended": iso(_seconds(now_text()) - before)})
    journal.flush()
    folder.fs.append(f".runforrest/journal/{member.runner}.jsonl", [b'{"damaged\n', b'[]\n', b'{"state":"done","half'])
    found = snapshot(folder)
    assert found.rate == pytest.approx(2 / 20, rel=0.2)
    assert found.time_left == pytest.approx(60, rel=0.2)


def test_nothing_is_changed(folder: TaskFolder) -> None:
    fill(folder, 3)
    Membership(folder).register()
    before = _tree(Path(folder.fs.root))
    done: list[str] = []
    watched = FileOps(folder.fs.root, lambda operation, arguments: done.append(operation))
    snapshot(TaskFolder(watched, folder.settings))
    assert _tree(Path(folder.fs.root)) == before
    assert set(done) <= {"listdir", "open"}


def _tree(root: Path) -> list[tuple[str, int, int]]:
    found = [root, *root.rglob("*")]
    return sorted((str(path), path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in found)
