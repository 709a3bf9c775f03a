"""The files of one map: a file for each job in the folder ``FILE.mpi``, and in the end ``FILE``."""

from __future__ import annotations

import errno
import os
import pickle
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from runforrest.errors import FolderError, InvalidArgument, Untrusted
from runforrest.folder.attempts import new_tag
from runforrest.folder.fsio import FileOps
from runforrest.mapping import lock
from runforrest.mapping.failures import MapInUse
from runforrest.mapping.files import LATE_SECONDS, LATE_STEP, READABLE, TORN, record_of, unpacked, write

FOLDER = ".mpi"
JOB, WHOLE = "job", "map"          # kinds of records
Triple = tuple[int, list[Any], Any]
_OURS = re.compile(r"(job\d{4,}|whole)\.pkl(\.[0-9a-z]{8})?")
_OF_PICKLE = b"\x80"               # every pickle since protocol 2 begins so


@dataclass(frozen=True)
class Job:
    """One call that is to be made.

    index      its place among the arguments
    file       where its result is kept
    arguments  of the call
    record     what it is the result of: digests of function and arguments
    """

    index: int
    file: str
    arguments: tuple[Any, ...]
    record: dict[str, Any]

    def __str__(self) -> str:
        return os.path.basename(self.file)


@dataclass(frozen=True)
class Whole:
    """What is in a final file, and of what it was made: the digests of the jobs; None if `map` has not written it."""

    triples: list[Triple]
    made_of: list[str] | None

    def has(self, job: Job) -> bool:
        made_of = self.made_of or []
        return job.index < len(made_of) and made_of[job.index] == digest(job.record)


