"""The system's lock on a file of the list (flock), for what must not be done by two at once, and can be left undone.

No task's safety depends on it: not every filesystem has locks, or carries them to other hosts.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from runforrest.folder.fsio import FileOps

STEP = 0.02                        # seconds between two tries


@contextmanager
def locked(fs: FileOps, name: str, seconds: float) -> Iterator[bool]:
    """Hold the lock on this file, which is made, and removed afterwards; False if it could not be had in this time."""
    fd = _acquire(fs, name, time.monotonic() + seconds)
    if fd < 0:
        yield False
        return
    try:
        yield True
    finally:
        try:
            fs.unlink(name)                 # before another one has the lock: that one would not own what is named so
        except OSError:
            pass
        finally:
            _release(fd)


def _acquire(fs: FileOps, name: str, deadline: float) -> int:
    """The file, open and locked; -1 if that can't be."""
    while True:
        try:
            fd = fs.open_output(name)
        except OSError:                     # the list was removed, say, or the name is a link
            return -1
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_named(fd, fs.path(name)):
                return fd
            pause = 0.0                     # whoever had it has removed it
        except BlockingIOError:
            pause = STEP
        except OSError:                     # no locks here
            os.close(fd)
            return -1
        os.close(fd)                        # the next one may be another file
        if time.monotonic() >= deadline:
            return -1
        time.sleep(pause)


def _release(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)      # a fork may still have it open
    except OSError:
        pass
    os.close(fd)


def is_named(fd: int, path: str) -> bool:
    """Whether this open file is still the one with this name.  Raises OSError."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
