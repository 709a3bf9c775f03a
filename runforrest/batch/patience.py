"""Writing to a disk that is full or away for a while."""

from __future__ import annotations

import time
from collections.abc import Callable

from runforrest.folder.attempts import PASSING

PAUSE = 1.0                        # seconds


def patiently(act: Callable[[], object], say: Callable[[str], None]) -> None:
    """Try this until it works, as those do who have a task's result to write.

    say  is told once that it does not work yet
    Raises OSError if that is none which passes.
    """
    told = False
    while True:
        try:
            act()
            return
        except OSError as error:
            if error.errno not in PASSING:
                raise
            if not told:
                say(f"waits until the disk is well again: {error}")
            told = True
            time.sleep(PAUSE)
