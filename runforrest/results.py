"""Finished tasks as the user gets them: the deferred call out of its file, with how it ended.

Here, and in the child, is where other people's code is unpickled.
"""

from __future__ import annotations

import os
from typing import Any

from runforrest import errors
from runforrest.folder.fsio import FileOps
from runforrest.folder.stored import StoredTask, side_payload
from runforrest.graph import Task, defer, loads
from runforrest.model import outcomes
from runforrest.model.names import Name
from runforrest.model.records import Attempt, Envelope

_ERRORS: dict[str, type[errors.AttemptError]] = {
    outcomes.TIMED_OUT: errors.TimedOut, outcomes.CRASHED: errors.Crashed,
    outcomes.OUT_OF_MEMORY: errors.OutOfMemory, outcomes.LOST: errors.Lost,
    outcomes.CANCELLED: errors.Cancelled, outcomes.UNLOADABLE: errors.Unloadable}
_RESULTS = ("returnvalue", "errorvalue", "runtime")


def load_task(fs: FileOps, state: str, name: Name) -> Task:
    """The task in this file, with ``returnvalue``, ``errorvalue``, ``metadata``, ``runtime``, ``attempts``
    and ``scheduled``.

    What can't be loaded is told in ``errorvalue``; the task is then a stand-in.  Raises FileNotFoundError
    if the file is gone.
    """
    stored, call, payload = _read(fs, f"{state}/{name}", name)
    problem: BaseException | None = None
    loaded: Any = None
    if isinstance(call, ValueError):
        problem = errors.Unloadable(str(call))
    else:
        try:
            loaded = loads(call)
        except Exception as error:
            problem = errors.Unloadable(f"the call can't be unpickled here: {type(error).__name__}: {error}")
    task: Task = loaded if isinstance(loaded, Task) else defer(loaded)
    extras: dict[str, Any] = task.__dict__
    extras.setdefault("metadata", stored.envelope.get("metadata"))
    kept = {key: extras.get(key) for key in _RESULTS} if "returnvalue" in extras else None
    extras.update(returnvalue=None, errorvalue=None, runtime=None,
                  attempts=[Attempt.from_json(record) for record in stored.attempts],
                  scheduled=Envelope.from_json({"id": name.id, **stored.envelope}))
    record = stored.result()
    if state in ("done", "fail") and record is not None:
        extras["runtime"] = record.get("runtime")
        extras["returnvalue"], extras["errorvalue"] = _ending(record, payload)
    elif state in ("done", "fail") and problem is None and kept and not stored.envelope:
        extras.update(kept)                # RunForrest has put its results into the pickle
    elif state in ("done", "fail") and problem is None:
        problem = errors.Lost(f"{state}/{name} has no result of the attempt in its name; move it to todo/ "
                              f"to run it again")
    if extras["errorvalue"] is None and (record is None or state == "todo"):
        extras["errorvalue"] = problem
    return task


def _read(fs: FileOps, path: str, name: Name) -> tuple[StoredTask, bytes | ValueError, bytes | None]:
    """(what the file holds, the pickled call, the pickled value or exception)."""
    call: bytes | ValueError
    stored, payload = StoredTask(name, [], 0), None
    try:
        fd = fs.open_read(path)
    except FileNotFoundError:
        raise
    except OSError as error:               # a link, a file that we may not read: what is beside it tells why
        call = ValueError(f"the file can't be opened: {error.strerror}")
    else:
        try:
            stored = StoredTask.read(fd, name)
            payload = stored.payload(fd)
            call = stored.call(fd)
        except IsADirectoryError as error:
            call = ValueError(f"the file can't be read: {error.strerror}")
        except ValueError as error:
            call = error
        finally:
            os.close(fd)
    if name.lost or not stored.has_result():
        stored.add_side_records(fs)
        payload = side_payload(fs, name)
    return stored, call, payload


def _ending(record: dict[str, Any], payload: bytes | None) -> tuple[Any, BaseException | None]:
    """(returnvalue, errorvalue) of an ended attempt."""
    value: Any = None
    if record.get("payload"):
        if payload is None:
            return None, errors.Unloadable("the result in the file is damaged; move the file to todo/ to run it again")
        try:
            value = loads(payload)
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
