"""`Run`: what `TaskList.run` returns; iterate over it, and the tasks that were in ``todo/`` get run."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import queue
import sys
import threading
from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import accumulate, chain
from typing import Any

from runforrest.errors import FolderError, Stopped, TimedOut, UnpicklableError
from runforrest.folder import layout, sessions
from runforrest.folder.gates import Gates
from runforrest.folder.leases import Membership
from runforrest.folder.transitions import TaskFolder
from runforrest.folder.waiting import Waiting
from runforrest.graph import Task
from runforrest.logfile import Logfile
from runforrest.model import events as ev
from runforrest.model import outcomes
from runforrest.model.names import Name
from runforrest.results import load_task
from runforrest.runner import Options, Runner
from runforrest.runner.signals import forwarded

BUCKETS = 256
_LEFT_EARLY = {"stopped": "this runner was asked to stop", "walltime": "the time of this runner is over",
               "unfit": "what is left needs more than this runner has",
               "stuck": "what is left waits for tasks that are gone"}
BACKLOG = 500                      # finished tasks that may wait for the consumer before the runner pauses
CLOSE_SECONDS = 5.0                 # seconds that leaving may take when the interpreter ends


class Snapshot:
    """Which tasks were in ``todo/`` when `run` was called: nine bytes per task, however long its name.

    waiting  those in ``waiting/`` that wait for nothing else: they are part of it
    """

    def __init__(self, folder: TaskFolder, waiting: Waiting | None = None) -> None:
        self._buckets = [array("q") for _ in range(BUCKETS)]
        self._fill(folder.scan(layout.TODO))
        self.waiting = waiting.within(lambda id: Name(id) in self) if waiting else []
        if self.waiting:
            self._fill(self.waiting)
        self.yielded = bytearray(self._firsts[-1])

    def _fill(self, names: Iterable[Name]) -> None:
        for name in names:
            hashed = hash(name.id)
            self._buckets[hashed % BUCKETS].append(hashed)
        for number, bucket in enumerate(self._buckets):
            self._buckets[number] = array("q", sorted(bucket))
        self._firsts = [0, *accumulate(map(len, self._buckets))]

    def __len__(self) -> int:
        return self._firsts[-1]

    def find(self, name: Name) -> int | None:
        """A number from 0 to ``len - 1`` that is this task's; None if it was not there."""
        hashed = hash(name.id)
        number = hashed % BUCKETS
        bucket = self._buckets[number]
        at = bisect_left(bucket, hashed)
        return self._firsts[number] + at if at < len(bucket) and bucket[at] == hashed else None

    def __contains__(self, name: Name) -> bool:
        return self.find(name) is not None


