"""Finished tasks on a file server that does not answer for a while."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from runforrest import TaskList, defer, results
from runforrest.errors import Unloadable
from runforrest.folder.fsio import FileOps
from runforrest.folder.stored import side_ending
from runforrest.model.names import Name


class Away:
    """The first tries to open a finished task fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: int, times: int) -> None:
        self.code, self.left, self.tried = code, times, 0
        self._really = FileOps.open_read
        monkeypatch.setattr(FileOps, "open_read", lambda fs, name: self._open(fs, name))
        monkeypatch.setattr(results, "PAUSES", (0.01, 0.01, 0.01))

    def _open(self, fs: FileOps, name: str) -> int:
        if name.startswith("done/"):
            self.tried += 1
            if self.left:
                self.left -= 1
                raise OSError(self.code, "is away", name)
        return self._really(fs, name)


@pytest.fixture
def tasks(tasklist_dir: Path) -> TaskList:
    made = TaskList(tasklist_dir, durability="none")
    made.schedule(defer(pow, 2, 3))
    return made


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.ETIMEDOUT])
def test_it_is_tried_again(tasks: TaskList, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    away = Away(monkeypatch, code, 2)
    assert [task.returnvalue for task in tasks.run(1)] == [8]
    away.left = 3
    assert [task.returnvalue for task in tasks.done_tasks()] == [8]
    assert away.tried == 7


def test_what_lasts_is_told_as_what_it_is(tasks: TaskList, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as a task that can't be loaded: it is well."""
    [_] = tasks.run(1)
    away = Away(monkeypatch, errno.ESTALE, 100)
    with pytest.raises(OSError, match="is away"):
        list(tasks.done_tasks())
    away.left = 0
    assert [task.returnvalue for task in tasks.done_tasks()] == [8]


def test_what_does_not_pass_is_not_waited_for(tasks: TaskList, monkeypatch: pytest.MonkeyPatch) -> None:
    [_] = tasks.run(1)
    away: Any = Away(monkeypatch, errno.EACCES, 1)
    [task] = tasks.done_tasks()
    assert isinstance(task.errorvalue, Unloadable) and away.tried == 1


def test_a_record_beside_the_task_is_not_missing_as_the_server_is_away(tmp_path: Path,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    fs, name = FileOps(str(tmp_path)), Name("x")
    assert side_ending(fs, name) == (None, None)

    def away(fs: FileOps, path: str) -> int:
        raise OSError(errno.ESTALE, "is away", path)

    monkeypatch.setattr(FileOps, "open_read", away)
    with pytest.raises(OSError, match="is away"):
        side_ending(fs, name)
