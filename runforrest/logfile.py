"""RunForrest's logfile: a line per event, ``YYYY-MM-DDTHH:MM:SS NAME EVENT``, and what the tasks print."""

from __future__ import annotations

import os
import threading
import time


class Logfile:
    """Appends lines; the file is opened for each event, so it may be moved away or watched."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self._lock = threading.Lock()
        with open(self.path, "a"):
            pass                           # a path that can't be written is told at once

    def event(self, name: str, event: str, text: str = "") -> None:
        """One line for the event, then the text, line by line, under the same name."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S")
        lines = [f"{now} {name} {event}\n"] + [f"{now} {name} | {line}\n" for line in text.splitlines()]
        with self._lock, open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write("".join(lines))
