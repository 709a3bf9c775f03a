"""Folders that are no task list, from the future, open to others, or from another Python."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runforrest import Executor, TaskList, defer, errors
from runforrest.folder import frames
from runforrest.folder.stored import StoredTask
from runforrest.model.names import Name
from tests.helpers import small_filesystem


def filled(directory: Path) -> TaskList:
    tasks = TaskList(directory, durability="none")
    tasks.schedule(defer(abs, -1), metadata="m")
    return tasks


def tree(directory: Path) -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(directory.rglob("*"))}


def refused(directory: Path, kind: type[Exception], attempt: Callable[[], object], *words: str) -> None:
    """The attempt fails with one line, which names the folder and says what to do; nothing is changed."""
    before = tree(directory.parent)
    with pytest.raises(kind) as caught:
        attempt()
    text = str(caught.value)
    assert "\n" not in text and str(directory) in text and all(word in text for word in words), text
    assert tree(directory.parent) == before


OPENINGS: list[dict[str, Any]] = [
    {"exist_ok": True}, {"exist_ok": True, "pre_clean": False}, {"noschedule_if_exist": True},
    {"exist_ok": True, "post_clean": True}]


@pytest.mark.parametrize("arguments", OPENINGS, ids=str)
def test_no_task_list(tasklist_dir: Path, arguments: dict[str, Any]) -> None:
    tasklist_dir.mkdir()
    (tasklist_dir / "thesis.tex").write_text("all of it")
    refused(tasklist_dir, errors.NotATaskList, lambda: TaskList(tasklist_dir, **arguments), "not a task list", "todo/")


def test_a_file(tasklist_dir: Path) -> None:
    tasklist_dir.write_text("a file")
    refused(tasklist_dir, errors.NotATaskList, lambda: TaskList(tasklist_dir, exist_ok=True), "is a file")


def test_a_list_on_a_disk_that_can_only_be_read(tmp_path: Path) -> None:
    """What has ended is there for who looks; who writes is told."""
    with small_filesystem(tmp_path, "size=2m") as place:
        tasks = TaskList(place / "tasks")
        tasks.schedule(defer(abs, -5))
        list(tasks.run(1))
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        tasks = TaskList(place / "tasks", exist_ok=True, pre_clean=False)
        assert [task.returnvalue for task in tasks.done_tasks()] == [5]
        assert [future.result() for future in Executor(place / "tasks").attach()] == [5]
        for write in (lambda: tasks.schedule(defer(abs, 1)), lambda: list(tasks.run(1)), tasks.clean):
            with pytest.raises(OSError, match="Read-only"):
                write()


def test_folder_removed_meanwhile(tasklist_dir: Path) -> None:
    tasks = TaskList(tasklist_dir)
    tasks.clean()
    other = TaskList(tasklist_dir)
    tasks.clean()
    for look in (other.run, lambda: list(other.todo_tasks())):
        refused(tasklist_dir, errors.NotATaskList, look, "schedule")
    other.schedule(defer(abs, -5))
    assert [t.returnvalue for t in other.run(1)] == [5]


@pytest.mark.parametrize("arguments", OPENINGS, ids=str)
def test_format_of_the_future(tasklist_dir: Path, arguments: dict[str, Any]) -> None:
    tasks = filled(tasklist_dir)
    settings = tasklist_dir / "runforrest.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "format": 99, "unheard": "of"}))
    for attempt in (lambda: TaskList(tasklist_dir, **arguments), tasks.run, lambda: list(tasks.done_tasks()),
                    tasks.clean):
        refused(tasklist_dir, errors.FormatVersionError, attempt, "format 99", "upgrade runforrest")


def test_damaged_settings(tasklist_dir: Path) -> None:
    tasks = filled(tasklist_dir)
    (tasklist_dir / "runforrest.json").write_text('{"format": 1, ')
    refused(tasklist_dir, errors.NotATaskList, tasks.run, "runforrest.json is damaged", "remove it")
    (tasklist_dir / "runforrest.json").unlink()
    assert [t.returnvalue for t in tasks.run(1)] == [1]


@pytest.mark.parametrize("place, mode", [("", 0o770), ("", 0o707), ("todo", 0o770), ("done", 0o777), ("fail", 0o720)])
def test_others_may_write(tasklist_dir: Path, place: str, mode: int) -> None:
    """Unpickling is running code: not from where others may put some, unless told to."""
    tasks = filled(tasklist_dir)
    (tasklist_dir / place).chmod(mode)
    for attempt in (tasks.run, lambda: list(tasks.todo_tasks()), lambda: list(tasks.done_tasks()),
                    lambda: list(tasks.fail_tasks()),
                    lambda: TaskList(tasklist_dir, exist_ok=True, pre_clean=False),
                    lambda: TaskList(tasklist_dir, noschedule_if_exist=True)):
        refused(tasklist_dir, errors.UntrustedFolder, attempt, "chmod go-w", "trust=True")
    trusting = TaskList(tasklist_dir, exist_ok=True, pre_clean=False, trust=True)
    assert [t.returnvalue for t in trusting.run(1)] == [1]
    (tasklist_dir / place).chmod(mode & 0o755)
    assert [t.returnvalue for t in tasks.done_tasks()] == [1]


def test_empty_folder_that_others_may_write(tasklist_dir: Path) -> None:
    """Told before the first task is scheduled, not after the last."""
    tasklist_dir.mkdir()
    tasklist_dir.chmod(0o777)
    refused(tasklist_dir, errors.UntrustedFolder, lambda: TaskList(tasklist_dir), "chmod go-w", "trust=True")
    TaskList(tasklist_dir, trust=True)


def test_folder_of_another_user(tasklist_dir: Path) -> None:
    tasks = filled(tasklist_dir)
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(tasklist_dir / "todo", 12345, -1)
    refused(tasklist_dir, errors.UntrustedFolder, tasks.run, "user 12345", "trust=True")


# -- tasks of another Python ------------------------------------------------------------------


def pickled_by(tasks: TaskList, python: str, serializer: str) -> None:
    """Rewrite the task's file, as if that Python had scheduled it."""
    (file,) = (Path(tasks.directory) / "todo").iterdir()
    name = Name.parse(file.name)
    assert name
    with file.open("rb") as opened:
        stored = StoredTask.read(opened.fileno(), name)
        call = stored.call(opened.fileno())
    file.write_bytes(b"".join(frames.encode({**stored.envelope, "python": python, "serializer": serializer}, call)))


