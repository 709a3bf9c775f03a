"""The child that runs many tasks (``isolation="reuse"``): it reads its orders and reports by itself."""

from __future__ import annotations

import json
import os
import signal
import sys

from runforrest.folder import attempts, layout
from runforrest.folder.fsio import FileOps
from runforrest.model import outcomes
from runforrest.model.limits import Limits
from runforrest.model.names import Name
from runforrest.process import page as pages
from runforrest.process import system
from runforrest.process.child import Child
from runforrest.process.config import Config
from runforrest.process.guard import enforce, load
from runforrest.process.output import Output
from runforrest.process.page import Page

GROWTH = 512 << 20                  # bytes by which the child may grow before it is replaced
LOOK_EVERY = 64                     # tasks between two looks at its memory


def serve_many(config: Config, fs: FileOps, output: Output, page: Page, work: int, reports: int, guard: int) -> None:
    """Run the orders that come in on ``work`` until there are enough, or the pipe is closed.

    The pipe holds lines; just one order is in it at a time, so nothing is read ahead that the next
    child would miss.
    """
    child = Child(config, fs, output, page)
    directory, environ, path = os.getcwd(), dict(os.environ), list(sys.path)
    start = system.memory_of([child.pid])
    done = 0
    while not (config.max_tasks and done >= config.max_tasks):
        if done % LOOK_EVERY == 0 and system.memory_of([child.pid]) > start + GROWTH:
            return
        line = os.read(work, 65536)
        if not line:
            return
        order = json.loads(line)
        file: str = order["path"]
        name = Name.parse(file.rpartition("/")[2])
        assert name is not None
        page.begin(order)
        _report(reports, name, _one(child, file, name, guard))
        page.state = pages.IDLE
        done += 1
        if os.environ != environ:
            os.environ.clear()
            os.environ.update(environ)
        sys.path[:] = path
        os.chdir(directory)


def _one(child: Child, file: str, name: Name, guard: int) -> dict[str, object]:
    try:
        task, call, problem = load(child.fs, file, name)
    except OSError as error:
        return {"fault": f"{error.strerror or error}: {file}", "gone": isinstance(error, FileNotFoundError)}
    limits = Limits.from_json(task.envelope.get("limits")).or_else(child.config.limits)
    if limits.timeout is not None or limits.memory is not None:
        enforce(child.page, limits)
        os.kill(guard, signal.SIGUSR1)          # so that it looks at them
    try:
        summary = child.attempt(file, task, call, problem)
    except attempts.TakenOver:
        return {"gone": True}
    child.output.clear(name, layout.DONE if summary["outcome"] == outcomes.RETURNED else layout.FAIL)
    return summary


def _report(reports: int, name: Name, message: dict[str, object]) -> None:
    os.write(reports, json.dumps({"name": str(name), **message}, separators=(",", ":")).encode() + b"\n")
