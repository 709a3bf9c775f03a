"""The watchdog: a thread that touches no file, so that nothing on a file server can hold it up.

A file server that hangs holds up the keeper in the middle of a heartbeat, and the loop in a claim.  The
tasks must be dead before the lease is over all the same, as another runner may start them then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Watchdog(threading.Thread):
    """Calls ``bark`` once, if ``last_beat`` (seconds on the monotonic clock) stays behind by more than ``patience``."""

    def __init__(self, name: str, last_beat: Callable[[], float], patience: float, bark: Callable[[], None]) -> None:
        super().__init__(name=f"runforrest-watchdog-{name}", daemon=True)
        self.last_beat, self.patience, self.bark = last_beat, patience, bark
        self._leaving = threading.Event()

    def run(self) -> None:
        while (left := self.last_beat() + self.patience - time.monotonic()) > 0:
            if self._leaving.wait(left):
                return
        self.bark()

    def close(self) -> None:
        self._leaving.set()
        if self.is_alive():
            self.join()
