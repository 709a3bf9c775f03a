"""`DisBatcher`: command lines from a Python program, as disBatch's class of this name runs them."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

from runforrest.batch.statusfile import BARRIER, CHECK, StatusLine
from runforrest.batch.takers import Begun, Waiting
from runforrest.errors import InvalidArgument, ProcessError
from runforrest.folder import layout

LOOK_LEAST, LOOK_MOST = 0.01, 0.5      # pauses between two looks at the status file (seconds)
Record = dict[str, Any]


class DisBatcher:
    """Runs command lines while the program goes on.

        with DisBatcher(args=["-s", "localhost:4"]) as batch:
            batch.submit("make one")
            batch.submit(["make two", "#DISBATCH BARRIER", "make three"])
            print(batch.syncTasks([0, 1]))

    tasksname  accepted; the files are called after STREAM, as disBatch does it
    args       options of `runforrest batch`, without a task file
    kvsserver  prefix of a batch that somebody has begun with ``--taskserver``, here or on another host, which is to
               take the lines.  None: this program begins one

    Tasks and barriers are numbered together, from 0, in the order in which they are submitted.  It is a process of its
    own that runs them, and nothing of what was submitted is lost with this one.  Processes that are forked from this
    one, as those of a `multiprocessing.Pool`, have no part in a batch that it has begun.
    Raises InvalidArgument for a prefix that can't be used; other wrong options are told by the first call that waits.
    Raises NotATaskList if there is no batch with the prefix ``kvsserver``, ProcessError if that takes no lines.
    """

    def __init__(self, tasksname: str = "DisBatcher", args: Sequence[str] = (),
                 kvsserver: str | os.PathLike[str] | None = None) -> None:
        self.tid2status: dict[int, Record] = {}
        if kvsserver is not None and args:
            raise InvalidArgument(f"the batch {kvsserver} has its own options, so args can't be given", argument="args")
        self._taker = Begun(args) if kvsserver is None else Waiting(os.fspath(kvsserver))
        self.files = self._taker.files
        _all.add(self)
        self._records = _Records(self.files.status, self._taker.is_there)
        self._untaken: deque[Record] = deque()
        self._lock = threading.Lock()       # of several threads, each is told what it waits for
        self.kvs = Keys(self)

    def submit(self, lines: str | bytes | Iterable[str | bytes]) -> None:
        """Add lines, of which one may be a directive.

        Raises ProcessError if the batch has ended already, takes no more lines, or none from this process.
        """
        given = [lines] if isinstance(lines, (str, bytes)) else list(lines)
        self._taker.add(b"".join(_whole(line) for line in given))

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

    def done(self) -> int | None:
        """There are no more lines: wait until all have ended; returns the exit code of `runforrest batch`.

        A batch that somebody else has begun is not waited for; returns None.
        """
        code = self._taker.close()
        self._look()
        return code

    def __enter__(self) -> DisBatcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.done()

    def _wait(self, condition: Any, what: str = "") -> None:
        pause = LOOK_LEAST
        while not condition():
            ended = self._taker.ended()
            if self._look():
                pause = LOOK_LEAST
                continue
            if ended:
                raise ProcessError(f"{ended}, and has no record {what}".rstrip())
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
        batch._taker.forked()


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
        if not self._batch._taker.is_there():
            return
        with contextlib.suppress(FileNotFoundError), \
                open(os.path.join(self._batch.files.task_list, layout.KEYS), encoding="utf-8") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    each = json.loads(line)
                    yield each["key"], each["task"]


class _Records:
    """The lines that are added to a status file, when it is that of the batch that is meant."""

    def __init__(self, path: str, is_there: Callable[[], bool]) -> None:
        self.path, self._is_there = path, is_there
        self._at = 0
        self._rest = b""

    def new(self) -> Iterator[StatusLine]:
        if not self._is_there():
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


def _whole(line: str | bytes) -> bytes:
    text = line.encode("utf-8", "surrogateescape") if isinstance(line, str) else line
    return text if text.endswith(b"\n") else text + b"\n"
