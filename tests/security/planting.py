"""What the tests plant: pickles that tell when they are loaded, files of other users, forged frames."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runforrest as rf
from runforrest.folder import frames
from runforrest.folder.fsio import FileOps
from runforrest.folder.stored import StoredTask
from runforrest.model.names import Name

NOBODY, MALLORY = 65534, 12345     # other users: numbers are enough for the kernel
ROOT = Path(__file__).resolve().parent.parent.parent


def reachable(folder: str | Path) -> bool:
    """Whether other users can enter it."""
    path = Path(folder).resolve()
    return path.is_dir() and all(each.stat().st_mode & stat.S_IXOTH for each in (path, *path.parents))


needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(reachable, (ROOT, sys.prefix))),
    reason="only root can become another user, who must be able to reach this library and its Python")


class Canary:
    """A pickle whose loading makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def pickle(self) -> bytes:
        return b"cos\nmkdir\n(V" + str(self.path).encode() + b"\ntR."

    def session(self) -> bytes:
        """A session of dill with this in it."""
        program = (f"import dill, io, os, sys\nclass Canary:\n    def __reduce__(self):\n"
                   f"        return os.mkdir, ({str(self.path)!r},)\ncanary = Canary()\nfile = io.BytesIO()\n"
                   f"dill.dump_module(file)\nsys.stdout.buffer.write(file.getvalue())")
        return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout

    @property
    def sang(self) -> bool:
        return self.path.exists()


def by(uid: int, work: Callable[[], object], gid: int | None = None) -> None:
    """Do this as another user, in a process of its own that has given up everything else."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(uid if gid is None else gid)
            os.setuid(uid)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, f"what user {uid} did went wrong; see above"


def file_of(uid: int, path: Path, content: bytes) -> None:
    """A file that another user has written, moved to where we have it."""
    source = path.parents[2] / f"written by {uid}"
    source.mkdir()
    source.chmod(0o777)
    by(uid, lambda: (source / "file").write_bytes(content))
    (source / "file").rename(path)
    source.rmdir()


def make(directory: Path, *tasks: Any, **options: Any) -> rf.TaskList:
    """A new list with these tasks."""
    made = rf.TaskList(directory, **{"durability": "none", **options})
    for task in tasks:
        made.schedule(task)
    return made


def opened(directory: Path, **options: Any) -> rf.TaskList:
    return rf.TaskList(directory, exist_ok=True, pre_clean=False, **options)


def run(directory: Path, isolation: str = "process", **options: Any) -> list[rf.Task]:
    """Run what is there; returns the tasks as their user gets them."""
    return list(opened(directory, **options).run(1, print_output=False, isolation=isolation))


def names(directory: Path, state: str) -> list[str]:
    return sorted(path.name for path in (directory / state).glob("*.pkl"))


def only(directory: Path, state: str) -> Path:
    [path] = (directory / state).glob("*.pkl")
    return path


def name_of(path: Path) -> Name:
    name = Name.parse(path.name)
    assert name is not None
    return name


def record_of(path: Path) -> dict[str, Any]:
    """The record of the attempt in the file's name, wherever it is."""
    task = StoredTask.open(FileOps(path.parents[1]), f"{path.parent.name}/{path.name}", name_of(path))
    return task.result() or {}


def frames_of(path: Path) -> list[tuple[dict[str, Any], bytes]]:
    """(record, payload) of each frame."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return [(frame.record, frame.payload(fd) or b"") for frame in frames.backwards(fd)][::-1]
    finally:
        os.close(fd)


def texts_of(path: Path) -> list[tuple[bytes, bytes]]:
    """(record as it stands in the file, payload) of each frame: so that signatures still fit."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return [(frame.text, frame.payload(fd) or b"") for frame in frames.backwards(fd)][::-1]
    finally:
        os.close(fd)


def rewrite(path: Path, *content: tuple[dict[str, Any] | bytes, bytes]) -> None:
    """Put these frames, with right checksums, in place of the file's."""
    path.write_bytes(b"".join(b"".join(frames.encode(record, payload)) for record, payload in content))


def result(path: Path, payload: bytes, outcome: str = "returned", **more: Any) -> tuple[dict[str, Any], bytes]:
    """A frame that claims to be the result of this task."""
    kind = {"payload": "value" if outcome == "returned" else "error"} if payload else {}
    return {"frame": "attempt", "attempt": name_of(path).attempt, "number": 1, "outcome": outcome, **kind,
            **more}, payload


def change_settings(directory: Path, **values: Any) -> None:
    path = directory / "runforrest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def tree(directory: Path) -> dict[str, bytes]:
    """Everything below a folder, with its content."""
    return {str(path.relative_to(directory)): path.read_bytes() if path.is_file() else b""
            for path in directory.rglob("*")}
