"""`cached_map`: a function mapped over items by a task list, which keeps each result."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from runforrest.engines import Engine, mpi
from runforrest.errors import FolderError, InvalidArgument, ProcessError, Stopped
from runforrest.folder import journal, layout
from runforrest.folder.transitions import TaskFolder
from runforrest.graph import defer
from runforrest.graph.decorator import refuse_async, undeferred
from runforrest.mapping.failures import MapFailed, named
from runforrest.mapping.fingerprint import of_function, of_value
from runforrest.model.names import Name
from runforrest.results import load_task
from runforrest.runner import Options, Runner
from runforrest.runner.signals import forwarded
from runforrest.tasklist import TaskList

T = TypeVar("T")
R = TypeVar("R")

MOST_LOCKS = 12                    # times that a lock is waited for, before one goes on without
ROUNDS = 2                         # once more, if the file of a result turns out to be damaged
CHARACTERS = 12                    # of digests, in names of tasks
_OURS = re.compile(r"(?P<index>\d{6,})-(?P<function>[0-9a-f]{12})-(?P<item>[0-9a-f]{12})")


def cached_map(fn: Callable[[T], R], items: Iterable[T], path: str | os.PathLike[str] | TaskList, *,
               nprocesses: int | None = None, engine: Callable[[str], Engine] | None = None,
               isolation: str = "process", preload: Sequence[str] = (), print_output: bool | None = None,
               **wanted: Any) -> list[R]:
    """The results of ``fn(item)`` for each item, in their order; those that are in the task list already are not
    computed again.

    fn, items   what they are made of decides what is computed again: see docs/cached-map.md
    path        the folder of the task list, or the list
    nprocesses  calls that run side by side here; None: 4, or 1 in each process that mpirun has started; 0: none, the
                engine runs them all
    engine      called with the folder, gives an engine that starts more runners, here or elsewhere
    isolation, preload, print_output
                as in `TaskList.run`
    wanted      limits and needs of each call, as in `TaskList.schedule`: timeout, memory, retries, cores, env …

    Several programs may call it for the same list at the same time: they share the work, and each returns all results.

    Raises MapFailed, when all others are done, if some calls have failed; they are tried again by the next call.
    Raises DeferredError for an async function, what `TaskList.schedule` and `TaskList.run` raise, and ProcessError if
    the engine's runners have ended and the list is not done.
    """
    here = nprocesses if nprocesses is not None else 4 if mpi.world() is None else 1
    items, fn = list(items), undeferred(fn)
    _check(fn, here, engine, isolation, preload, wanted)
    tasks = path if isinstance(path, TaskList) else TaskList(path, exist_ok=True, pre_clean=False)
    cached = _Cached(tasks, fn, items)
    for _ in range(ROUNDS):
        if not cached.is_there():           # then nothing is written, as a disk may be full, or can only be read
            with _alone(cached.folder):
                cached.schedule(wanted)
            cached.run(here, engine, isolation, preload, print_output)
        if not cached.drop_damaged():
            break
    return cached.results()


def _check(fn: object, here: int, engine: object, isolation: str, preload: Sequence[str],
           wanted: dict[str, Any]) -> None:
    """Raises InvalidArgument, and TypeError for options that `TaskList.schedule` has not, before there is a folder."""
    if not callable(fn):
        raise InvalidArgument(f"cached_map takes a function, not {fn!r:.60}", argument="fn")
    refuse_async(fn)
    if engine is not None and not callable(engine):
        raise InvalidArgument(f"engine must be a function that takes the folder and makes one, not {engine!r:.60}",
                              argument="engine")
    if here != 0 or isinstance(here, bool):
        Options(here, isolation=isolation, preload=preload)
    elif engine is None:
        raise InvalidArgument("nprocesses=0 runs nothing here: give an engine that does", argument="nprocesses")
    known = {name for name, each in inspect.signature(TaskList.schedule).parameters.items()
             if each.kind is each.KEYWORD_ONLY and name != "name"} | {"metadata"}
    for name in wanted.keys() - known:
        raise TypeError(f"cached_map() got an unexpected keyword argument {name!r}; calls can have "
                        f"{', '.join(sorted(known))}")


class _Cached:
    """The calls of one map, as tasks of a list: their names say their position, and what they are made of."""

    def __init__(self, tasks: TaskList, fn: Callable[[Any], Any], items: list[Any]) -> None:
        self.tasks, self.fn, self.items = tasks, fn, items
        self.folder: TaskFolder = tasks._folder
        function = of_function(fn)[:CHARACTERS]
        self.labels = [f"{index:06d}-{function}-{of_value(item, f'item {index}')[:CHARACTERS]}"
                       for index, item in enumerate(items)]
        self._results: dict[str, Any] = {}
        self._failed: dict[str, BaseException] = {}

    def is_there(self) -> bool:
        """Whether each call has its result."""
        return set(self.labels) <= {label for state, label, _ in self._found() if state == layout.DONE}

    # -- scheduling ----------------------------------------------------------------------------

    def schedule(self, wanted: dict[str, Any]) -> None:
        """What is neither there nor on its way; what has failed, anew; instead of results of something else."""
        there, changed = set(), {"function": 0, "items": 0}
        for state, label, name in self._found():
            if self._is_mine(label) and state != layout.FAIL:
                there.add(label)
            elif state in (layout.TODO, layout.DONE, layout.FAIL) and self._is_replaced(label):
                self._remove(state, name)
                if state == layout.DONE:
                    self._count(label, changed)
        if any(changed.values()):
            what = " and ".join(f"the {each}" for each in changed if changed[each])
            _say(f"{self.folder.fs.root}: {what} changed, so {sum(changed.values())} results are computed again")
        for label, item in zip(self.labels, self.items, strict=True):
            if label not in there:
                self.tasks.schedule(defer(self.fn, item), name=label, **wanted)

    def _found(self) -> Iterator[tuple[str, str, Name]]:
        """State, label and name of each call of a map in the list; in the order in which tasks move, to miss none."""
        for state in (layout.TODO, layout.DOING, layout.DONE, layout.FAIL):
            names = (name for names in self.folder.claims().values() for name in names) if state == layout.DOING \
                else self.folder.scan(state)
            for name in names:
                if _OURS.fullmatch(name.label):
                    yield state, name.label, name

    def _is_mine(self, label: str) -> bool:
        match = _OURS.fullmatch(label)
        index = int(match["index"]) if match else len(self.labels)
        return index < len(self.labels) and self.labels[index] == label

    def _is_replaced(self, label: str) -> bool:
        """Whether there is another call in its place, or the same one again; what is beyond the last item is kept."""
        return int(label.partition("-")[0]) < len(self.labels)

    def _count(self, label: str, changed: dict[str, int]) -> None:
        index, function, _ = label.split("-")
        changed["items" if self.labels[int(index)].split("-")[1] == function else "function"] += 1

    def _remove(self, state: str, name: Name) -> None:
        fs, stem = self.folder.fs, str(name).removesuffix(".pkl")
        for file in (str(name), stem + layout.LOG, stem + layout.ERRORS_LOG):
            fs.unlink(f"{state}/{file}")

    # -- running -------------------------------------------------------------------------------

    def run(self, here: int, engine: Callable[[str], Engine] | None, isolation: str, preload: Sequence[str],
            print_output: bool | None) -> None:
        """Until all calls have ended."""
        if not self._is_open():
            return
        with contextlib.ExitStack() as stack:
            started = stack.enter_context(engine(self.folder.fs.root)) if engine is not None else None
            if here:
                for _ in self.tasks.run(here, isolation=isolation, preload=preload, print_output=print_output):
                    pass
                if self._is_open():
                    self._see_others_through(Options(here, isolation=isolation, preload=preload))
            elif started is not None:
                self.tasks.flush()
                ended = started.wait()
                if self._is_open():
                    raise ProcessError(f"{self.folder.fs.root}: its runners have ended before it was done: "
                                       f"{'; '.join(map(str, ended))}")

    def _see_others_through(self, options: Options) -> None:
        """Calls that other programs had begun before this one ran: they may come back, should their runner die."""
        runner = Runner(self.folder, options, say=_say, wanted=lambda name: self._is_mine(name.label))
        with forwarded(runner):
            reason = runner.run()
        if reason in ("drained", "released"):
            raise KeyboardInterrupt
        if reason == "terminated":
            raise SystemExit(143)
        if reason != "done":
            raise Stopped(f"{self.folder.fs.root} is not done, and this runner has left it ({reason}): the next call "
                          f"goes on", reason=reason)

    def _is_open(self) -> bool:
        return any(self._is_mine(label) for state, label, _ in self._found() if state in (layout.TODO, layout.DOING))

    # -- results -------------------------------------------------------------------------------

    def drop_damaged(self) -> int:
        """Load what has ended; remove the files in done/ whose results can't be, and return how many these were."""
        damaged = 0
        self._results, self._failed = {}, {}
        for state, label, name in self._found():
            if state not in (layout.DONE, layout.FAIL) or not self._is_mine(label):
                continue
            try:
                task = load_task(self.folder.fs, state, name)
            except FileNotFoundError:          # moved by a person
                continue
            if state == layout.FAIL:
                self._failed[label] = task.errorvalue
            elif task.errorvalue is None:
                self._results[label] = task.returnvalue
            else:
                _say(f"{self.folder.fs.path(f'{state}/{name}')}: {task.errorvalue}: computed again")
                self._remove(state, name)
                damaged += 1
        return damaged

    def results(self) -> list[Any]:
        failed = {index: self._failed[label] for index, label in enumerate(self.labels)
                  if label in self._failed and label not in self._results}
        if failed:
            raise MapFailed(f"{len(failed)} of {len(self.labels)} calls failed: {named(failed)}; the others are done, "
                            f"and kept in {self.folder.fs.root}: the next call tries these again", failed=failed) \
                from next(iter(failed.values()))
        missing = [index for index, label in enumerate(self.labels) if label not in self._results]
        if missing:
            raise FolderError(f"{self.folder.fs.root}: {len(missing)} of {len(self.labels)} calls are gone from the "
                              f"list, the first is {missing[0]}: were they removed? The next call runs them again",
                              directory=self.folder.fs.root)
        return [self._results[label] for label in self.labels]


@contextlib.contextmanager
def _alone(folder: TaskFolder) -> Iterator[None]:
    """While it schedules, so that two programs don't schedule the same; if that can't be had, a call may run twice."""
    for attempt in range(MOST_LOCKS):
        with journal.locked(folder.fs) as got:
            if got or attempt == MOST_LOCKS - 1:
                yield
                return


def _say(text: str) -> None:
    print(f"runforrest: {text}", file=sys.stderr, flush=True)
