"""Doing the jobs of a map: one after the other, or dealt out to the ranks by the root, which does some itself."""

from __future__ import annotations

import os
import pickle
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from runforrest.errors import ProcessError, RemoteTraceback, UnpicklableError
from runforrest.folder.attempts import new_tag
from runforrest.folder.fsio import FileOps
from runforrest.folder.settings import now_text
from runforrest.graph import athome
from runforrest.mapping import cache
from runforrest.mapping.cache import Job
from runforrest.mapping.files import PROTOCOL, write
from runforrest.mapping.ranks import DONE, END, GAVE_UP, HELLO, JOB, LEFT, STAY, Ranks

Function = Callable[..., Any]


@dataclass(frozen=True)
class Failure:
    """How a job has failed: the pickled exception, and its traceback as text."""

    rank: int
    error: bytes
    traceback: str

    def exception(self) -> BaseException:
        error: BaseException = athome.loads(self.error)
        if self.traceback and error.__cause__ is None:
            error.__cause__ = RemoteTraceback(self.traceback)
        return error


def do(job: Job, function: Function, rank: int) -> Any:
    """Make the call and keep its result.  Raises what the function raises, UnpicklableError, OSError."""
    started, begun = now_text(), time.perf_counter()
    value = function(*job.arguments)
    record = {"frame": cache.JOB, "version": 1, "index": job.index, **job.record, "host": socket.gethostname(),
              "pid": os.getpid(), "rank": rank, "started": started, "seconds": time.perf_counter() - begun}
    folder, name = os.path.split(job.file)
    try:
        write(FileOps(folder), name, f"{name}.{new_tag(8)}", (value,), record)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise UnpicklableError(f"the result of job {job.index} ({type(value).__name__}) can't be pickled: {error}",
                               path="", offender=repr(type(value))) from error
    return value


def attempt(job: Job, function: Function, rank: int) -> Failure | None:
    """`do`, with its failure as a value.  What is to leave the program (SystemExit, Ctrl-C) is raised."""
    try:
        do(job, function, rank)
    except Exception as error:
        return failure_of(error, rank)
    return None


def failure_of(error: BaseException, rank: int) -> Failure:
    from runforrest.process.child import pickled_error, traceback_text
    return Failure(rank, pickled_error(error), traceback_text(error))


class Work:
    """The jobs of one map that are to be done, as the root deals them out.

    told    called whenever a job has ended, with how many have, and how many of these have failed
    """

    def __init__(self, jobs: Iterable[Job], function: Function, ranks: Ranks | None,
                 told: Callable[[int, int], None]) -> None:
        self.failures: dict[int, Failure] = {}
        self._todo, self._function = deque(jobs), function
        self._ranks, self._told = ranks, told
        self._idle: deque[int] = deque()
        self._given: dict[int, Job] = {}        # by rank
        self._own: Job | None = None
        self._own_too = True
        self._ended = 0
        self._lock = threading.RLock()
        self._trouble: BaseException | None = None
        self._stopped = False

    # -- by the root's own hands ---------------------------------------------------------------

    def run(self, own: bool = True) -> dict[int, Failure]:
        """Have all jobs done; how those have ended that failed, by index.

        own  the root does jobs, too, while a thread deals out to the others
        """
        if self._ranks is None:
            self._do_own(0)
        elif not own:
            self._own_too = False
            self._deal()
        else:
            self._share(self._ranks.rank)
        return self.failures

    def _share(self, rank: int) -> None:
        thread = threading.Thread(target=self._deal_in_thread, name="runforrest-map", daemon=True)
        thread.start()
        try:
            self._do_own(rank)
            thread.join()
        finally:
            self._stopped = True
            thread.join()
        if self._trouble is not None:
            raise self._trouble

    def _do_own(self, rank: int) -> None:
        while self._trouble is None:
            with self._lock:
                if not self._todo:
                    return
                job = self._own = self._todo.popleft()
            failure = attempt(job, self._function, rank)
            with self._lock:
                self._own = None
                self._note(job, failure)

    def _note(self, job: Job, failure: Failure | None) -> None:
        self._ended += 1
        if failure is not None:
            self.failures[job.index] = failure
        self._told(self._ended, len(self.failures))

    # -- by the other ranks --------------------------------------------------------------------

    def _deal_in_thread(self) -> None:
        try:
            self._deal()
        except BaseException as error:
            self._trouble = error

    def _deal(self) -> None:
        assert self._ranks is not None
        while (received := self._ranks.receive(self._is_over)) is not None:
            with self._lock:
                self._hear(*received)
                self._hand_out()

    def _is_over(self) -> bool:
        """Raises ProcessError if nobody is there who could do what is left."""
        assert self._ranks is not None
        with self._lock:
            if self._todo and not self._own_too and len(self._ranks.gone) == self._ranks.size - 1:
                raise ProcessError("all other ranks have left the program, and the root does no jobs")
            return self._stopped or not (self._todo or self._given or self._own)

    def _hear(self, rank: int, message: tuple[Any, ...]) -> None:
        assert self._ranks is not None
        kind, *rest = message
        if kind in (HELLO, DONE, GAVE_UP) and rest[0] != self._ranks.maps:
            return                              # it has not heard yet that that map is over
        if kind in (DONE, GAVE_UP) and rank in self._given:
            self._note(self._given.pop(rank), rest[1])
        if kind in (HELLO, DONE):
            self._idle.append(rank)
        if kind == LEFT:
            self._ranks.gone.add(rank)
            self._ranks.send(rank, STAY)

    def _hand_out(self) -> None:
        assert self._ranks is not None
        while self._idle and self._todo:
            job, rank = self._todo.popleft(), self._idle.popleft()
            try:
                arguments = pickle.dumps(job.arguments, PROTOCOL)
            except Exception as error:
                self._note(job, failure_of(error, self._ranks.rank))
                self._idle.append(rank)
                continue
            self._given[rank] = job
            self._ranks.send(rank, JOB, self._ranks.maps, job.index, job.file, job.record, arguments)


def serve(function: Function, ranks: Ranks, root: int) -> tuple[Any, ...]:
    """Do what the root deals out, until it says that the map is over; what it says then."""
    ranks.send(root, HELLO, ranks.maps)
    while True:
        received = ranks.receive()
        assert received is not None
        kind, *rest = received[1]
        if kind == LEFT:
            ranks.gone.add(root)
            return (False, "the root has left the program")
        if kind == JOB and rest[0] == ranks.maps:
            ranks.send(root, DONE, ranks.maps, _serve_one(function, ranks, root, *rest[1:]))
        elif kind == END and rest[0] == ranks.maps:
            return tuple(rest[1:])


def _serve_one(function: Function, ranks: Ranks, root: int, index: int, file: str, record: dict[str, Any],
               arguments: bytes) -> Failure | None:
    try:
        try:
            job = Job(index, file, pickle.loads(arguments), record)
        except Exception as error:
            return failure_of(error, ranks.rank)
        return attempt(job, function, ranks.rank)
    except BaseException as error:              # which ends this rank, unless somebody catches it
        ranks.send(root, GAVE_UP, ranks.maps, failure_of(error, ranks.rank))
        raise
