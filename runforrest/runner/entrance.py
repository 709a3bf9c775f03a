"""Signing on in a folder that is in trouble: the runner waits, and says so, as it would at work."""

from __future__ import annotations

import errno
import os
import select
from collections import deque
from collections.abc import Callable

from runforrest.folder.fsio import FileOps
from runforrest.model import events as ev
from runforrest.process.wakeup import Wakeup

#: what passes; a folder that is read-only, forbidden or not there is most likely the wrong one
WAITED_FOR = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE)
PAUSE_MS = 1000                    # milliseconds between two tries
ENTERING = "at the start"


class Entrance:
    """What a runner does before its loop, and hears meanwhile.

    handle    performs what the brain says to an event
    events    what came in from signal handlers and other threads, which set ``wakeup``
    is_over   tells whether it is to leave, after what it has heard
    """

    def __init__(self, fs: FileOps, handle: Callable[[ev.Event], None], events: deque[ev.Event], wakeup: Wakeup,
                 is_over: Callable[[], bool]) -> None:
        self._fs, self._handle, self._events, self._wakeup, self._is_over = fs, handle, events, wakeup, is_over

    def done(self, act: Callable[[], object]) -> bool:
        """Try this until it works; False if the runner is to leave before.  Raises OSError for what won't pass."""
        told = False
        while True:
            try:
                act()
            except OSError as error:
                if not self._passes(error):
                    raise
                if not told:
                    self._handle(ev.FolderFault(f"{error.strerror}: {error.filename or self._fs.root}",
                                                source=ENTERING))
                told = True
            else:
                if told:
                    self._handle(ev.Recovered(ENTERING))
                return True
            self._listen()
            if self._is_over():
                return False

    def _passes(self, error: OSError) -> bool:
        try:
            os.lstat(self._fs.root)
        except FileNotFoundError:
            return False
        except OSError:
            pass
        return error.errno in WAITED_FOR

    def _listen(self) -> None:
        poller = select.poll()              # `select` knows only the first 1024 descriptors
        poller.register(self._wakeup.reader, select.POLLIN)
        poller.poll(PAUSE_MS)
        self._wakeup.clear()
        while self._events:
            self._handle(self._events.popleft())
        self._handle(ev.Tick())