class Cache:
    """The files of one map, as the root sees them.

    filename  of the whole; ``say`` is told what a person should know
    check     whether results count only for the function and arguments that they were made of
    """

    def __init__(self, filename: str, say: Callable[[str], None], check: bool = True) -> None:
        self.filename, self.folder = filename, filename + FOLDER
        self._check, self._say = check, say
        above, self._name = os.path.split(os.path.abspath(filename))
        self._above = FileOps(above)
        self.fs = FileOps(self.folder)

    def exists(self) -> bool:
        return self._above.exists(self._name)

    def lock(self) -> lock.Lock:
        """Nobody else is at work in the folder while this is entered; it is made if it is missing."""
        return lock.Lock(self.fs, self._say)

    # -- what is there -----------------------------------------------------------------------

    def whole(self) -> Whole | None:
        """The final file; None if there is none, or it is torn.  Raises InvalidArgument for what is no pickle."""
        try:
            with open(self.filename, "rb") as file:
                if file.read(1) not in (b"", _OF_PICKLE):
                    raise self._foreign()
                file.seek(0)
                record = record_of(file.fileno())
                if record == {}:
                    raise EOFError
                found = unpacked(pickle.load(file))
                if type(found) not in (tuple, list):
                    raise self._foreign()
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            raise self._foreign() from None
        except TORN:
            self._say(f"{self.filename} is torn, and is made anew")
            return None
        made_of = record.get("jobs") if record and record.get("frame") == WHOLE else None
        return Whole(found, made_of)

    def _foreign(self) -> InvalidArgument:
        return InvalidArgument(f"{self.filename} is there, and is not a file of results: name another one, or remove "
                               f"it", argument="filename")

    def missing(self, jobs: Sequence[Job], whole: Whole | None = None) -> list[Job]:
        """The jobs that are to be done.  ``whole``: a final file, some results of which may count still."""
        missing, why = [], {"function": 0, "arguments": 0, "torn": 0}
        for job in jobs:
            if whole is not None and whole.has(job):
                continue
            known = whole.made_of or [] if whole is not None else []
            reason = self._reason(job, known[job.index] if job.index < len(known) else "")
            if reason != "done":
                missing.append(job)
            if reason in why:
                why[reason] += 1
        self._tell(why)
        return missing

    def _reason(self, job: Job, earlier: str) -> str:
        """Whether the job is done, or why not: there is nothing, or a result of something else, or a bad file."""
        try:
            record = self._record(str(job))
        except FileNotFoundError:
            if not earlier:
                return "new"
            return "function" if earlier.endswith(job.record["arguments"]) else "arguments"
        if not record or record.get("frame") != JOB:
            return "torn"
        if self._fits(record, job):
            return "done"
        return "function" if record.get("arguments") == job.record["arguments"] else "arguments"

    def _fits(self, record: dict[str, Any], job: Job) -> bool:
        """Whether this is said of a result of this job."""
        return record.get("frame") == JOB and (
            not self._check or all(record.get(key) == value for key, value in job.record.items()))

    def _record(self, name: str) -> dict[str, Any] | None:
        fd = self.fs.open_read(name)
        try:
            self.fs.trust.check(fd, self.fs.path(name))
            return record_of(fd)
        except (Untrusted, IsADirectoryError):
            return None
        finally:
            os.close(fd)

    def _tell(self, why: dict[str, int]) -> None:
        changed = [f"the {what}" for what in ("function", "arguments") if why[what]]
        if changed:
            number = why["function"] + why["arguments"]
            self._say(f"{self.filename}: {' and '.join(changed)} changed, so {number} of its jobs are done again")
        if why["torn"]:
            self._say(f"{self.folder}: {why['torn']} files are torn, or not this user's: their jobs are done again")

    # -- the results -------------------------------------------------------------------------

    def collect(self, jobs: Sequence[Job], whole: Whole | None = None) -> list[Triple]:
        """All results, in the order of the arguments."""
        return [whole.triples[job.index] if whole is not None and whole.has(job)
                else (job.index, list(job.arguments), self.result(job)) for job in jobs]

    def result(self, job: Job) -> Any:
        """Of a job that is done.  A file server may show late what another host has written, or what was there before.

        Raises Untrusted, and FolderError if it is not to be seen at all.
        """
        until = time.monotonic() + LATE_SECONDS
        while True:
            try:
                with os.fdopen(self.fs.open_read(str(job)), "rb") as file:
                    self.fs.trust.check(file.fileno(), job.file)
                    if self._fits(record_of(file.fileno(), summed=False) or {}, job):
                        return pickle.load(file)[0]
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ESTALE):
                    raise
            if time.monotonic() > until:
                raise FolderError(f"{job.file} was written by another rank, and is not to be seen here: do all ranks "
                                  f"use the same folder?", directory=self.folder)
            time.sleep(LATE_STEP)
            self.fs.exists(str(job))        # has the server asked

    def publish(self, jobs: Sequence[Job], triples: list[Triple]) -> None:
        """Write the final file, and be sure of it before the jobs' files are removed."""
        record = {"frame": WHOLE, "version": 1, "jobs": [digest(job.record) for job in jobs]}
        temporary = f"{self._name}{FOLDER}/whole.pkl.{new_tag(8)}"
        write(self._above, self._name, temporary, (triples,), record, READABLE)
        self._above.force_folder("")

    def clean(self) -> None:
        """Remove what `map` has put into the folder."""
        for name in self.fs.entries(""):
            if _OURS.fullmatch(name):
                self.fs.unlink(name)

    def remove(self) -> None:
        """`clean`, and remove the folder; unless another program is at work there.  What prevents it is said."""
        if not os.path.isdir(self.folder):
            return
        try:
            with self.lock():
                self.clean()
            os.rmdir(self.folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._say(f"{self.folder} was not removed: {error.strerror}")
        except MapInUse:
            pass


def digest(record: dict[str, Any]) -> str:
    """Of function and arguments together."""
    return f"{record['function']}{record['arguments']}"


def joblist(filename: str, args: Iterable[Any]) -> list[tuple[int, str, Any]]:
    return [(index, f"{filename}{FOLDER}/job{index:04d}.pkl", arg) for index, arg in enumerate(args)]
