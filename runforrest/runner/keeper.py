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
from runforrest.folder.cancelling import withdraw_met
from runforrest.folder.leases import Membership
from runforrest.model import events as ev

FOLDER_GONE = "the list's folder was removed, or has been away for too long"
REQUESTS_SECONDS = 2.0             # between two looks at what people ask
BEATING, LOOKING = "at a heartbeat", "while looking after the other runners"
JOIN_SECONDS = 5.0                 # patience, when leaving, with a task that is just being taken back


class Keeper(threading.Thread):
    """Beats every ``beat`` seconds and tells the loop what it finds."""

    def __init__(self, membership: Membership, tell: Callable[[ev.Event], None],
                 looked: Callable[[bool], None] | None = None) -> None:
        """``looked`` is called after each look at the others, with whether one of them was found dead."""
        super().__init__(name=f"runforrest-keeper-{membership.runner}", daemon=True)
        self.membership, self.tell, self.looked = membership, tell, looked
        self.crowded = False
        self.last_beat = time.monotonic()   # when the last heartbeat that succeeded was begun
        self.barked = False                 # the loop was told of a CutOff: the next heartbeat answers with Reached
        self._full = False
        self._homeless = 0                  # heartbeats in a row at which its folder in doing/ was not there
        self.asked = requests.Asked()       # at the last look
        self._leaving = threading.Event()
        self._looker = threading.Thread(target=self._look_after_beats, name=f"{self.name}-looker", daemon=True)
        self._beaten = threading.Event()    # since the last look
        self._hung = False                  # the folder did; since the last look
        self._root = -1                     # the list's folder, kept open
        self._failing: set[str] = set()     # what could not be done the last time
        settings = membership.folder.settings
        self._beat = settings.beat
        # Others may have seen the last heartbeat as soon as it was made, and then count `lease` looks, the first of
        # which may follow at once: one beat of the lease is theirs.  Another is for the killing.
        self.patience = settings.beat * max(1.5, settings.lease - 2)

    def start(self) -> None:
        """To be called within a beat of the registration, which counts as a heartbeat; the next is made at once."""
        self.last_beat = time.monotonic() - self._beat
        self._root = os.open(self.membership.fs.root, os.O_RDONLY)
        self._looker.start()
        super().start()

    def look(self) -> None:
        """One round over the other runners."""
        drained = self.membership.recover(self._beat)
        withdraw_met(self.membership.folder)
        self.crowded = self.membership.is_crowded()
        while self.membership.settled:
            self.tell(ev.Settled(*self.membership.settled.popleft()))
        if drained:
            self.tell(ev.MoreWork())
        if self.looked:
            self.looked(bool(drained))

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
                self._works(BEATING)
            except OSError as error:        # however long; that the tasks end in time is the watchdog's business
                why = self._why_over(error)
                if why:
                    self.tell(ev.Fenced(why))
                    return
                self._fails(BEATING, error)
                self._leaving.wait(self._beat / 4)

    def _why_over(self, error: OSError) -> str:
        """Why there will be no more heartbeats; '' while there may be.

        A folder that was removed has no name any more; one that was moved away, or unmounted, may come back.
        """
        late = time.monotonic() - self.last_beat > self.patience
        if not self.membership.fs.is_there():
            return FOLDER_GONE if late or self._is_removed() else ""
        return "its heartbeat was removed" if late and isinstance(error, FileNotFoundError) else ""

    def _is_removed(self) -> bool:
        try:
            return os.fstat(self._root).st_nlink == 0
        except OSError as error:
            return error.errno == errno.ESTALE

    def _look_after_beats(self) -> None:
        """One look for each heartbeat at most: a lease is counted in looks."""
        while self._beaten.wait() and not self._leaving.is_set():
            self._beaten.clear()
            if self._hung:
                self._hung = False
                self.membership.forget_counts()     # what was seen before proves nothing
            try:
                self.look()
                self._works(LOOKING)
            except OSError as error:
                self._fails(LOOKING, error)
            except Exception as error:
                self.tell(ev.Broken(error))
                return

    def _fails(self, doing: str, error: OSError) -> None:
        self._failing.add(doing)
        self.tell(ev.FolderFault(f"{error.strerror or error} {doing}", source=doing))

    def _works(self, doing: str) -> None:
        if doing in self._failing:
            self._failing.discard(doing)
            self.tell(ev.Recovered(doing))

    def _pause(self) -> float:
        return max(0.0, min(REQUESTS_SECONDS, self.last_beat + self._beat - time.monotonic()))

    def _beat_once(self) -> bool:
        begun, last = time.monotonic(), self.last_beat
        if not self.membership.beat():
            self.tell(ev.Fenced("others have declared this runner lost, and have its tasks"))
            return False
        if time.monotonic() - begun > self._beat or begun - last > 2 * self._beat:
            self._hung = True
        self.last_beat = begun
        if self.barked:
            self.barked = False
            self.tell(ev.Reached())
        return self._has_its_folder()

    def _has_its_folder(self) -> bool:
        """False if a person has removed its folder in ``doing/``, without which it can claim nothing; it is not made
        anew, as its absence is what keeps a late claim of a dead runner out.
        """
        there = self.membership.fs.exists(f"{layout.DOING}/{self.membership.runner}")
        self._homeless = 0 if there else self._homeless + 1
        if self._homeless * self._beat > self.patience:         # not just hidden by a server in trouble
            self.tell(ev.Fenced(f"its folder in {layout.DOING}/ was removed"))
            return False
        return True

    def look_at_requests(self) -> None:
        """Tell the loop if people ask something else of this runner than before."""
        asked = requests.look(self.membership.fs, self.membership.runner)
        if asked != self.asked:
            self.asked = asked
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
        if self._root >= 0:
            os.close(self._root)
            self._root = -1