OTHERS = pytest.mark.parametrize("python, serializer", [("2.7.18", "pickle"), ("4.0.1", "pickle"), ("3.6.9", "dill")])


@OTHERS
def test_task_of_another_python(tasklist_dir: Path, python: str, serializer: str) -> None:
    """Before anything runs, in one line that says what to do, and nothing is changed."""
    tasks = filled(tasklist_dir)
    pickled_by(tasks, python, serializer)
    with pytest.raises(errors.Unloadable) as caught:
        list(tasks.run(1))
    text = str(caught.value)
    assert "\n" not in text and f"pickled by Python {python}" in text and "nothing was started" in text
    assert f"use Python {'.'.join(python.split('.')[:2])} for it" in text
    assert [t.metadata for t in tasks.todo_tasks()] == ["m"] and not list(tasks.fail_tasks())


@OTHERS
def test_task_of_another_python_far_down_the_list(tasklist_dir: Path, python: str, serializer: str,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not tried, it is in fail/ whole, and the reason says what to do."""
    monkeypatch.setattr("runforrest.runner.preflight.LOOK_AT", 0)
    tasks = filled(tasklist_dir)
    pickled_by(tasks, python, serializer)
    (task,) = tasks.run(1)
    text = str(task.errorvalue)
    assert isinstance(task.errorvalue, errors.Unloadable) and "\n" not in text
    assert f"pickled by Python {python}" in text and "use Python" in text
    assert [a.outcome for a in task.attempts] == ["unloadable"] and task.metadata == "m"
    (file,) = (tasklist_dir / "fail").iterdir()
    file.rename(tasklist_dir / "todo" / file.name)
    assert [t.metadata for t in tasks.todo_tasks()] == ["m"]


def test_plain_pickles_go_from_one_minor_version_to_another(tasklist_dir: Path) -> None:
    tasks = filled(tasklist_dir)
    pickled_by(tasks, "3.10.0", "pickle")
    assert [t.returnvalue for t in tasks.run(1)] == [1]