class Run:
    """An iterable over finished tasks; its ``len`` is the number of tasks that were waiting when it was made.

    Tasks run only while it is being iterated, in processes of their own; breaking out of the loop ends
    them, and puts them back.  If other runners work on the same list, what they finished is yielded, too.
    """

    def __init__(self, folder: TaskFolder, options: Options, *, ordered: bool = False, save_session: bool = False,
                 print_errors: bool = False, print_output: bool = False, logfile: Logfile | None = None) -> None:
        self._folder, self._options, self._ordered = folder, options, ordered
        self._save_session = save_session
        self._print_errors, self._print_output, self._logfile = print_errors, print_output, logfile
        membership = Membership(folder)
        membership.recover()               # what dead runners of this host held is waiting, too
        self._settled = list(membership.settled)
        gates = Gates(folder) if folder.fs.exists(layout.WAITING) else None
        if gates:
            gates.sweep()
            self._settled += gates.settled
        self._snapshot: Snapshot | None = Snapshot(folder, gates.waiting if gates else None)
        self._work: _Background | None = None
        self._abandoned = False            # by `__aiter__`
        self._ranks = self._ranks_of(self._snapshot) if ordered else array("L")

    def __len__(self) -> int:
        return len(self._snapshot) + len(self._settled) if self._snapshot is not None else 0

    def __getstate__(self) -> dict[str, Any]:
        """A session that is saved may hold a run; its copy is empty."""
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._snapshot = None
        self._work, self._abandoned = None, False

    # -- iteration -----------------------------------------------------------------------

    def __iter__(self) -> Iterator[Task]:
        """Start the slots and yield each task as it is finished (``ordered``: as it was scheduled).

        First Ctrl-C: running tasks are finished and yielded, then KeyboardInterrupt.  Second: they are
        ended and put back, and KeyboardInterrupt comes at once.
        """
        if self._snapshot is None:
            return
        session = self._dump_session() if self._save_session else ""
        self._options.session = session
        snapshot = self._snapshot
        snapshot.yielded = bytearray(len(snapshot))
        self._work = work = _Background(self._folder, self._options, snapshot, self._logfile, hold=not self._ordered)
        if self._abandoned:
            work.interrupt()
        with forwarded(work.runner, insistent=_raise_interrupt), contextlib.closing(work):
            for name, state in chain(self._settled, self._in_order(work) if self._ordered else work.finished()):
                task = self._loaded(state, name)
                if task is not None:
                    yield task
        if work.reason in ("drained", "released"):
            raise KeyboardInterrupt
        if work.reason == "terminated":
            raise SystemExit(143)
        if work.reason in _LEFT_EARLY:
            why = _LEFT_EARLY[work.reason]
            waiting = sum(1 for _ in Waiting(self._folder).tasks())
            left = self._folder.count(layout.TODO) + waiting
            if not left:
                return
            raise Stopped(f"{why}, and its list is not done: {left} task{'s' * (left != 1)} in "
                          f"{self._folder.fs.path(layout.TODO)}{f' and {layout.WAITING}/' if waiting else ''}; run() "
                          f"again goes on", reason=work.reason)
        if work.reason == "fenced":
            root = self._folder.fs.root
            if not os.path.isdir(root):
                raise FolderError(f"{root} was removed while its tasks ran", directory=root)
            raise FolderError(f"this runner was declared lost, and others have its tasks: not all of this run came "
                              f"back; what is finished is in {self._folder.fs.path(layout.DONE)}, and run() again "
                              f"does the rest", directory=root)

    async def __aiter__(self) -> AsyncIterator[Task]:
        """The same for asyncio, ``async for task in tasklist.run(4)``: the loop goes on while tasks run.

        Whoever leaves the loop, or is cancelled in it, ends the tasks, and they are put back.
        """
        import asyncio
        from concurrent.futures import ThreadPoolExecutor
        loop, self._abandoned = asyncio.get_running_loop(), False
        tasks = iter(self)
        thread = ThreadPoolExecutor(1, "runforrest-run")
        try:
            while (task := await loop.run_in_executor(thread, next, tasks, None)) is not None:
                yield task
        finally:
            self._abandoned = True         # the thread may just be beginning, or wait for a task
            if self._work is not None:
                self._work.interrupt()
            await loop.run_in_executor(thread, _close, tasks)
            thread.shutdown(wait=False)

    def _ranks_of(self, snapshot: Snapshot) -> array[int]:
        """The place of each task of the snapshot in the order of scheduling."""
        ranks = array("L", bytes(len(snapshot) * array("L").itemsize))
        for rank, name in enumerate(sorted(chain(self._folder.scan(layout.TODO), snapshot.waiting), key=str)):
            number = snapshot.find(name)
            if number is not None:
                ranks[number] = rank
        return ranks

    def _in_order(self, work: _Background) -> Iterator[tuple[Name, str]]:
        """Finished tasks, each held back until all before it have been yielded."""
        assert self._snapshot is not None
        early: dict[int, tuple[Name, str]] = {}
        following = 0
        for name, state in work.finished():
            number = self._snapshot.find(name)
            rank = None if number is None else self._ranks[number]
            if rank is None or rank < following:
                yield name, state               # tried again by hand
                continue
            early[rank] = (name, state)
            while following in early:
                yield early.pop(following)
                following += 1
        yield from (early[rank] for rank in sorted(early))

    def _loaded(self, state: str, name: Name) -> Task | None:
        try:
            task = load_task(self._folder.fs, state, name)
        except FileNotFoundError:               # a person has moved it already
            return None
        attempt = task.attempts[-1] if task.attempts else None
        if attempt is not None and self._print_output:
            for text, size, log in ((attempt.output, attempt.output_bytes, attempt.log),
                                    (attempt.errors, attempt.errors_bytes, attempt.errors_log)):
                _print(text)
                if log:
                    _print(f"[{size} bytes in all: {self._folder.fs.path(log)}]\n")
        if attempt is not None and self._print_errors and state == layout.FAIL:
            _print(f"Error in {name}: {attempt.traceback or attempt.message or repr(task.errorvalue)}".rstrip() + "\n")
        if self._logfile:
            self._log(_log_name(name), state, task)
        return task

    def _log(self, name: str, state: str, task: Task) -> None:
        assert self._logfile is not None
        for attempt in task.attempts[-1:]:
            for text in filter(None, (attempt.output, attempt.errors)):
                self._logfile.event(name, "output", text)
            if attempt.outcome in (outcomes.CRASHED, outcomes.LOST, outcomes.OUT_OF_MEMORY):
                self._logfile.event(name, "lost contact", attempt.message)
        if isinstance(task.errorvalue, TimedOut):
            self._logfile.event(name, "autokilled")
        self._logfile.event(name, state)

    def _dump_session(self) -> str:
        import dill
        session = io.BytesIO()
        try:
            dill.dump_module(session, refimported=True)
        except Exception as error:
            raise _session_error(error) from error
        return sessions.save(self._folder.fs, session.getvalue())


