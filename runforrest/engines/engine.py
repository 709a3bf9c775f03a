"""An engine: some runners, started together."""

from __future__ import annotations

import time
from collections.abc import Sequence

from runforrest.engines.held import Held
from runforrest.engines.retirement import Retirement
from runforrest.engines.start import Ended, Start
from runforrest.errors import FolderError

POLL_SECONDS = 0.1
DONE = (0, 1)                      # exit codes of runners that have seen nothing more to do
CLOSE_SECONDS = 20.0               # a request is seen within two, a task has `grace`


class Engine:
    """Runners, and the way in which they are held.  It gives up none of them because another one has failed.

    retirement  told of each host whose runner has ended
    size        how many runners there are, started or not
    """

    def __init__(self, runners: Sequence[Held], retirement: Retirement | None = None) -> None:
        self.size = len(runners)
        self._waiting = list(runners)
        self._held: list[Held] = []
        self._lost: list[Held] = []
        self._gone: list[tuple[Held, Ended]] = []   # which may be started again
        self._again: set[Held] = set()
        self._stop: bool | None = None      # None, or whether now
        self.retirement = retirement

    def start(self) -> None:
        """Start all; whatever prevents that is told by `poll`."""
        while self._waiting:
            held = self._waiting.pop(0)
            held.open()
            self._held.append(held)

    @property
    def running(self) -> list[Start]:
        """The runners that have not ended, as far as `poll` has seen."""
        return [held.start for held in self._held]

    def poll(self) -> list[Ended]:
        """Those that have ended since the last call."""
        found = [(held, ended) for held in self._held if (ended := held.ended()) is not None]
        for held, ended in found:
            self._held.remove(held)
            if ended.lost:
                self._lost.append(held)
                continue
            held.close()
            if held not in self._again:
                self._gone.append((held, ended))
            if self.retirement is not None:
                self.retirement.add(ended.start.node, ended.code)
        if self._stop is not None:
            self._tell(self._stop)          # again, for who was not there yet
        if self.retirement is not None:
            self.retirement.poll()
        return [ended for _, ended in found]

    def wait(self, seconds: float | None = None) -> list[Ended]:
        """Wait until all have ended, so long at most; those that have ended meanwhile."""
        deadline = None if seconds is None else time.monotonic() + seconds
        found = self.poll()
        while self._held and (deadline is None or time.monotonic() < deadline):
            time.sleep(POLL_SECONDS)
            found += self.poll()
        return found

    def start_again(self) -> Start | None:
        """Start one of those once more that have left in order, or were killed, if there is one; it stays to the end.

        None on a host that was given back; each once at most.
        """
        def could(ended: Ended) -> bool:
            return not ended.told and (ended.code in DONE or ended.code < 0)

        for held, ended in sorted((each for each in self._gone if could(each[1])), key=lambda each: each[1].code < 0):
            self._gone.remove((held, ended))
            if self.retirement is None or self.retirement.take_back(ended.start.node):
                again = held.another(held.start.staying())
                again.open()
                self._again.add(again)
                self._held.append(again)
                return again.start
        return None

    def stop(self, now: bool = False) -> None:
        """Ask all to leave: when the tasks have ended that they run, or (``now``) at once, with those put back.

        Returns at once; `poll` goes on asking, and tells who has left.
        """
        self._stop = bool(self._stop) or now
        self._tell(self._stop)

    def close(self, seconds: float = CLOSE_SECONDS) -> list[Ended]:
        """Have all leave now, and let go after so long of those that have not; those that have ended meanwhile.

        A runner on another host that has not seen by then that it is asked to leave leaves when it does.
        """
        found: list[Ended] = []
        if self._held:
            self.stop(now=True)
            found = self.wait(seconds)
        for held in self._held:
            held.let_go()
        found += self.poll()
        while self._lost:
            self._lost.pop().close()
        if self.retirement is not None:
            self.retirement.close()
        return found

    def __enter__(self) -> Engine:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _tell(self, now: bool) -> None:
        for held in [*self._held, *self._lost]:
            try:
                held.tell(now)
            except (OSError, FolderError):  # the folder can't be reached, or is gone: at the next `poll`
                continue
