"""The keeper: a thread that beats, and one that looks after the other runners, whatever the loop is doing.

They never wait for the loop nor the loop for them: a file server that hangs holds up the beats, but not
the watching and killing of children, which guards do in processes of their own.  Nor do the beats wait
for the taking back of tasks: an NFSv4 server that has lent a file to a host that is dead now lets nobody
else move it for a minute and more, and whoever did not beat in that time would be given up as well.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable

from runforrest.folder import layout, requests
from runforrest.folder.leases import Membership
from runforrest.model import events as ev

FOLDER_GONE = "the list's folder was removed"
REQUESTS_SECONDS = 2.0             # between two looks at what people ask
JOIN_SECONDS = 5.0                 # patience, when leaving, with a task that is just being taken back


class Keeper(threading.Thread):
    """Beats every ``beat`` seconds and tells the loop what it finds."""

    def __init__(self, membership: Membership, tell: Callable[[ev.Event], None]) -> None:
        super().__init__(name=f"runforrest-keeper-{membership.runner}", daemon=True)
        self.membership, self.tell = membership, tell
        self.crowded = False
        self.last_beat = time.monotonic()   # when the last heartbeat that succeeded was begun
        self.barked = False                 # the loop was told of a CutOff: the next heartbeat answers with Reached
        self._full = False
        self._asked = requests.Asked()
        self._leaving = threading.Event()
        self._looker = threading.Thread(target=self._look_after_beats, name=f"{self.name}-looker", daemon=True)
        self._beaten = threading.Event()    # since the last look
        self._hung = False                  # the folder did; since the last look
        settings = membership.folder.settings
        self._beat = settings.beat
        # Others may have seen the last heartbeat as soon as it was made, and then count `lease` looks, the first of
        # which may follow at once: one beat of the lease is theirs.  Another is for the killing.
        self.patience = settings.beat * max(1.5, settings.lease - 2)

    def start(self) -> None:
        """To be called within a beat of the registration, which counts as a heartbeat; the next is made at once."""
        self.last_beat = time.monotonic() - self._beat
        self._looker.start()
        super().start()

    def look(self) -> None:
        """One round over the other runners."""
        drained = self.membership.recover(self._beat)
        self.crowded = bool(self.membership.peers())
        while self.membership.settled:
            self.tell(ev.Settled(*self.membership.settled.popleft()))
        if drained:
            self.tell(ev.MoreWork())

    def run(self) -> None:
        try:
            self._beat_on()
        except Exception as error:
            self.tell(ev.Broken(error))

    def _beat_on(self) -> None:
        while not self._leaving.wait(self._pause()):
            try:
                if time.monotonic() >= self.last_beat + self._beat:
                    if not self._beat_once():
                        return
                    self._beaten.set()
                    self._look_for_room()
                self.look_at_requests()
            except OSError as error:        # however long; that the tasks end in time is the watchdog's business
                if isinstance(error, FileNotFoundError) and time.monotonic() - self.last_beat > self.patience:
                    self.tell(ev.Fenced("its heartbeat was removed"))
                    return
                self.tell(ev.FolderFault(f"{error.strerror or error} at a heartbeat"))
                self._leaving.wait(self._beat / 4)

    def _look_after_beats(self) -> None:
        """One look for each heartbeat at most: a lease is counted in looks."""
        while self._beaten.wait() and not self._leaving.is_set():
            self._beaten.clear()
            if self._hung:
                self._hung = False
                self.membership.forget_counts()     # what was seen before proves nothing
            try:
                self.look()
            except OSError as error:
                self.tell(ev.FolderFault(f"{error.strerror or error} while looking after the other runners"))
            except Exception as error:
                self.tell(ev.Broken(error))
                return

    def _pause(self) -> float:
        return max(0.0, min(REQUESTS_SECONDS, self.last_beat + self._beat - time.monotonic()))

    def _beat_once(self) -> bool:
        begun, last = time.monotonic(), self.last_beat
        if not self.membership.beat():
            gone = not os.path.isdir(self.membership.fs.root)
            self.tell(ev.Fenced(FOLDER_GONE if gone else "others have declared this runner lost, "
                                "and have its tasks"))
            return False
        if time.monotonic() - begun > self._beat or begun - last > 2 * self._beat:
            self._hung = True
        self.last_beat = begun
        if self.barked:
            self.barked = False
            self.tell(ev.Reached())
        return True

    def look_at_requests(self) -> None:
        """Tell the loop if people ask something else of this runner than before."""
        asked = requests.look(self.membership.fs, self.membership.runner)
        if asked != self._asked:
            self._asked = asked
            self.tell(ev.Asked(asked.pause != "", asked.stop == requests.STOP, asked.stop == requests.STOP_NOW,
                               asked.cancel))

    def _look_for_room(self) -> None:
        """A full disk stops no rename, so the loop would not notice it; children wait with their results for room."""
        full = self._is_full()
        if full != self._full:
            self._full = full
            self.tell(ev.Room(not full, self.membership.fs.root))

    def _is_full(self) -> bool:
        """Some filesystems have numbers that mean nothing, and root may use what is kept for it: so it is tried."""
        fs = self.membership.fs
        room = os.statvfs(fs.root)
        if not ((room.f_blocks and not room.f_bavail) or (room.f_files and not room.f_ffree)):
            return False
        name = f"{layout.TMP}/{self.membership.runner}.room"
        try:
            fs.create(name, [bytes(1 << 16)])
        except OSError as error:
            return error.errno in (errno.ENOSPC, errno.EDQUOT)
        finally:
            fs.unlink(name)
        return False

    def close(self) -> None:
        self._leaving.set()
        self._beaten.set()
        if self.is_alive():
            self.join()
        if self._looker.is_alive():
            self._looker.join(JOIN_SECONDS)
