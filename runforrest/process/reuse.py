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

GROWTH = 512 << 20                  # bytes by which the child may grow before it is replaced
LOOK_EVERY = 64                     # tasks between two looks at its memory


def path_of(order: bytes, deaths: int) -> bytes:
    """The file of an order to run; b'' if it is another one, or was given before the slot's last guard died."""
    word, _, rest = order.rstrip().partition(b" ")
    known, _, path = rest.partition(b" ")
    return path if word == b"run" and int(known) >= deaths else b""


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
        path = next(filter(None, (path_of(order, deaths) for order in orders.splitlines())), b"")
        if not path:
            continue
        child.page.begin(path)
        os.write(reports, _one(child, surroundings, path.decode(), guard))
        child.page.state = pages.IDLE
        done += 1


def _one(child: Child, surroundings: Surroundings, path: str, guard: int) -> bytes:
    """Run one task; returns the report."""
    name = Name.parse(path.rpartition("/")[2])
    assert name is not None
    try:
        claimed = Claimed(child.fs, path, name, child.config)
    except OSError as error:
        return fault(name, path, error)
    claimed.enter(surroundings)
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
