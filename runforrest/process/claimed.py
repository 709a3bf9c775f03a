"""A claimed task before its child runs it: what is in the file, its limits, and whether it can be run here.

Loaded in every child.
"""

from __future__ import annotations

import os
import sys
import time

from runforrest import errors
from runforrest.folder import attempts, frames
from runforrest.folder.stored import StoredTask
from runforrest.model.limits import GRACE, Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runforrest.folder.fsio import FileOps
    from runforrest.model.names import Name
    from runforrest.process.config import Config
    from runforrest.process.page import Page
    from runforrest.process.surroundings import Grant, Surroundings


class Claimed:
    """One claimed task.

    call     the pickle of the deferred call; None if ``problem`` says why it can't be run
    command  the command line that it stands for, or ''
    limits   its own, and the runner's where it has none
    header   the beginning of the report on its attempt; ``record``: that of its record
    begun    when the attempt began, on the monotonic clock
    """

    __slots__ = ("_started", "begun", "call", "command", "header", "limits", "name", "path", "problem", "record",
                 "task")

    def __init__(self, fs: FileOps, path: str, name: Name, config: Config) -> None:
        """Raises OSError where the file may well be good but can't be read now."""
        self.path, self.name = path, name
        self.begun, self._started = time.monotonic(), time.time()
        self.call: bytes | None = None
        self.problem: BaseException | None = None
        self.command = ""
        self.task = StoredTask(name, [], 0)
        try:
            self._read(fs)
            check_loadable(self.task.envelope)
        except (errors.Unloadable, errors.Untrusted) as error:
            self.problem = error
        own = self.task.envelope.get("limits")
        self.limits = Limits.from_json(own).or_else(config.limits) if own else config.limits
        self.header = report_header(self.task)
        self.record = (f'"frame":"attempt","attempt":"{name.attempt}","number":{name.tries},"runner":"{config.runner}",'
                       f'"host":"{config.host}","started":"{iso(self._started)}"')

    def after(self, duration: float) -> str:
        """When the attempt ended, this many seconds after it began, as ISO 8601."""
        second = self._started % 60 + duration
        if second < 59.999:             # the same minute: no calendar needed, which a fresh fork would pay for
            return f"{self.record[-25:-8]}{second:06.3f}Z"
        return iso(self._started + duration)

    def _read(self, fs: FileOps) -> None:
        try:
            fd = fs.open_read(self.path)
        except OSError as error:
            if error.errno in attempts.NOT_APPENDABLE and fs.exists(self.path):    # the file itself, not the folder
                raise errors.Unloadable(f"the file can't be opened: {error.strerror}") from None
            raise
        try:
            fs.trust.check(fd, fs.path(self.path))
            self.task = StoredTask.read(fd, self.name)
            if self.task.renamed:
                self.task.add_side_records(fs)
            call = self.task.call(fd)
            self.task.check_call(fs.trust, call)
            self.call = call
            self.command = str(self.task.envelope.get("command") or "")
        except errors.Untrusted:
            self.task = self.task.without_envelope()
            raise
        except ValueError as error:
            raise errors.Unloadable(f"{error}: schedule the task again") from None
        except IsADirectoryError:
            raise errors.Unloadable("it is a folder, not a file") from None
        finally:
            os.close(fd)

    def enter(self, surroundings: Surroundings, grant: Grant = None) -> None:
        """Set path, working directory and environment; a folder that is missing is the task's problem."""
        try:
            surroundings.enter(self.task, grant)
        except OSError as error:
            self.problem = self.problem or error

    def enforce(self, page: Page) -> None:
        """Put the limits of an attempt that starts now onto the page."""
        limits = self.limits
        page.limit(None if limits.timeout is None else time.monotonic() + limits.timeout,
                   GRACE if limits.grace is None else limits.grace, limits.memory)


def report_header(task: StoredTask) -> bytes:
    """How a report of this task's attempt begins: its name, how earlier attempts ended, and its limits."""
    return (f'{{"name":{frames.to_json(str(task.name))},"earlier":{frames.to_json(task.counts())},'
            f'"limits":{frames.to_json(task.envelope.get("limits") or {})},').encode()


def fault(name: Name, path: str, error: OSError) -> bytes:
    """The report of a task whose file can't be read or written now."""
    return report_line({"name": str(name), "fault": f"{error.strerror or error}: {path}",
                        "gone": isinstance(error, FileNotFoundError), "damaged": error.errno in attempts.DAMAGED})


def iso(seconds: float) -> str:
    """A time as it stands on disk: ISO 8601, UTC, milliseconds."""
    return time.strftime("%Y-%m-%dT%H:%M:", time.gmtime(seconds)) + f"{int(seconds % 60 * 1000) / 1000:06.3f}Z"


def report_line(message: dict[str, object]) -> bytes:
    return frames.to_json(message).encode() + b"\n"


def check_loadable(envelope: dict[str, Any]) -> None:
    """Refuse a pickle that this Python would misread: byte code differs from one minor version to the next.

    Raises Unloadable.
    """
    made = str(envelope.get("python") or "")
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    exact = envelope.get("serializer") == "dill"
    if made and (made.split(".")[:2] != here.split(".") if exact else made.split(".")[0] != here.split(".")[0]):
        raise errors.Unloadable(
            f"the task was pickled by Python {made}, this is Python {here}: use Python "
            f"{'.'.join(made.split('.')[:2])} for it")
