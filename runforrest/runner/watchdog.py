"""The watchdog: a thread that touches no file, so that nothing on a file server can hold it up.

A file server that hangs holds up the keeper in the middle of a heartbeat, and the loop in a claim.  The
tasks must be dead before the lease is over all the same, as another runner may start them then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

AGAIN = 20                         # barks in the time of one patience


class Watchdog(threading.Thread):
    """Calls ``bark``, again and again, while ``last_beat`` (seconds on the monotonic clock) is more than ``patience``
    behind: a guard that waits for the file server as well starts its task afterwards, and must be told once more.
    """

    def __init__(self, name: str, last_beat: Callable[[], float], patience: float, bark: Callable[[], None]) -> None:
        super().__init__(name=f"runforrest-watchdog-{name}", daemon=True)
        self.last_beat, self.patience, self.bark = last_beat, patience, bark
        self._leaving = threading.Event()

    def run(self) -> None:
        while not self._leaving.wait(left if (left := self._left()) > 0 else self.patience / AGAIN):
            if self._left() <= 0:
                self.bark()

    def _left(self) -> float:
        return self.last_beat() + self.patience - time.monotonic()

    def close(self) -> None:
        self._leaving.set()
        if self.is_alive():
            self.join()
