"""A lock in a folder: two programs that would write the same files are kept apart.

It is the system's lock on a file (`fcntl.lockf`), so it ends with its process, and also for other hosts where the
filesystem carries it to them.  Where it does not, who holds it is written in the file: of a process on this host it can
be told whether it lives; one on another host is taken for dead when its file has not grown for a while, by the clock of
whoever waits.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from runforrest.folder import identity
from runforrest.folder.fsio import FileOps
from runforrest.folder.locking import is_named
from runforrest.mapping.failures import MapInUse

BEAT_SECONDS = 15.0
PATIENCE_SECONDS = 75.0            # without a beat, until a process on another host is taken for dead
NAME = "lock"
_BUSY = (errno.EACCES, errno.EAGAIN)
_held: set[str] = set()            # by this process: the system would let it have the same twice


class Lock:
    """Of one folder.  ``say`` is told why it takes long."""

    def __init__(self, fs: FileOps, say: Callable[[str], None]) -> None:
        self._fs, self._say = fs, say
        self._key = os.path.realpath(fs.root)
        self._fd = -1
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="runforrest-lock", daemon=True)

    def __enter__(self) -> Lock:
        """Raises MapInUse."""
        if self._key in _held:
            raise _in_use(self._fs, identity.identity())
        self._fd = self._locked()
        _held.add(self._key)
        try:
            self._inherit()
            os.ftruncate(self._fd, 0)
            os.write(self._fd, json.dumps(identity.identity(local=identity.is_local(self._fs.root))).encode() + b"\n")
        except BaseException:
            self._close()
            raise
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._released.set()
        self._thread.join()                 # else it might write to another file that gets the same number
        self._fs.unlink(NAME)
        self._close()

    def _close(self) -> None:
        _held.discard(self._key)
        os.close(self._fd)

    def _locked(self) -> int:
        """The file, open and locked."""
        while True:
            make_folder(self._fs.root)
            try:
                fd = self._fs.open_output(NAME)
            except FileNotFoundError:       # whoever had it has removed the folder just now
                continue
            try:
                if not _lock(fd):
                    raise _in_use(self._fs, _owner(fd))
                if is_named(fd, self._fs.path(NAME)):      # else whoever had it has removed it just now
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _inherit(self) -> None:
        """The system says that nobody has it: be sure of who is written there and has not removed it."""
        found = _owner(self._fd)
        verdict = identity.verdict(found, identity.is_local(self._fs.root)) if found else "dead"
        if verdict == "alive":
            raise _in_use(self._fs, found)
        if verdict == "dead":
            return
        self._say(f"{self._fs.root} was left, or is being worked on, by {_shown(found)}: waiting "
                  f"{PATIENCE_SECONDS:g} s for a sign of life")
        size, until = self._size(), time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            time.sleep(min(1.0, PATIENCE_SECONDS / 10))
            if self._size() != size:
                raise _in_use(self._fs, found)

    def _size(self) -> int:
        self._fs.exists(NAME)               # has the file server asked
        return os.stat(self._fs.path(NAME)).st_size

    def _beat(self) -> None:
        while not self._released.wait(BEAT_SECONDS):
            try:
                os.write(self._fd, b".")
                os.fsync(self._fd)
            except OSError:                 # a full disk
                continue


def make_folder(folder: str) -> None:
    """For this user alone: what is in it will be unpickled."""
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass


def _lock(fd: int) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False                    # any other error: no locks on this filesystem
    return True


def _owner(fd: int) -> dict[str, Any]:
    try:
        found = json.loads(os.pread(fd, 1 << 16, 0).partition(b"\n")[0])
        return found if isinstance(found, dict) else {}
    except ValueError:
        return {}


def _shown(owner: dict[str, Any]) -> str:
    return f"process {owner.get('pid', '?')} on {owner.get('host', 'a host that is not known')}"


def _in_use(fs: FileOps, owner: dict[str, Any]) -> MapInUse:
    return MapInUse(f"{fs.root} is being worked on by {_shown(owner)}: wait until that has ended, or use another file "
                    f"name", directory=fs.root, owner=owner)