class _Background:
    """The runner in a thread of its own, so that slots stay busy whatever the consumer does."""

    def __init__(self, folder: TaskFolder, options: Options, snapshot: Snapshot, logfile: Logfile | None,
                 hold: bool) -> None:
        self._folder, self._snapshot, self._hold = folder, snapshot, hold
        self._queue: queue.SimpleQueue[tuple[Name, str] | BaseException | None] = queue.SimpleQueue()
        self._held = False
        self._ended = self._closing = False
        started = (lambda name: logfile.event(_log_name(name), "start")) if logfile else None
        self.runner = Runner(folder, options, self._finished, self._say, started, snapshot.__contains__)
        self.reason = ""
        self._thread = threading.Thread(target=self._run, name="runforrest-runner", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def _run(self) -> None:
        try:
            self.reason = self.runner.run()
            self._queue.put(None)
        except BaseException as error:
            self._queue.put(error)

    def _finished(self, name: Name, state: str, report: dict[str, Any]) -> None:
        self._queue.put((name, state))
        if self._hold and not self._held and self._queue.qsize() > BACKLOG:
            self.runner.tell(ev.Hold(True))
            self._held = True                   # afterwards: the other thread answers with Hold(False)

    def finished(self) -> Iterator[tuple[Name, str]]:
        """What this runner finished, as it comes; at the end what other runners finished of the same tasks."""
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                self._ended = True
                raise item
            if self._held and self._queue.qsize() < BACKLOG // 2:
                self._held = False
                self.runner.tell(ev.Hold(False))
            place = self._snapshot.find(item[0])
            if place is not None:
                self._snapshot.yielded[place] = 1
            yield item
        self._ended = True
        if self.reason == "done":
            yield from self._of_others()

    def _of_others(self) -> Iterator[tuple[Name, str]]:
        if all(self._snapshot.yielded):
            return
        for state in (layout.DONE, layout.FAIL):
            for name in self._folder.names(state):
                place = self._snapshot.find(name)
                if place is not None and not self._snapshot.yielded[place]:
                    self._snapshot.yielded[place] = 1
                    yield name, state

    def interrupt(self) -> None:
        """End what runs and put it back, if it has not come to its end; from any thread."""
        if not self._ended:
            self._ended = self._closing = True
            self.runner.tell(ev.Interrupt())
            self.runner.tell(ev.Interrupt())

    def close(self) -> None:
        """End what runs and put it back, if it has not come to its end; wait for the runner to leave."""
        self.interrupt()
        self._thread.join(CLOSE_SECONDS + self.runner.options.grace)
        atexit.unregister(self.close)

    def _say(self, text: str) -> None:
        if self._closing and text.startswith("stopping:"):
            return                              # nobody has pressed Ctrl-C
        print(f"runforrest: {text}", file=sys.stderr, flush=True)


def _close(tasks: Any) -> None:
    """End the iteration of a run, which was interrupted."""
    try:
        tasks.close()
    except (KeyboardInterrupt, Stopped):
        pass


def _print(text: str) -> None:
    """To standard output, whatever its encoding: a character that it lacks must not end the run."""
    try:
        print(text, end="", flush=True)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding
        print(text.encode(encoding, "backslashreplace").decode(encoding), end="", flush=True)


def _log_name(name: Name) -> str:
    """The task's name in the logfile: as in RunForrest the same from its first line to its last."""
    return str(Name(name.id))


def _session_error(error: Exception) -> UnpicklableError:
    """Why `dill.dump_module` failed, with the variable that is to blame."""
    import dill
    for name, value in list(vars(sys.modules["__main__"]).items()):
        if name.startswith("__"):
            continue
        try:
            dill.dumps(value)
        except Exception as reason:
            return UnpicklableError(f"save_session: the variable {name} ({type(value).__name__}) can't be pickled: "
                                    f"{reason}; delete it, or keep it inside a function", path=name,
                                    offender=type(value).__name__)
    return UnpicklableError(f"save_session: {type(error).__name__}: {error}", path="__main__", offender="")


def _raise_interrupt() -> None:
    raise KeyboardInterrupt
