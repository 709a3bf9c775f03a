"""The runner that an executor starts on this host, for as long as it has calls that have not ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import IO

from runforrest.futures.runner import FENCED, LEFT_EARLY
from runforrest.process.pool import interpreter
from runforrest.runner.options import import_path

#: the runner, with the import path of this process
PROGRAM = "import sys; sys.path[:] = sys.argv[2:]; from runforrest.futures.runner import main; sys.exit(main())"
MOST_STARTS = 5                    # in which nothing ended, before it is given up
LEAVE_SECONDS = 10.0               # for it to see that the list is done
WORDS_BYTES = 4000                 # of what it has said, when it failed


@dataclass(frozen=True)
class HowToRun:
    """The options of the runner.  ``slots``: 0 if others run the list."""

    directory: str
    slots: int
    isolation: str = "reuse"
    max_tasks: int = 0
    preload: tuple[str, ...] = ()
    trust: bool = False
    group: bool = False
    key_file: str | None = None


class OwnRunner:
    """Starts it when it is needed, and again when it was killed.

    stopped  why it was told to leave by somebody else, or ''
    failed   why it can't be started, or ''
    """

    def __init__(self, how: HowToRun) -> None:
        self.how = how
        self.stopped = self.failed = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._words: IO[bytes] | None = None
        self._rest = b""
        self._words_heard = 0                       # bytes
        self._starts = 0

    def fileno(self) -> int | None:
        """From which it tells something; None if there is none."""
        return self._process.stdout.fileno() if self._process and self._process.stdout else None

    def need(self, anew: bool = False) -> None:
        """Have it at work; ``anew``: also if it was stopped, or could not be started before."""
        if anew:
            self.stopped = self.failed = ""
            self._starts = 0
        if not self.how.slots or self.stopped or self.failed or self._process is not None:
            return
        if self._starts >= MOST_STARTS:
            self.failed = f"the runner ended {self._starts} times without having run anything; {self.failed}"
            return
        self._starts += 1
        self._words, self._words_heard = tempfile.TemporaryFile(), 0   # noqa: SIM115 - closed when it has ended
        try:
            self._process = subprocess.Popen(
                [*interpreter(), "-c", PROGRAM, json.dumps(asdict(self.how)), *import_path()], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=self._words, start_new_session=True, bufsize=0)
        except OSError as error:
            self.failed = f"the runner could not be started: {error}"
            return
        assert self._process.stdin and self._process.stdout
        os.set_blocking(self._process.stdin.fileno(), False)
        os.set_blocking(self._process.stdout.fileno(), False)

    def ran_something(self) -> None:
        self._starts = 0

    def wake(self) -> None:
        """Something was scheduled."""
        process = self._process
        try:
            if process is not None and process.stdin is not None:
                os.write(process.stdin.fileno(), b"+")
        except (OSError, ValueError):               # it is gone, or has not read for long: it looks by itself
            pass

    def told(self) -> Iterator[tuple[str, str]]:
        """What it has told since the last time: ``started``, ``done`` or ``fail``, and the name of the task's file."""
        fd = self.fileno()
        if fd is None:
            return
        try:
            while data := os.read(fd, 65536):
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    what, _, name = line.decode("utf-8", "replace").partition("/")
                    yield what, name
        except BlockingIOError:
            return
        except OSError:
            pass
        self._look_after()

    def says(self) -> list[str]:
        """The lines for a person that it has written since the last time; when it has ended, see ``stopped``."""
        if self._words is None:
            return []
        found = os.pread(self._words.fileno(), WORDS_BYTES, self._words_heard)
        whole = found if len(found) == WORDS_BYTES else found[:found.rfind(b"\n") + 1]
        self._words_heard += len(whole)
        return whole.decode("utf-8", "replace").splitlines()

    def _look_after(self) -> None:
        """It has closed its end: it ends, or has."""
        assert self._process is not None
        try:
            code = self._process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        said = self._said()
        self._close()
        if code in (LEFT_EARLY, -signal.SIGTERM, -signal.SIGINT):
            self.stopped = said or "its runner was asked to stop"
        elif code > 0 and code != FENCED and said:  # refused, and it says why: it would again
            self.failed = said

    def let_go(self) -> None:
        """It leaves when the list is done."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def join(self, seconds: float = LEAVE_SECONDS) -> None:
        """Let it go, and wait so long at most."""
        self.let_go()
        if self._process is not None:
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:       # others have work in the list, too: it does that
                return
            self._close()

    def forked(self) -> None:
        """In a child of this process.  Its ends of the pipes would keep the runner when this process has let it go."""
        if self._process is not None:
            self._process.poll()                    # it is not the child's, so that is the end of it there
            for file in (self._process.stdin, self._process.stdout):
                if file is not None:
                    file.close()

    def _said(self) -> str:
        assert self._words is not None
        end = os.fstat(self._words.fileno()).st_size
        return os.pread(self._words.fileno(), WORDS_BYTES, max(0, end - WORDS_BYTES)).decode("utf-8", "replace").strip()

    def _close(self) -> None:
        process, self._process, self._rest = self._process, None, b""
        words, self._words = self._words, None
        for file in (process.stdin, process.stdout, words) if process else ():
            if file is not None:
                file.close()
