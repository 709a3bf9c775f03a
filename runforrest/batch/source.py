"""Where lines come from that are run as they arrive: standard input, a pipe, a command that prints them, or other
programs that add them to the list.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

from runforrest.batch import per_engine
from runforrest.batch.options import STDIN, BatchOptions
from runforrest.batch.plan import Plan
from runforrest.batch.spool import Spool, follow
from runforrest.errors import InvalidArgument

CHUNK = 1 << 16


class Source(threading.Thread):
    """Copies lines from standard input, or from a command, into the list, as they come."""

    def __init__(self, options: BatchOptions, plan: Plan, say: Callable[[str], None]) -> None:
        """Reads as far as the commands for engines go, which must be known before there is one.

        Raises TaskFileError, InvalidArgument.
        """
        super().__init__(name="runforrest-lines", daemon=True)
        self.process: subprocess.Popen[bytes] | None = None
        self._read: list[bytes] = []
        self._say = say
        self._closed = False
        self.failed = False                 # the command, so that some of its lines may not have come
        try:
            self._blocks = whole_lines(self._open(options), self._exit_code)
            plan.per_engine = per_engine.head(self._noted(), plan.name)
        except BaseException:
            self.close()
            raise

    def _open(self, options: BatchOptions) -> int:
        """A descriptor to read to its end."""
        if options.task_command:
            self.process = subprocess.Popen(options.task_command, shell=True, stdin=subprocess.DEVNULL,
                                            stdout=subprocess.PIPE, start_new_session=True)
            assert self.process.stdout is not None
            return self.process.stdout.fileno()
        if options.task_file != STDIN:
            return os.open(options.task_file, os.O_RDONLY | os.O_CLOEXEC)
        if sys.stdin is None:
            raise InvalidArgument("standard input is closed, so no lines can come from there", argument="taskfile")
        return sys.stdin.fileno()

    def _noted(self) -> Iterator[bytes]:
        for block in self._blocks:
            self._read.append(block)
            yield from io.BytesIO(block)

    def take_lines(self, spool: Spool) -> None:
        """Have them copied, as they come."""
        self.spool = spool
        spool.start()
        spool.add(b"".join(self._read), self._say)
        self.start()

    def run(self) -> None:
        try:
            for block in self._blocks:
                self.spool.add(block, self._say)
        except (OSError, ValueError) as error:      # ValueError: `close` has closed it
            if not self._closed:
                self._say(f"no more lines are taken in: {error}")
                self.spool.leave()
            return
        if self._closed:
            return
        code = self._exit_code()
        if code:
            self.failed = True
            self._say(f"--taskcommand ended with exit code {code}; the whole lines that it printed are run, but others "
                      "may be missing, so the exit code will be 1")
        self.spool.close()

    def _exit_code(self) -> int:
        """Of the command, for whose end this waits; 0 if there is none."""
        return self.process.wait() if self.process is not None else 0

    def close(self) -> None:
        """The batch has come to its end, whether its lines have or not."""
        self._closed = True
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        if self.ident is not None:
            self.spool.leave()


class Visitors:
    """Other programs, which add lines to the list themselves: `DisBatcher`, told of its prefix, or ``cat >>``."""

    failed = False

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self._plan, self._say = plan, say
        self._spool: Spool | None = None

    def take_lines(self, spool: Spool) -> None:
        """Wait for the first line: the commands for engines, which must be known before there is one, come before."""
        self._spool = spool
        spool.start()
        print(f"Lines are taken from DisBatcher(kvsserver={self._plan.prefix!r})", flush=True)
        fs = spool.folder.fs
        self._plan.per_engine = per_engine.head(follow(fs, lambda: True, lambda: False, self._say), self._plan.name)
        if self._plan.per_engine:
            self._plan.write(fs)

    def close(self) -> None:
        """No more are taken."""
        if self._spool:
            self._spool.leave()


def whole_lines(fd: int, exit_code: Callable[[], int]) -> Iterator[bytes]:
    """What comes, as it comes, cut behind the end of a line.

    exit_code  of who wrote it, asked at the end: unless 0, a last line without its end may be half a line: left out

    Not by a buffered file: whoever waits in one holds its lock, without which Python can't end.
    """
    rest = bytearray()
    while data := os.read(fd, CHUNK):
        whole, newline, begun = data.rpartition(b"\n")
        if newline:
            yield bytes(rest) + whole + newline
            rest.clear()
        rest += begun
    if rest and not exit_code():
        yield bytes(rest)
