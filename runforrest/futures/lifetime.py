"""What becomes of the executors of a program when it ends, and when it is forked."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import Protocol


class Lasting(Protocol):
    """What an executor has that must come to its end before the program does.

    pid      of the process that it belongs to
    leaving  nobody waits for it
    """

    pid: int
    leaving: bool

    def close(self) -> None: ...

    def wait(self) -> None: ...

    def forked(self) -> None:
        """In the child: nothing of it is there but memory, and its locks are in whatever state."""


_all: weakref.WeakSet[Lasting] = weakref.WeakSet()
_exiting = False


def keep(lasting: Lasting) -> None:
    """Have this one waited for at the end."""
    _all.add(lasting)


def is_exiting() -> bool:
    return _exiting


@atexit.register
def _at_exit() -> None:
    """As the executors of the standard library, wait for what was submitted, unless told not to."""
    global _exiting
    _exiting = True
    for lasting in list(_all):
        if lasting.pid == os.getpid():
            lasting.close()
            if not lasting.leaving:
                lasting.wait()


def _in_child() -> None:
    for lasting in list(_all):
        lasting.forked()


os.register_at_fork(after_in_child=_in_child)
