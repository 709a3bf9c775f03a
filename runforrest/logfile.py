"""RunForrest's logfile: a line per event, ``YYYY-MM-DDTHH:MM:SS NAME EVENT``, and what the tasks print."""

from __future__ import annotations

import os
import sys
import threading
import time


class Logfile:
    """Appends lines; the file is opened for each event, so it may be moved away or watched."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self._lock = threading.Lock()
        self._failed = False
        with open(self.path, "a"):
            pass                           # a path that can't be written is told at once

    def event(self, name: str, event: str, text: str = "") -> None:
        """One line for the event, then the text, line by line, under the same name.

        A log that can't be written is told once, on standard error.
        """
        now = time.strftime("%Y-%m-%dT%H:%M:%S")
        lines = [f"{now} {name} {event}\n"] + [f"{now} {name} | {line}\n" for line in text.splitlines()]
        try:
            with self._lock, open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write("".join(lines))
        except OSError as error:           # a full disk there is no reason to lose the run
            if not self._failed:
                print(f"runforrest: the logfile can't be written: {error}; the run goes on", file=sys.stderr)
            self._failed = True
