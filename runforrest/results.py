"""Finished tasks as the user gets them: the deferred call out of its file, with how it ended.

Here, and in the child, is where other people's code is unpickled.
"""

from __future__ import annotations

import os
import pickle
from typing import Any

from runforrest import errors
from runforrest.folder.fsio import FileOps
from runforrest.folder.stored import StoredTask, payload_of
from runforrest.graph import Task, defer
from runforrest.model import outcomes
from runforrest.model.names import Name
from runforrest.model.records import Attempt, Envelope

_ERRORS: dict[str, type[errors.AttemptError]] = {
    outcomes.TIMED_OUT: errors.TimedOut, outcomes.CRASHED: errors.Crashed,
    outcomes.OUT_OF_MEMORY: errors.OutOfMemory, outcomes.LOST: errors.Lost,
    outcomes.CANCELLED: errors.Cancelled, outcomes.UNLOADABLE: errors.Unloadable}


def load_task(fs: FileOps, state: str, name: Name) -> Task:
    """The task in this file, with ``returnvalue``, ``errorvalue``, ``metadata``, ``runtime``, ``attempts``
    and ``scheduled``.

    What can't be loaded is told in ``errorvalue``; the task is then a stand-in.  Raises FileNotFoundError
    if the file is gone.
    """
    path = f"{state}/{name}"
    stored, call = _read(fs, path, name)
    problem: BaseException | None = None
    loaded: Any = None
    if isinstance(call, ValueError):
        problem = errors.Unloadable(str(call))
    else:
        try:
            loaded = pickle.loads(call)
        except Exception as error:
            problem = errors.Unloadable(f"the call can't be unpickled here: {type(error).__name__}: {error}")
    task: Task = loaded if isinstance(loaded, Task) else defer(loaded)
    extras: dict[str, Any] = task.__dict__
    extras.setdefault("metadata", stored.envelope.get("metadata"))
    extras.update(returnvalue=None, errorvalue=None, runtime=None,
                  attempts=[Attempt.from_json(record) for record in stored.attempts],
                  scheduled=Envelope.from_json({"id": name.id, **stored.envelope}))
    if state in ("done", "fail"):
        _add_result(fs, path, stored, extras, problem)
    elif problem is not None:
        extras["errorvalue"] = problem
    return task


def _read(fs: FileOps, path: str, name: Name) -> tuple[StoredTask, bytes | ValueError]:
    fd = fs.open_read(path)
    try:
        stored = StoredTask.read(fd, name)
        try:
            call: bytes | ValueError = stored.call(fd)
        except ValueError as error:
            call = error
    finally:
        os.close(fd)
    if name.lost or not stored.has_result():
        stored = StoredTask.open(fs, path, name)
    return stored, call


def _add_result(fs: FileOps, path: str, stored: StoredTask, extras: dict[str, Any],
                problem: BaseException | None) -> None:
    record = stored.result()
    if record is None:
        extras["errorvalue"] = problem or errors.Lost(
            f"{path} has no result of the attempt in its name; `runforrest retry` runs it again")
        return
    extras["runtime"] = record.get("runtime")
    found = payload_of(fs, path, stored.name) if record.get("payload") else None
    value: Any = None
    if found is not None:
        try:
            value = pickle.loads(found[1])
        except Exception as error:
            problem = errors.Unloadable(f"the result can't be unpickled here: {type(error).__name__}: {error}")
            extras["errorvalue"] = problem
            return
    if record["outcome"] == outcomes.RETURNED:
        extras["returnvalue"] = value
        return
    if not isinstance(value, BaseException):
        kind = _ERRORS.get(record["outcome"], errors.Crashed)
        value = kind(record.get("message") or record["outcome"], attempt=Attempt.from_json(record))
    if record.get("traceback") and value.__cause__ is None:
        value.__cause__ = errors.RemoteTraceback(record["traceback"])
    extras["errorvalue"] = value
