"""The keeper: a thread that beats, and looks after the other runners, whatever the loop is doing.

It never waits for the loop nor the loop for it: a file server that hangs holds up the beats, but not
the watching and killing of children, which guards do in processes of their own.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from runforrest.folder.leases import Membership
from runforrest.model import events as ev

FOLDER_GONE = "the list's folder was removed"


class Keeper(threading.Thread):
    """Beats every ``beat`` seconds and tells the loop what it finds."""

    def __init__(self, membership: Membership, tell: Callable[[ev.Event], None]) -> None:
        super().__init__(name=f"runforrest-keeper-{membership.runner}", daemon=True)
        self.membership, self.tell = membership, tell
        self.crowded = False
        self._leaving = threading.Event()
        settings = membership.folder.settings
        self._beat = settings.beat
        self._patience = settings.beat * max(1, settings.lease - 1)

    def look(self) -> None:
        """One round over the other runners."""
        drained = self.membership.recover()
        self.crowded = bool(self.membership.peers())
        while self.membership.settled:
            self.tell(ev.Settled(*self.membership.settled.popleft()))
        if drained:
            self.tell(ev.MoreWork())

    def run(self) -> None:
        last = time.monotonic()
        while not self._leaving.wait(max(0.0, last + self._beat - time.monotonic())):
            begun = time.monotonic()
            try:
                if not self.membership.beat():
                    gone = not os.path.isdir(self.membership.fs.root)
                    self.tell(ev.Fenced(FOLDER_GONE if gone else "others have declared this runner lost, "
                                        "and have its tasks"))
                    return
                if time.monotonic() - begun > self._beat or begun - last > 2 * self._beat:
                    self.membership.forget_counts()     # the folder hung: what was seen proves nothing
                last = begun
                self.look()
                self._look_for_room()
            except OSError as error:
                self.tell(ev.FolderFault(f"{error.strerror or error} at a heartbeat"))
                if time.monotonic() - last > self._patience:
                    self.tell(ev.Fenced(f"no heartbeat for {self._patience:g} s"))
                    return
                self._leaving.wait(self._beat / 4)

    def _look_for_room(self) -> None:
        """A full disk stops no rename, so the loop would not notice it; children wait with their results for room."""
        root = self.membership.fs.root
        room = os.statvfs(root)
        if (room.f_blocks and not room.f_bavail) or (room.f_files and not room.f_ffree):
            self.tell(ev.FolderFault(f"no space left for {root}; results wait until there is some"))

    def close(self) -> None:
        self._leaving.set()
        if self.is_alive():
            self.join()
