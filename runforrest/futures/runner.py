"""The program of the runner that an executor starts (see `own`), which gets its options as JSON.

Its standard input is a pipe from the executor.  A byte in it says that something was scheduled; while it is open, the
runner stays when the list is done.  Its standard output is a pipe, too: a line for each task that is started or has
ended.  Neither is needed: when its executor is gone, the runner finishes the list, and leaves.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

from runforrest.errors import RunforrestError
from runforrest.folder import layout, signing
from runforrest.folder.fsio import FileOps
from runforrest.folder.settings import open_list
from runforrest.folder.transitions import TaskFolder
from runforrest.model import events as ev
from runforrest.model.names import Name
from runforrest.runner import Options, Runner
from runforrest.runner.signals import forwarded
from runforrest.runner.walltime import of_slurm_job

STARTED = "started"
DONE, TROUBLE, LEFT_EARLY, FENCED = 0, 3, 4, 5     # exit codes
_CODES = {"done": DONE, "fenced": FENCED}


def main() -> int:
    given = json.loads(sys.argv[1])
    orders, reports = _private_pipes()
    try:
        fs = FileOps(given["directory"])
        settings = open_list(fs, given["trust"], given["group"], signing.key_from(given["key_file"]))
        options = Options(given["slots"], isolation=given["isolation"], max_tasks=given["max_tasks"],
                          preload=given["preload"], wait=True, time_left=of_slurm_job())
        tell = _Reports(reports)
        runner = Runner(TaskFolder(fs, settings), options, tell.finished, _say, tell.started)
        threading.Thread(target=_obey, args=(runner, orders), name="runforrest-orders", daemon=True).start()
        with forwarded(runner):
            reason = runner.run()
    except (RunforrestError, OSError) as error:
        _say(str(error))
        return TROUBLE
    return _CODES.get(reason, LEFT_EARLY)


def _private_pipes() -> tuple[int, int]:
    """The two ends, which nothing that is started from here inherits."""
    orders, reports = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    os.set_blocking(reports, False)
    return orders, reports


class _Reports:
    """What the executor is told at once; it finds out by itself if the pipe is full, or closed."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def started(self, name: Name) -> None:
        self._tell(f"{STARTED}/{name}\n")

    def finished(self, name: Name, state: str, report: dict[str, Any]) -> None:
        if state in (layout.DONE, layout.FAIL):
            self._tell(f"{state}/{name}\n")

    def _tell(self, line: str) -> None:
        try:
            os.write(self._fd, line.encode())
        except OSError:
            pass


def _obey(runner: Runner, orders: int) -> None:
    try:
        while os.read(orders, 65536):
            runner.tell(ev.MoreWork())
    except OSError:
        pass
    runner.tell(ev.NoMore())


def _say(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        pass
