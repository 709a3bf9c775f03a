"""Lines that a program adds while they are run: standard input, or `DisBatcher`.

They are kept in the list, so whoever feeds the batch finds all that were given, whatever has become of the program.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from runforrest.batch.patience import patiently
from runforrest.folder import layout
from runforrest.folder.fsio import FileOps
from runforrest.folder.leases import Membership
from runforrest.folder.transitions import TaskFolder

LOOK_LEAST, LOOK_MOST = 0.02, 0.5          # pauses between two looks for more lines (seconds)
ALIVE_SECONDS = 5.0                        # between two looks whether who writes is still there


class Member(threading.Thread):
    """A member of the list that runs no tasks: others see when it is gone."""

    def __init__(self, folder: TaskFolder) -> None:
        super().__init__(name="runforrest-member", daemon=True)
        self.folder = folder
        self.membership = Membership(folder, claims=False)
        self._closing = threading.Event()

    def start(self) -> None:
        self.membership.register()
        super().start()

    def leave(self) -> None:
        """Sign off."""
        self._closing.set()
        if self.is_alive():
            self.join()
            self.membership.leave()

    def run(self) -> None:
        while not self._closing.wait(self.folder.settings.beat):
            try:
                if not self.membership.beat():
                    return
            except OSError:
                continue


class Spool(Member):
    """What a program adds lines by."""

    def __init__(self, folder: TaskFolder) -> None:
        super().__init__(folder)
        self._file = open(folder.fs.path(layout.LINES), "ab", 0)     # noqa: SIM115    closed by `leave`

    def add(self, lines: bytes, say: Callable[[str], None]) -> None:
        """Add whole lines; they are in the list when this returns.

        say  is told if the disk is full, which is waited out
        Raises OSError, and ValueError when this has been closed.
        """
        left = memoryview(lines)

        def write() -> None:
            nonlocal left
            left = left[self._file.write(left):]

        while left:
            patiently(write, say)

    def close(self) -> None:
        """There will be no more."""
        self.folder.fs.create(layout.LINES_END, [b""])
        self.leave()

    def leave(self) -> None:
        """Sign off, whatever is still to come."""
        self._file.close()
        super().leave()


def follow(fs: FileOps, is_there: Callable[[], bool], idle: Callable[[], bool]) -> Iterator[bytes]:
    """The lines of the spool, as they are added, up to its end.

    is_there  tells whether who adds them still is; when it is gone, what is there is all
    idle      called while there is nothing; True: no more are wanted
    """
    pause, asked = LOOK_LEAST, time.monotonic()
    rest = b""
    with open(fs.path(layout.LINES), "rb") as file:
        while True:
            ended = fs.exists(layout.LINES_END)
            if not ended and time.monotonic() - asked > ALIVE_SECONDS:
                asked = time.monotonic()
                ended = not is_there()
            data = file.read(1 << 16)
            if data:
                *lines, rest = (rest + data).split(b"\n")
                yield from (line + b"\n" for line in lines)
                pause = LOOK_LEAST
                continue
            if ended or idle():
                break
            time.sleep(pause)
            pause = min(LOOK_MOST, pause * 2)
    if rest and fs.exists(layout.LINES_END):        # else who wrote it has ended in the middle of it
        yield rest


def is_member(folder: TaskFolder, name: str) -> bool:
    """Whether this member of the list is there, as far as its heartbeat tells."""
    return name in Membership(folder).peers()
