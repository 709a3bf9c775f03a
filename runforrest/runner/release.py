"""The releaser: a thread that lets waiting tasks go when what they wait for has ended.

It is started when there is a ``waiting/`` in the list.  For a task that nobody waits for it costs nothing: whose end
somebody waits for is known from the last look, one listing a heartbeat, and what this runner has ended since then is
remembered until the next.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from runforrest.folder import layout
from runforrest.folder.gates import Gates
from runforrest.folder.transitions import TaskFolder
from runforrest.model import events as ev
from runforrest.model.names import Name

SWEEP_SHARE = 50.0                 # spend at most 1/50 of the time on sweeps that nothing calls for …
ASK_SHARE = 20.0                   # … and 1/20 with nothing else to do
JOIN_SECONDS = 5.0


class Releaser:
    """What one runner does about tasks that wait.

    tell    gives the loop an event
    wanted  chooses the tasks that are this runner's; None for all
    """

    def __init__(self, folder: TaskFolder, tell: Callable[[ev.Event], None],
                 wanted: Callable[[Name], bool] | None = None) -> None:
        self.folder, self.tell, self.wanted = folder, tell, wanted
        self.gates = Gates(folder)
        self._ended: deque[tuple[str, str]] = deque()      # what this runner has ended since the last look
        self._awaited: frozenset[str] = frozenset()        # as of the last look
        self._at_work = threading.Lock()
        self._wake, self._leaving = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._due = True                                   # a sweep
        self._sweep_after = self._ask_after = 0.0
        self._outlook = (False, "")

    def note(self, name: Name, state: str) -> None:
        """A task is in done/ or fail/ now.  Touches no file."""
        self._ended.append((name.id, state))
        if name.id in self._awaited:
            self._wake.set()

    def look(self, sweep: bool = False) -> None:
        """Once a heartbeat: see whether there is anything to do.  ``sweep``: somebody has died."""
        before = len(self._ended)
        if not self._is_needed():
            self._due = True
            if self._at_work.acquire(blocking=False):      # else the next look forgets them
                for _ in range(min(before, len(self._ended))):      # what has ended since then stays noted
                    self._ended.popleft()
                self._at_work.release()
            return
        self._due = self._due or sweep
        if self._thread is None and not self._leaving.is_set():
            self._thread = threading.Thread(target=self._run, name="runforrest-releaser", daemon=True)
            self._thread.start()
        self._wake.set()

    def _is_needed(self) -> bool:
        return self.folder.fs.exists(layout.WAITING)

    def outlook(self, leaving: bool) -> tuple[bool, str]:
        """(whether what waits may be let go yet, if not why), asked by the loop when it has nothing to start.

        ``leaving``: nothing runs here either.  Raises OSError.
        """
        if not self._is_needed():
            return False, ""
        if not leaving:
            if self._ended:
                self._wake.set()
            return True, ""
        begun = time.monotonic()
        if self._ended or begun >= self._ask_after:
            opened = self.gates.opened
            self._work(sweep=True)
            with self._at_work:
                self._outlook = self.gates.waiting.outlook(self.wanted) if self.gates.opened == opened else (True, "")
            self._ask_after = time.monotonic() + ASK_SHARE * (time.monotonic() - begun)
        return self._outlook

    def _run(self) -> None:
        while self._wake.wait() and not self._leaving.is_set():
            self._wake.clear()
            try:
                self._work(self._due or time.monotonic() >= self._sweep_after)
            except OSError as error:
                self._due = True
                self.tell(ev.FolderFault(f"{error.strerror or error} while letting waiting tasks go"))
            except Exception as error:
                self.tell(ev.Broken(error))
                return

    def _work(self, sweep: bool) -> None:
        with self._at_work:
            opened = self.gates.opened
            try:
                number = len(self._ended)
                self._awaited = frozenset(self.gates.waiting.awaited())
                for _ in range(number):
                    if self._ended[0][0] in self._awaited:
                        self.gates.ended(self._ended[0])
                    self._ended.popleft()
                if sweep:
                    self._sweep()
            finally:
                self._report(opened)

    def _sweep(self) -> None:
        begun = time.monotonic()
        self._due = False
        try:
            self.gates.sweep()
        except OSError:
            self._due = True
            raise
        self._sweep_after = time.monotonic() + max(self.folder.settings.beat,
                                                   SWEEP_SHARE * (time.monotonic() - begun))

    def _report(self, opened: int) -> None:
        failed = self.gates.settled
        why = f"{len(failed)} task{'s' * (len(failed) != 1)} to fail/, as what they waited for has failed"
        while failed:
            self.tell(ev.Settled(*failed.popleft(), why))
            why = ""
        if self.gates.opened != opened:
            self.tell(ev.MoreWork())

    def close(self, fenced: bool) -> None:
        """End; what this runner has ended is dealt with before, unless others have declared it dead."""
        self._leaving.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS)
        if fenced or not self._ended or (self._thread is not None and self._thread.is_alive()):
            return
        try:
            if self._is_needed():
                self._work(sweep=False)
        except OSError:                                    # the next runner sweeps
            pass
