"""Lines that a program adds while they are run: standard input, or `DisBatcher`.

They are kept in the list, so whoever feeds the batch finds all that were given, whatever has become of the program.
"""

from __future__ import annotations

import os
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
BLOCK = 1 << 16                            # bytes read at once


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
    """What a program adds lines by, which has the spool for itself."""

    def __init__(self, folder: TaskFolder) -> None:
        super().__init__(folder)
        self._size, self._closed = 0, False
        folder.fs.create(layout.LINES, [b""])

    def add(self, lines: bytes, say: Callable[[str], None]) -> None:
        """Add whole lines; they are in the list when this returns.

        say  is told if the disk is full, which is waited out
        Raises OSError, and ValueError when this has been closed.
        """
        def write() -> None:
            if self._closed:
                raise ValueError("no lines are taken any more")
            put(self.folder.fs, self._size, lines)

        patiently(write, say)
        self._size += len(lines)

    def close(self) -> None:
        """There will be no more."""
        self.folder.fs.create(layout.LINES_END, [b""])
        self.leave()

    def leave(self) -> None:
        """Sign off, whatever is still to come."""
        self._closed = True
        super().leave()


def put(fs: FileOps, at: int, lines: bytes) -> None:
    """Write at this place of the spool, where its last whole line ends.  Raises OSError; then nothing was added.

    The file does not stay open: a client of NFS sends others nothing before it is closed, and does not show readers of
    its own host what others add to it before that.
    """
    fs.append(layout.LINES, [lines], cut=at)


def end_of_lines(fs: FileOps) -> int:
    """Where the last whole line of the spool ends: behind it is what somebody had begun who was killed over it."""
    fd = fs.open_read(layout.LINES)
    try:
        end = os.fstat(fd).st_size
        while end:
            begin = max(0, end - BLOCK)
            newline = os.pread(fd, end - begin, begin).rfind(b"\n")
            if newline >= 0:
                return begin + newline + 1
            end = begin
        return 0
    finally:
        os.close(fd)


def follow(fs: FileOps, is_there: Callable[[], bool], idle: Callable[[], bool],
           say: Callable[[str], None]) -> Iterator[bytes]:
    """The lines of the spool, as they are added, up to its end.

    is_there  tells whether who adds them still is; when it is gone, what is there is all
    idle      called while there is nothing; True: no more are wanted
    say       is told if the folder is in trouble, which is waited out
    """
    pause, asked = LOOK_LEAST, time.monotonic()
    at, size = 0, BLOCK
    while True:
        ended = fs.exists(layout.LINES_END)
        if not ended and time.monotonic() - asked > ALIVE_SECONDS:
            asked = time.monotonic()
            ended = not is_there()
        data = _block(fs, at, size, say)
        if whole := data.rfind(b"\n") + 1:
            at, size, pause = at + whole, BLOCK, LOOK_LEAST
            yield from (line + b"\n" for line in data[:whole - 1].split(b"\n"))
        elif len(data) == size:             # a longer line
            size *= 2
        elif ended or idle():
            break
        else:
            time.sleep(pause)
            pause = min(LOOK_MOST, pause * 2)
    if data and fs.exists(layout.LINES_END):        # else who wrote it has ended in the middle of it
        yield data


def _block(fs: FileOps, at: int, size: int, say: Callable[[str], None]) -> bytes:
    """So many bytes from this place on, or as many as there are.

    From a file that was opened just for that: over NFS, one that stays open shows a minute later what another host has
    added, or never.
    """
    found = b""

    def read() -> None:
        nonlocal found
        fd = fs.open_read(layout.LINES)
        try:
            found = os.pread(fd, size, at)
        finally:
            os.close(fd)

    patiently(read, say)
    return found


def is_member(folder: TaskFolder, name: str) -> bool:
    """Whether this member of the list is there, as far as its heartbeat tells."""
    return name in Membership(folder).peers()
