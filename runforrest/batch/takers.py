"""Who takes the lines of a `DisBatcher`: a batch that it begins, or one that waits for lines (``--taskserver``)."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime

from runforrest.batch.options import Files, make_prefix
from runforrest.batch.patience import patiently
from runforrest.batch.plan import Plan
from runforrest.batch.spool import end_of_lines, is_member, put
from runforrest.errors import NotATaskList, ProcessError
from runforrest.folder import layout, locking
from runforrest.folder.fsio import FileOps
from runforrest.folder.leases import Membership
from runforrest.folder.settings import open_list
from runforrest.folder.transitions import TaskFolder

SOURCE = "STREAM"
LOCK_SECONDS = 30.0                 # for others that are adding lines, too
LOOK_SECONDS = 1.0                  # between two looks whether anybody is there
# The option, also abbreviated, or behind options without a value; and what is joined to it.
PREFIX = re.compile(r"-[efgwRSK]*p(.*)|--pr?e?f?i?x?(=.*)?", re.DOTALL)


class Begun:
    """A batch that this program begins: a process of its own, which reads the lines from a pipe."""

    def __init__(self, args: Sequence[str]) -> None:
        """``args``: options of `runforrest batch`, without a task file.  Raises InvalidArgument."""
        prefix = make_prefix(_given_prefix(args), SOURCE, datetime.now(), random.randrange(1000))
        self.files = Files(prefix)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "runforrest", "batch", *args, "--name", SOURCE, "-p", prefix, "-"],
            stdin=subprocess.PIPE, bufsize=0, start_new_session=True)
        self._pid, self._writing = os.getpid(), threading.Lock()
        self._there = False

    def is_there(self) -> bool:
        """Until it is, a status file of the same name is that of an earlier batch."""
        if not self._there:
            with contextlib.suppress(NotATaskList):
                self._there = f".{self._process.pid}." in Plan.read(FileOps(self.files.task_list)).reader
        return self._there

    def add(self, lines: bytes) -> None:
        """Raises ProcessError if it has ended already, or if this process was forked from the one that began it."""
        assert self._process.stdin is not None
        if os.getpid() != self._pid:
            raise ProcessError(f"the batch {self.files.prefix} takes lines from process {self._pid} alone, not from "
                               "this one, which was forked from it: submit them there")
        left = memoryview(lines)
        try:
            with self._writing:
                while left:
                    left = left[self._process.stdin.write(left):]
        except (BrokenPipeError, ValueError):
            raise ProcessError(f"the batch {self.files.prefix} has ended, with exit code {self._process.poll()}") \
                from None

    def ended(self) -> str:
        """How it has ended; '' if it has not."""
        code = self._process.poll()
        return "" if code is None else f"the batch {self.files.prefix} has ended, with exit code {code}"

    def close(self) -> int:
        """There are no more lines: wait for its end; returns its exit code."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        return self._process.wait()

    def forked(self) -> None:
        """This process is another one now: as long as it has the pipe, the lines have no end."""
        assert self._process.stdin is not None
        self._process.stdin.close()


class Waiting:
    """A batch that somebody has begun with ``--taskserver``, on any host that shares its folder."""

    def __init__(self, prefix: str) -> None:
        """Raises NotATaskList if there is none, ProcessError if it takes no lines from others, or no more."""
        self.files = Files(os.path.realpath(prefix))
        fs = FileOps(self.files.task_list)
        if not os.path.isdir(fs.root):
            raise NotATaskList(f"there is no batch with the prefix {self.files.prefix} here; `runforrest batch "
                               f"--taskserver -p {shlex.quote(self.files.prefix)}` begins one", directory=fs.root)
        self._folder = TaskFolder(fs, open_list(fs))
        self._plan = Plan.read(fs)
        if not self._plan.options.task_server:
            raise ProcessError(f"the batch {prefix} takes no lines from other programs: it was not begun with "
                               "--taskserver")
        self._look_at = 0.0
        self._check()

    def is_there(self) -> bool:
        return True

    def add(self, lines: bytes) -> None:
        """They are in its list when this returns.  Raises ProcessError if it takes no more."""
        self._check()
        with self._locked():
            self._put(lines)
        self._check()                       # if it has ended meanwhile, nobody has read them

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fs = self._folder.fs
        with locking.locked(fs, layout.LINES_LOCK, LOCK_SECONDS) as got:
            if not got:
                raise ProcessError(f"no lines could be added to {self.files.prefix}: the lock on "
                                   f"{fs.path(layout.LINES_LOCK)} was not to be had for {LOCK_SECONDS:g} s")
            yield

    def _put(self, lines: bytes) -> None:
        """Behind the last whole line: half a line is of somebody who was killed over it."""
        fs = self._folder.fs
        patiently(lambda: put(fs, end_of_lines(fs), lines), _say)

    def _check(self) -> None:
        """Raises ProcessError if it takes no more lines."""
        no_more = f"the batch {self.files.prefix} takes no more lines"
        if problem := self.ended():
            raise ProcessError(problem)
        if self._folder.fs.exists(layout.LINES_END):
            raise ProcessError(f"{no_more}: somebody has said that there are no more")
        if not is_member(self._folder, self._plan.reader):
            raise ProcessError(f"{no_more}: {self._plan.reader}, who waited for them, is gone")

    def ended(self) -> str:
        """How it has ended; '' if it has not."""
        fs, prefix = self._folder.fs, self.files.prefix
        if fs.exists(layout.RESULT):
            return f"the batch {prefix} has ended"
        if time.monotonic() >= self._look_at:
            if not Membership(self._folder).alive() and not fs.exists(layout.RESULT):
                return f"nobody works on the batch {prefix} any more: `runforrest run {fs.root}` goes on with it"
            self._look_at = time.monotonic() + LOOK_SECONDS
        return ""

    def close(self) -> None:
        """There are no more lines, from anybody.  Raises ProcessError if others don't let go of the lock."""
        if not self._folder.fs.exists(layout.LINES_END):
            with self._locked():
                self._put(b"")
                self._folder.fs.create(layout.LINES_END, [b""])

    def forked(self) -> None:
        """A fork may add lines as well."""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _given_prefix(args: Sequence[str]) -> str:
    """The last ``-p`` among these options."""
    found, left = ".", iter(args)
    for text in left:
        if match := PREFIX.fullmatch(text):
            found = match[1] or (match[2][1:] if match[2] else next(left, found))
    return found
