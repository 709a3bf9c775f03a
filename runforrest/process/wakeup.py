"""Waking whoever waits in a poll."""

from __future__ import annotations

import os


class Wakeup:
    """Lets another thread, or a signal handler, interrupt a poll."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self._writer, False)
        self._open = True

    def set(self) -> None:
        """Wake it, now or when it begins."""
        try:
            if self._open:
                os.write(self._writer, b"!")
        except BlockingIOError:
            pass                            # full: the poll is woken already

    def clear(self) -> None:
        """To be called when it was woken."""
        try:
            os.read(self.reader, 4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        self._open = False
        os.close(self.reader)
        os.close(self._writer)
