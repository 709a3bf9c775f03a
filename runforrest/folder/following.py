"""Which tasks have ended: heard from the runners' journals, and looked up where nothing was heard.

A journal tells quickly and costs no listing of folders that may hold a million files; but its last lines are lost
with a runner that is killed.  The folders tell everything.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from runforrest.folder import layout
from runforrest.folder.transitions import TaskFolder
from runforrest.model.names import Name

LOOK_SECONDS, LOOK_SHARE = 0.05, 20.0      # look into done/ and fail/ this often, but spend at most 1/20 of the time
SETTLED_NS = 50_000_000            # a folder that has changed so shortly before it was listed may change unnoticed
CHUNK = 1 << 20


class Following:
    """What ends in a list from now on.

    Whoever follows keeps account of what was told: both ways tell the same ends, and `looked` tells old ones.
    """

    def __init__(self, folder: TaskFolder) -> None:
        self.folder = folder
        self._tails: dict[str, _Tail] = {}
        self._looked_at = self._look_took = 0.0
        self._stamps: dict[str, int] = {}           # by state: mtime of the folder when it was listed
        self._forgotten = 0                         # how often
        for path in self._journals():               # what is in them now, the first look into the folders shows
            self._tails[path] = _Tail(folder, path, at_end=True)

    def heard(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """What the journals tell since the last time: id, ``done`` or ``fail``, and the record of the attempt."""
        for path in self._journals():
            tail = self._tails.get(path)
            if tail is None:
                tail = self._tails[path] = _Tail(self.folder, path)
            for line in tail.lines():
                found = _loads(line)
                if found.get("state") in (layout.DONE, layout.FAIL):
                    yield str(found.get("task", "")), found["state"], found

    def look_due(self, least: float = LOOK_SECONDS) -> bool:
        return time.monotonic() - self._looked_at > max(least, LOOK_SHARE * self._look_took)

    def looked(self, of_interest: Callable[[str], object]) -> Iterator[tuple[Name, str]]:
        """The tasks in ``done/`` and ``fail/`` of whose files' names ``of_interest`` is true; it is asked for many.

        A folder of this machine alone that has not changed is not listed again.
        """
        begun, forgotten = time.monotonic(), self._forgotten
        for state in (layout.DONE, layout.FAIL):
            stamp = self._stamp(state)
            if stamp and stamp == self._stamps.get(state):
                continue
            for entry in self.folder.fs.scan(state):
                name = Name.parse(entry) if of_interest(entry) else None
                if name is not None:
                    yield name, state
            if forgotten == self._forgotten:
                self._stamps[state] = stamp
        self._looked_at = time.monotonic()
        self._look_took = self._looked_at - begun

    def forget(self) -> None:
        """Somebody may have missed an end: the next look tells all.  From any thread, also while another one looks."""
        self._forgotten += 1
        self._stamps.clear()
        self._looked_at = 0.0

    def _stamp(self, state: str) -> int:
        """When the folder last changed; 0 if that can't be relied upon."""
        if not self.folder.local:
            return 0
        try:
            changed = os.stat(self.folder.fs.path(state)).st_mtime_ns
        except OSError:
            return 0
        return changed if time.time_ns() - changed > SETTLED_NS else 0

    def _journals(self) -> list[str]:
        names = [f"{layout.JOURNAL}/{name}" for name in self.folder.fs.entries(layout.JOURNAL)]
        return [*names, layout.HISTORY]


class _Tail:
    """The lines that are added to a file."""

    def __init__(self, folder: TaskFolder, path: str, at_end: bool = False) -> None:
        self.fs, self.path = folder.fs, path
        self._rest = b""
        self._at = 0
        if at_end:
            try:
                self._at = os.stat(self.fs.path(path)).st_size
            except OSError:
                pass

    def lines(self) -> Iterator[bytes]:
        try:
            fd = self.fs.open_read(self.path)
        except OSError:                             # merged into the history, or not there yet
            return
        try:
            while data := os.pread(fd, CHUNK, self._at):
                self._at += len(data)
                *lines, self._rest = (self._rest + data).split(b"\n")
                yield from lines
        finally:
            os.close(fd)


def _loads(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
