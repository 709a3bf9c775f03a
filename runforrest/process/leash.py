"""What ends a task when its guard dies: a pipe that the system watches, for the whole process group.

The guard holds the end for writing; the task, and all that it starts, the one for reading.  When the guard is gone,
however it went, the system finds the pipe closed and kills the group (``F_SETSIG``, ``F_SETOWN``, ``O_ASYNC``: see
fcntl(2)).  Unlike ``PR_SET_PDEATHSIG`` that can be set for what was spawned, and reaches what a task has started, too.
Only Linux has it.  Loaded in every child.
"""

from __future__ import annotations

import fcntl
import os
import signal
from contextlib import suppress

from runforrest.process import system

LOWEST = 20                         # of descriptors that no script names


class Leash:
    """Of one guard, for one task after another.

    held   descriptors that a task must inherit
    """

    def __init__(self) -> None:
        self.held: tuple[int, ...] = ()
        if system.LINUX:
            reader, self._writer = os.pipe()
            self.held = (fcntl.fcntl(reader, fcntl.F_DUPFD, LOWEST),)
            os.close(reader)
            with suppress(OSError):     # a kernel that only resembles Linux
                fcntl.fcntl(*self.held, fcntl.F_SETSIG, signal.SIGKILL)
                fcntl.fcntl(*self.held, fcntl.F_SETFL, os.O_RDONLY | os.O_ASYNC)

    def put_on(self, leader: int) -> None:
        """From now on it is the group of this process that dies with the guard."""
        for fd in self.held:
            with suppress(OSError):     # it has ended already
                fcntl.fcntl(fd, fcntl.F_SETOWN, -leader)
