"""The child that runs many tasks (``isolation="reuse"``): it reads its orders and reports by itself."""

from __future__ import annotations

import json
import os
import signal

from runforrest.folder import attempts, layout
from runforrest.model import outcomes
from runforrest.model.names import Name
from runforrest.process import page as pages
from runforrest.process import system
from runforrest.process.child import Child
from runforrest.process.claimed import Claimed, fault, report_line
from runforrest.process.surroundings import Surroundings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runforrest.process.surroundings import Grant

GROWTH = 512 << 20                  # bytes by which the child may grow before it is replaced
LOOK_EVERY = 64                     # tasks between two looks at its memory


def task_of(order: bytes, deaths: int) -> tuple[bytes, Grant]:
    """The file of an order to run, and what the task was granted.

    b'' if it is another order, or was given before the slot's last guard died.
    """
    word, _, rest = order.rstrip().partition(b" ")
    known, _, rest = rest.partition(b" ")
    if word != b"run" or int(known) < deaths:
        return b"", None
    path, _, grant = rest.partition(b"\t")
    return path, json.loads(grant) if grant else None


def serve_many(child: Child, surroundings: Surroundings, work: int, reports: int, guard: int, deaths: int) -> None:
    """Run the orders that come in on ``work`` until there are enough, or the pipe is closed.

    Just one order that counts is in the pipe at a time, so nothing is read ahead that the next child would miss.
    """
    own = [os.getpid()]
    start = system.memory_of(own)
    most = child.config.max_tasks
    done = 0
    while not (most and done >= most):
        if done % LOOK_EVERY == 0 and system.memory_of(own) > start + GROWTH:
            return
        orders = os.read(work, 65536)
        if not orders:
            return
        path, grant = next((found for found in (task_of(o, deaths) for o in orders.splitlines()) if found[0]),
                           (b"", None))
        if not path:
            continue
        child.page.begin(path)
        report = _one(child, surroundings, path.decode(), grant, guard)
        if not report:
            return
        os.write(reports, report)
        child.page.state = pages.IDLE
        done += 1


def _one(child: Child, surroundings: Surroundings, path: str, grant: Grant, guard: int) -> bytes:
    """Run one task; returns the report; b'' if it is a command, for which there is nothing to be reused."""
    name = Name.parse(path.rpartition("/")[2])
    assert name is not None
    try:
        claimed = Claimed(child.fs, path, name, child.config)
    except OSError as error:
        return fault(name, path, error)
    if claimed.command:
        child.page.leave(json.dumps(grant).encode())
        return b""
    claimed.enter(surroundings, grant)
    if claimed.limits.timeout is not None or claimed.limits.memory is not None:
        claimed.enforce(child.page)
        os.kill(guard, signal.SIGUSR1)          # so that it looks at them
    seen = surroundings.seen()
    try:
        child.attempt(claimed)
    except attempts.TakenOver:
        return report_line({"name": str(name), "gone": True})
    finally:
        surroundings.restore(seen)
    report = child.page.report()
    if child.output.size():
        returned = json.loads(report)["outcome"] == outcomes.RETURNED
        child.output.clear(name, layout.DONE if returned else layout.FAIL)
    return report
