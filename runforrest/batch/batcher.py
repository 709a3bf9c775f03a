"""`DisBatcher`: command lines from a Python program, as disBatch's class of this name runs them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any

from runforrest.batch.options import Files, make_prefix
from runforrest.batch.plan import Plan
from runforrest.batch.statusfile import BARRIER, CHECK, StatusLine
from runforrest.errors import NotATaskList, ProcessError
from runforrest.folder import layout
from runforrest.folder.fsio import FileOps

LOOK_LEAST, LOOK_MOST = 0.01, 0.5      # pauses between two looks at the status file (seconds)
SOURCE = "STREAM"
# The option, also abbreviated, or behind options without a value; and what is joined to it.
PREFIX = re.compile(r"-[efgwRSK]*p(.*)|--pr?e?f?i?x?(=.*)?", re.DOTALL)
Record = dict[str, Any]


class DisBatcher:
    """Runs command lines while the program goes on.

        with DisBatcher(args=["-s", "localhost:4"]) as batch:
            batch.submit("make one")
            batch.submit(["make two", "#DISBATCH BARRIER", "make three"])
            print(batch.syncTasks([0, 1]))

    tasksname  accepted; the files are called after STREAM, as disBatch does it
    args       options of `runforrest batch`, without a task file
    kvsserver  not needed, as there is no server

    Tasks and barriers are numbered together, from 0, in the order in which they are submitted.  It is a process of its
    own that runs them, and nothing of what was submitted is lost with this one.  Processes that are forked from this
    one, as those of a `multiprocessing.Pool`, have no part in it.
    Raises InvalidArgument for a prefix that can't be used; other wrong options are told by the first call that waits.
    """

    def __init__(self, tasksname: str = "DisBatcher", args: Sequence[str] = (), kvsserver: object = None) -> None:
        self.tid2status: dict[int, Record] = {}
        prefix = make_prefix(_given_prefix(args), SOURCE, datetime.now(), random.randrange(1000))
        self.files = Files(prefix)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "runforrest", "batch", *args, "--name", SOURCE, "-p", prefix, "-"],
            stdin=subprocess.PIPE, bufsize=0, start_new_session=True)
        self._pid, self._writing = os.getpid(), threading.Lock()
        _all.add(self)
        self._records = _Records(self.files, self._process.pid)
        self._untaken: deque[Record] = deque()
        self._lock = threading.Lock()       # of several threads, each is told what it waits for
        self.kvs = Keys(self)

    def submit(self, lines: str | bytes | Iterable[str | bytes]) -> None:
        """Add lines, of which one may be a directive.

        Raises ProcessError if the batch has ended already, or if this process was forked from the one that began it.
        """
        given = [lines] if isinstance(lines, (str, bytes)) else list(lines)
        left = memoryview(b"".join(_whole(line) for line in given))
        assert self._process.stdin is not None
        if os.getpid() != self._pid:
            raise ProcessError(f"the batch {self.files.prefix} takes lines from process {self._pid} alone, not from "
                               "this one, which was forked from it: submit them there")
        try:
            with self._writing:
                while left:
                    left = left[self._process.stdin.write(left):]
        except (BrokenPipeError, ValueError):
            raise ProcessError(f"the batch {self.files.prefix} has ended, with exit code {self._process.poll()}") \
                from None

    def wait_one_task(self) -> Record:
        """The record of the next task that has ended, in the order in which they end; barriers are left out.

        Raises ProcessError if the batch ends and there is none.
        """
        taken: list[Record] = []

        def one() -> bool:
            with self._lock:
                if self._untaken:
                    taken.append(self._untaken.popleft())
            return bool(taken)

        self._wait(one)
        return taken[0]

    def syncTasks(self, ids: Iterable[int]) -> dict[int, Record]:
        """Wait until all of these have ended; their records by number.  Asking again gives the same again.

        Raises ProcessError if the batch ends and one of them has no record.
        """
        wanted = list(ids)
        self._wait(lambda: all(id in self.tid2status for id in wanted), f"of {wanted}")
        taken = set(wanted)
        with self._lock:
            self._untaken = deque(record for record in self._untaken if record["TaskId"] not in taken)
        return {id: self.tid2status[id] for id in wanted}

    def done(self) -> int:
        """There are no more lines: wait until all have ended; returns the exit code of `runforrest batch`."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        code = self._process.wait()
        self._look()
        return code

    def _forked(self) -> None:
        """This process is another one now: as long as it has the pipe, the lines have no end."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def __enter__(self) -> DisBatcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.done()

    def _wait(self, condition: Any, what: str = "") -> None:
        pause = LOOK_LEAST
        while not condition():
            ended = self._process.poll() is not None
            if self._look():
                pause = LOOK_LEAST
                continue
            if ended:
                raise ProcessError(f"the batch {self.files.prefix} has ended, with exit code "
                                   f"{self._process.returncode}, and has no record {what}".rstrip())
            time.sleep(pause)
            pause = min(LOOK_MOST, pause * 2)

    def _look(self) -> bool:
        """Read the records that were added; False if there are none."""
        with self._lock:
            found = list(self._records.new())
            for line in found:
                record = as_record(line)
                self.tid2status[line.task] = record
                if line.kind not in (BARRIER, CHECK):
                    self._untaken.append(record)
        return bool(found)


def _in_child() -> None:
    for batch in list(_all):
        batch._forked()


_all: weakref.WeakSet[DisBatcher] = weakref.WeakSet()
os.register_at_fork(after_in_child=_in_child)


class Keys:
    """Waits for barriers that have a key (``#DISBATCH BARRIER KEY``)."""

    def __init__(self, batch: DisBatcher) -> None:
        self._batch = batch

    def get(self, key: str, encoding: object = None) -> bytes:
        """The barrier's number, when it was passed.  Raises ProcessError if the batch ends before."""
        found: list[int] = []

        def passed() -> bool:
            found[:] = [task for known, task in self._passed() if known == key]
            return bool(found)

        self._batch._wait(passed, f"of a barrier with the key {key!r}")
        return str(found[-1]).encode()

    def _passed(self) -> Iterator[tuple[str, int]]:
        if not self._batch._records.have_begun():
            return
        with contextlib.suppress(FileNotFoundError), \
                open(os.path.join(self._batch.files.task_list, layout.KEYS), encoding="utf-8") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    each = json.loads(line)
                    yield each["key"], each["task"]


class _Records:
    """The lines that are added to the status file of a batch that is begun by a certain process.

    Until then, a status file of the same name is that of an earlier one.
    """

    def __init__(self, files: Files, pid: int) -> None:
        self.path = files.status
        self._plan, self._pid = FileOps(files.task_list), pid
        self._begun = False
        self._at = 0
        self._rest = b""

    def have_begun(self) -> bool:
        if not self._begun:
            with contextlib.suppress(NotATaskList):
                self._begun = f".{self._pid}." in Plan.read(self._plan).reader
        return self._begun

    def new(self) -> Iterator[StatusLine]:
        if not self.have_begun():
            return
        try:
            with open(self.path, "rb") as file:
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            return
        self._at += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not line.startswith(b"ROE["):
                yield StatusLine.from_line(line.decode())


def as_record(line: StatusLine) -> Record:
    """A record under disBatch's names."""
    return {"Flags": line.flags, "TaskId": line.task, "TaskStreamIndex": line.line, "TaskRepIndex": line.repeat,
            "Host": line.node, "PID": line.pid, "ReturnCode": line.code, "Elapsed": line.elapsed, "Start": line.start,
            "End": line.finish, "OutBytes": line.out_bytes, "OutData": line.out, "ErrBytes": line.err_bytes,
            "ErrData": line.err, "TaskCmd": line.command}


def _given_prefix(args: Sequence[str]) -> str:
    """The last ``-p`` among these options."""
    found, left = ".", iter(args)
    for text in left:
        if match := PREFIX.fullmatch(text):
            found = match[1] or (match[2][1:] if match[2] else next(left, found))
    return found


def _whole(line: str | bytes) -> bytes:
    text = line.encode("utf-8", "surrogateescape") if isinstance(line, str) else line
    return text if text.endswith(b"\n") else text + b"\n"
