"""Finished tasks as the user gets them: the deferred call out of its file, with how it ended.

Here, and in the child, is where other people's code is unpickled.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

from runforrest import errors
from runforrest.folder import layout
from runforrest.folder.attempts import PASSING
from runforrest.folder.fsio import FileOps
from runforrest.folder.stored import StoredTask, needs_signature, side_ending, unsigned_result
from runforrest.graph import Task, athome, defer, loads
from runforrest.model import outcomes
from runforrest.model.names import Name
from runforrest.model.records import Attempt, Envelope

_ERRORS: dict[str, type[errors.AttemptError]] = {
    outcomes.TIMED_OUT: errors.TimedOut, outcomes.CRASHED: errors.Crashed,
    outcomes.OUT_OF_MEMORY: errors.OutOfMemory, outcomes.LOST: errors.Lost,
    outcomes.CANCELLED: errors.Cancelled, outcomes.UNLOADABLE: errors.Unloadable,
    outcomes.REFUSED: errors.Untrusted, outcomes.DEPENDENCY_FAILED: errors.DependencyFailed}
_RESULTS = ("returnvalue", "errorvalue", "runtime")
PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0)        # seconds between two tries to read a file that can't be read just now


class _Refused(Task):
    """Stands in for a task whose file, or result, was not unpickled: asking it for the value raises Untrusted."""

    @property
    def returnvalue(self) -> Any:
        raise self.__dict__["errorvalue"]


def load_task(fs: FileOps, state: str, name: Name) -> Task:
    """The task in this file, with ``returnvalue``, ``errorvalue``, ``metadata``, ``runtime``, ``attempts``
    and ``scheduled``.

    What can't be loaded is told in ``errorvalue``; the task is then a stand-in.  If its file may be somebody
    else's, or should be signed and is not, its ``returnvalue`` raises Untrusted.  Raises FileNotFoundError if
    the file is gone, and OSError if it could not be read for some seconds, as a server is away.
    """
    read = _read_patiently(fs, state, name)
    task: Task
    loaded: Any = None
    if read.problem is None:
        try:
            loaded = loads(read.call)
        except Exception as error:
            read.problem = errors.Unloadable(f"the call can't be unpickled here: {type(error).__name__}: {error}")
    if isinstance(read.problem, errors.Untrusted):
        task = _Refused(name.label, (), {})
    else:
        task = loaded if isinstance(loaded, Task) else defer(loaded)
    extras: dict[str, Any] = task.__dict__
    extras.setdefault("metadata", read.stored.envelope.get("metadata"))
    kept = {key: extras.get(key) for key in _RESULTS} if "returnvalue" in extras else None
    extras.update(returnvalue=None, errorvalue=read.problem, runtime=None,
                  attempts=[Attempt.from_json(record) for record in read.stored.attempts],
                  scheduled=Envelope.from_json({"id": name.id, **read.stored.envelope}))
    if state not in (layout.DONE, layout.FAIL) or isinstance(task, _Refused):
        return task
    if read.record is not None:
        extras["runtime"] = read.record.get("runtime")
        extras["returnvalue"], extras["errorvalue"] = _ending(read.record, read.payload)
    elif read.problem is None and kept and not read.stored.envelope:
        extras.update(kept)                # RunForrest has put its results into the pickle
    elif read.problem is None:
        extras["errorvalue"] = errors.Lost(f"{state}/{name} has no result of the attempt in its name; move it to "
                                           f"todo/ to run it again")
    return task


@dataclass(slots=True)
class Ending:
    """How a task has ended: its value, or its error; ``withdrawn``: it was cancelled before it was ever started."""

    value: Any = None
    error: BaseException | None = None
    withdrawn: bool = False


def load_ending(fs: FileOps, state: str, name: Name) -> Ending:
    """The end of a task in ``done/`` or ``fail/``; its call is not unpickled.

    Raises FileNotFoundError if the file is gone, and OSError for what may pass, as a server that is away.
    """
    read = _Read(fs, state, name)
    if isinstance(read.problem, errors.Untrusted):
        return Ending(error=read.problem)
    if read.record is None:                     # damaged, of RunForrest, or put there by hand
        task = load_task(fs, state, name)
        return Ending(task.__dict__["returnvalue"], task.__dict__["errorvalue"])
    value, error = _ending(read.record, read.payload)
    return Ending(value, error, state == layout.FAIL and read.record.get("outcome") == outcomes.CANCELLED
                  and read.record.get("pid") is None)


class _Read:
    """What is in a task's file, and beside it, before anything is unpickled.

    call     the pickled call; ``problem``: why it can't be used
    record   of the try that the name states; ``payload``: the pickled value or exception of it

    Raises FileNotFoundError, and OSError for what may pass.
    """

    def __init__(self, fs: FileOps, state: str, name: Name) -> None:
        self.stored = StoredTask(name, [], 0)
        self.call, self.problem = b"", None     # type: bytes, errors.AttemptError | None
        self.record: dict[str, Any] | None = None
        self.payload: bytes | None = None
        try:
            self._read(fs, f"{state}/{name}", name)
            self._read_beside(fs, name)
        except errors.Untrusted as error:
            self.problem = error
            self.stored = self.stored.without_envelope()
            self.stored.add_side_records(fs)

    def _read(self, fs: FileOps, path: str, name: Name) -> None:
        try:
            fd = fs.open_read(path)
        except FileNotFoundError:
            raise
        except OSError as error:           # a link, a file that we may not read: what is beside it tells why
            if error.errno in PASSING:
                raise
            self.problem = errors.Unloadable(f"the file can't be opened: {error.strerror}")
            return
        try:
            fs.trust.check(fd, fs.path(path))
            self.stored = StoredTask.read(fd, name)
            self.record, self.payload = self.stored.ending(fd, fs.trust)
            self.call = self.stored.call(fd)
            self.stored.check_call(fs.trust, self.call)
        except IsADirectoryError as error:
            self.problem = errors.Unloadable(f"the file can't be read: {error.strerror}")
        except ValueError as error:
            self.problem = errors.Unloadable(str(error))
        finally:
            os.close(fd)

    def _read_beside(self, fs: FileOps, name: Name) -> None:
        if not name.lost and not self.stored.renamed and self.record is not None:
            return
        self.stored.add_side_records(fs)
        if self.record is not None and not name.lost:
            return
        record, self.payload = side_ending(fs, name)
        self.record = record or self.stored.result()
        if record is None and self.record is not None and fs.trust.key and needs_signature(self.record):
            raise unsigned_result(name)


def _read_patiently(fs: FileOps, state: str, name: Name) -> _Read:
    """What passes must not be told of a task that is well."""
    for pause in PAUSES:
        try:
            return _Read(fs, state, name)
        except OSError as error:
            if error.errno not in PASSING:
                raise
        time.sleep(pause)
    return _Read(fs, state, name)


def _ending(record: dict[str, Any], payload: bytes | None) -> tuple[Any, BaseException | None]:
    """(returnvalue, errorvalue) of an ended attempt."""
    value: Any = None
    if record.get("payload"):
        if payload is None:
            return None, errors.Unloadable("the result in the file is damaged; move the file to todo/ to run it again")
        try:
            value = athome.loads(payload)
        except Exception as error:
            return None, errors.Unloadable(f"the result can't be unpickled here: {type(error).__name__}: {error}")
    if record["outcome"] == outcomes.RETURNED:
        return value, None
    if not isinstance(value, BaseException):
        kind = _ERRORS.get(record["outcome"], errors.Crashed)
        value = kind(record.get("message") or record["outcome"], attempt=Attempt.from_json(record))
    if record.get("traceback") and value.__cause__ is None:
        value.__cause__ = errors.RemoteTraceback(record["traceback"])
    return None, value
