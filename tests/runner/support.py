"""What the tests of the runner share: runners as processes of their own, and what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from runforrest.folder.fsio import HOOK_VARIABLE, FileOps
from runforrest.folder.settings import open_list
from runforrest.folder.transitions import TaskFolder
from tests.helpers import has_ended

RUNNER = """
import sys
from runforrest.folder.fsio import FileOps
from runforrest.folder.settings import open_list
from runforrest.folder.transitions import TaskFolder
from runforrest.model.limits import Limits
from runforrest.runner import Options, Runner
from runforrest.runner.signals import forwarded
directory, slots, isolation, grace = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
fs = FileOps(directory)
time_left = float(sys.argv[5]) if len(sys.argv) > 5 else None
options = Options(slots, Limits(grace=grace), isolation, time_left=time_left)
runner = Runner(TaskFolder(fs, open_list(fs, False)), options, say=lambda text: print(text, flush=True))
print("runner", runner.name, flush=True)
with forwarded(runner):
    print("left:", runner.run(), flush=True)
"""


@contextmanager
def a_runner(directory: Path, slots: int = 2, isolation: str = "process", grace: float = 5.0,
             time_left: float | None = None, hook: str = "") -> Iterator[subprocess.Popen[str]]:
    """A runner; ``hook``: what it and its children call before each file operation."""
    given = [str(directory), str(slots), isolation, str(grace), *([] if time_left is None else [str(time_left)])]
    process = subprocess.Popen([sys.executable, "-c", RUNNER, *given],
                               stdout=subprocess.PIPE, text=True, start_new_session=True,
                               env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path),
                                    **({HOOK_VARIABLE: hook} if hook else {})})
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def folder_of(directory: Path) -> TaskFolder:
    fs = FileOps(directory)
    return TaskFolder(fs, open_list(fs))


def counts(directory: Path) -> dict[str, int]:
    folder = folder_of(directory)
    found = {state: folder.count(state) for state in ("todo", "done", "fail")}
    return {**found, "doing": sum(map(len, folder.claims().values()))}


def tree(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def all_gone(processes: list[psutil.Process]) -> bool:
    return all(map(has_ended, processes))


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def with_short_lease(directory: Path, beat: float, lease: int) -> None:
    """Have the runners of this list beat often, and give each other up soon."""
    file = directory / "runforrest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "beat": beat, "lease": lease}))
