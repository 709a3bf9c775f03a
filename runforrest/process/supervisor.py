"""Watching one child: its limits, the ways to end it, and the end of all that it leaves behind.

Loaded in every child.
"""

from __future__ import annotations

import os
import time

from runforrest.model import outcomes
from runforrest.model.ladder import KILL, TERM, Ladder
from runforrest.model.limits import GRACE
from runforrest.process import page as pages
from runforrest.process import system
from runforrest.process.waiting import RunnerGone

TYPE_CHECKING = False
if TYPE_CHECKING:
    import resource
    from collections.abc import Callable

    from runforrest.process.page import Page
    from runforrest.process.waiting import Waiter

MEMORY_SECONDS = 0.05               # between two looks at the memory of a task that has a limit
LOOK_SECONDS = 1.0                  # between two looks whether its result waits to be written
SWEEP_SECONDS = 0.002               # between two looks at what has been killed
RELEASED = "released"               # why a child was ended: its task goes back uncounted


class Ended:
    """How a child ended: its pid, wait status, resource usage, and why it was ended if it was; and the most bytes that
    it and all below it were seen to hold together, 0 if nobody looked.
    """

    __slots__ = ("held", "pid", "reason", "status", "usage")

    def __init__(self, pid: int, status: int, usage: resource.struct_rusage, reason: str, held: int) -> None:
        self.pid, self.status, self.usage, self.reason, self.held = pid, status, usage, reason, held


def supervise(child: int, page: Page, waiter: Waiter, current: Callable[[], bytes],
              tell: Callable[[int], None]) -> Ended:
    """Wait for the child to end, or see to it; then end whatever it left behind.

    current  gives the path of the task that it runs
    tell     called with an errno when the child has a result that can't be written now
    Raises RunnerGone, after it has killed all.
    """
    ladder, waits, most = Ladder(None, GRACE), 0, 0
    waiter.watch(child)
    try:
        while True:
            pid, status, usage = os.wait4(child, os.WNOHANG)
            if pid:
                sweep()
                return Ended(child, status, usage, ladder.reason, most)
            if page.waits != waits:
                waits = page.waits
                if waits:
                    tell(waits)
            wait, held = _step(child, page, ladder)
            most = max(most, held)
            for order in waiter.wait(wait):
                word, _, rest = order.partition(b" ")
                if word == b"release":
                    ladder.end(RELEASED, time.monotonic(), float(rest))
                elif word == b"cutoff" and page.state < pages.WRITING:  # what has a result runs no user's code
                    ladder.end(RELEASED, time.monotonic(), 0.0)
                elif word == b"cancel" and rest == current():
                    ladder.end(outcomes.CANCELLED, time.monotonic())
    except RunnerGone:
        system.kill_tree(child)
        sweep()
        raise
    finally:
        waiter.unwatch()


def _step(child: int, page: Page, ladder: Ladder) -> tuple[float | None, int]:
    """Enforce the limits that stand on the page; returns the seconds until the next look, and the bytes held now."""
    deadline, ladder.grace, memory = page.limits()
    if page.state >= pages.WRITING:                     # it has its result: no limit while it writes
        deadline = memory = None
    ladder.deadline = deadline
    if deadline is None and memory is None and not ladder.reason:
        return LOOK_SECONDS, 0
    now, held = time.monotonic(), 0
    watched = memory is not None and not ladder.reason
    if memory is not None and watched:
        held = system.memory_of([child, *system.descendants(child)])
        if held > memory:
            ladder.end(outcomes.OUT_OF_MEMORY, now, 0.0)
    step = ladder.due(now)
    if step == TERM:
        system.terminate_tree(child)
    elif step == KILL:
        system.kill_tree(child)
    wait = ladder.wait(time.monotonic())
    return min(MEMORY_SECONDS, wait or MEMORY_SECONDS) if watched else wait, held


def sweep() -> None:
    """KILL and reap until nothing is left below this process; one call when there is nothing."""
    while True:
        try:
            pid = os.waitpid(-1, os.WNOHANG)[0]
        except ChildProcessError:
            return
        if not pid:
            system.kill_tree()
            time.sleep(SWEEP_SECONDS)
