"""`Executor`: the interface of `concurrent.futures` to a task list."""

from __future__ import annotations

import concurrent.futures
import copy
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, overload

from runforrest.arguments import check_path, check_schedule, plain
from runforrest.errors import DeferredError, InvalidArgument, NoSuchTask, UnpicklableError
from runforrest.folder import layout, settings, signing
from runforrest.folder.attempts import new_tag
from runforrest.folder.fsio import FileOps
from runforrest.folder.groups import check_group
from runforrest.folder.tokens import look as look_at_tokens
from runforrest.folder.transitions import TaskFolder
from runforrest.futures import calls, maps
from runforrest.futures.future import Future
from runforrest.futures.own import HowToRun
from runforrest.futures.places import names_in
from runforrest.futures.watch import Watch
from runforrest.graph import Task, label
from runforrest.graph.decorator import refuse_async, undeferred
from runforrest.model.limits import Limits
from runforrest.model.names import Name, clean_label
from runforrest.model.resources import Budget, Needs, check_tokens
from runforrest.runner import Options
from runforrest.runner.capacity import capacity_of, usable_cpus
from runforrest.scheduling import Dependencies, Scheduler, Wanted

T = TypeVar("T")
P = ParamSpec("P")


class Executor(concurrent.futures.Executor):
    """Runs calls as the tasks of a list, which anybody may help with, and which outlive this program.

    directory    the folder of the list; made if it is missing.  What is in it is kept
    max_workers  slots of the runner that is started on this host when there is something to run; as many as there are
                 usable CPUs if left out.  0: none, others run the list
    initializer, initargs
                 called as ``initializer(*initargs)`` before the first call in each process
    isolation    'reuse': a process runs many calls; 'process': a fresh one for each
    max_tasks_per_child
                 with 'reuse', calls after which the process is replaced
    preload      modules to import once instead of in each process
    durability, trust, group, key_file
                 as for a `TaskList`

    Raises InvalidArgument, NotATaskList, UntrustedFolder, SigningKeyError.
    """

    def __init__(self, directory: str | os.PathLike[str], max_workers: int | None = None,
                 initializer: Callable[..., object] | None = None, initargs: tuple[Any, ...] = (), *,
                 isolation: str = "reuse", max_tasks_per_child: int | None = None, preload: Sequence[str] = (),
                 durability: str = "normal", trust: bool = False, group: bool = False,
                 key_file: str | os.PathLike[str] | None = None) -> None:
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        how = HowToRun(os.path.abspath(check_path(directory, "directory")), _slots(max_workers), isolation,
                       _max_tasks(max_tasks_per_child), tuple(preload), trust, group,
                       None if key_file is None else os.path.abspath(os.fsdecode(key_file)))
        Options(max(1, how.slots), isolation=isolation, max_tasks=how.max_tasks, preload=preload)   # checks them
        fs = FileOps(how.directory)
        self._folder = TaskFolder(fs, _open(fs, durability, trust, group, signing.key_from(key_file)))
        self._watch = Watch(self._folder, how)
        self._scheduler = Scheduler(self._folder)
        self._initializer = (f"{os.getpid()}.{new_tag(8)}", initializer, initargs) if initializer else None
        self._wanted = Wanted()
        self._after: tuple[Any, bool] = (), False
        self._dependencies = Dependencies(self._folder)
        self._handle = _Handle()
        weakref.finalize(self._handle, self._watch.close).atexit = False

    @property
    def directory(self) -> str:
        """The folder, as an absolute path."""
        return self._folder.fs.root

    # -- calls -------------------------------------------------------------------------------

    @overload
    def submit(self, fn: Callable[P, Task], /, *args: P.args, **kwargs: P.kwargs) -> Future[Any]: ...

    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule the call, and return its future.

        Raises UnpicklableError, DeferredError, RuntimeError after `shutdown`, BrokenExecutor when the initializer has
        failed, NoSuchTask if it is to wait for what is not in the list, OSError if the file can't be written.
        """
        task, wanted = self._task(fn, args, kwargs)
        watch = self._watch
        watch.check_open()
        with watch.lock:
            watch.check_open()
            after = _not_ended(self._after[0])
            wanted.gate = self._dependencies.gate(after, self._after[1]) if after != () else None
            id, call, envelope = self._scheduler.prepare(task, wanted)
            future: Future[Any] = Future(id, self._wanted.name, watch.cancel)
            watch.add(future)
            try:
                self._dependencies.publish(wanted, id, call, envelope)
            except BaseException:
                watch.drop(future)
                raise
        watch.go()
        return future

    def _task(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Task, Wanted]:
        if not callable(fn):
            raise DeferredError(f"submit takes a function and its arguments, not {type(fn).__name__} {fn!r:.60}")
        fn = undeferred(fn)
        refuse_async(fn)
        task, wanted = Task(fn, args, kwargs), copy.copy(self._wanted)
        if self._initializer:
            wanted.name = wanted.name or label(task)
            task = Task(calls.initialized, (*self._initializer, fn, args, kwargs), {})
        return task, wanted

    def map(self, fn: Callable[..., T], /, *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1,
            buffersize: int | None = None) -> Iterator[T]:
        """The values of ``fn`` for these arguments, in their order, as `map` has them.

        timeout     seconds from now, after which asking for the next value raises TimeoutError
        chunksize   calls that make up a task
        buffersize  tasks that are submitted ahead of the value that was asked for last; None: all, at once
        """
        maps.check(timeout, chunksize, buffersize)
        return maps.results(self.submit, self._watch.cancel, undeferred(fn), iterables, timeout, chunksize, buffersize)

    def options(self, *, name: str | None = None, priority: int = 0, timeout: float | None = None,
                grace: float | None = None, memory: int | None = None, retries: int | Mapping[str, int] | None = None,
                crash_limit: int | None = None, backoff: float | None = None, estimate: float | None = None,
                cores: float = 1, gpus: int = 0, tokens: Mapping[str, int] | None = None,
                env: Mapping[str, str | None] | None = None, cwd: str | os.PathLike[str] | None = None,
                metadata: Any = None, after: Any = (), even_if_failed: bool = False,
                group: str | None = None) -> Executor:
        """This executor, for calls that are run so: see `TaskList.schedule`.  Raises InvalidArgument.

            executor.options(timeout=60, memory=2 << 30).submit(f, x)

        after  may be futures, too
        """
        priority = plain(priority)
        check_schedule(priority, name, env, cwd)
        limits = Limits(plain(timeout), plain(grace), plain(memory), plain(retries), plain(crash_limit),
                        plain(backoff), plain(estimate))
        needs = Needs(plain(cores), plain(gpus), 0, check_tokens(tokens or {}))
        self._check_fits(needs)
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        other._wanted = Wanted(name or "", priority, limits, needs, env, cwd, metadata=metadata,
                               group="" if group is None else check_group(group))
        other._after = tuple(after) if _is_several(after) else after, bool(even_if_failed)
        return other

    def _check_fits(self, needs: Needs) -> None:
        """A call that this executor's runner can never run would wait for ever."""
        slots = self._watch.own.how.slots
        enough = frozenset(token for token, found in look_at_tokens(self._folder.fs).items()
                           if found.total >= needs.tokens.get(token, 0))
        why = Budget(capacity_of(Options(slots), slots), enough).never(needs) if slots else ""
        if why:
            raise InvalidArgument(f"a call that needs {why}, can't be run by this executor: make one with "
                                  f"max_workers=0, and start a runner that has it", argument="options")

    # -- what was submitted before -------------------------------------------------------------

    def attach(self) -> Iterator[Future[Any]]:
        """A future for each task of the list, in the order of scheduling, whoever has scheduled it.

        Those that have not ended are run by this executor's runner, too.
        """
        self._watch.check_mine()
        places = self._places()
        for id in sorted(places):
            yield self._future(id, *places[id])

    def future(self, name: str) -> Future[Any]:
        """The future of the task with this id, or name.  Raises NoSuchTask, also if several have the name.

        Looks through the list: for many, `attach` does it once.
        """
        if not isinstance(name, str):
            raise InvalidArgument(f"name must be the name of a task, or its id, not {name!r:.60}", argument="name")
        self._watch.check_mine()
        known = self._watch.known(name)
        if known is not None:
            return known
        places = self._places()
        found = [name] if name in places else [id for id in places if Name(id).label in (name, clean_label(name))]
        if len(found) != 1:
            root = self.directory
            raise NoSuchTask(f"{len(found)} tasks in {root} are called {name}: take the id" if found else
                             f"there is no task {name} in {root}", directory=root, matches=sorted(found))
        return self._future(found[0], *places[found[0]])

    def _future(self, id: str, state: str, name: Name) -> Future[Any]:
        watch = self._watch
        with watch.lock:
            known = watch.known(id)
            if known is not None:
                return known
            future: Future[Any] = Future(id, name.label, watch.cancel)
            watch.add(future)
            if state not in (layout.DONE, layout.FAIL):
                watch.go()
                return future
        try:
            if not watch.settle(state, name):       # moved on meanwhile
                watch.go()
        except OSError:
            watch.drop(future)
            raise
        return future

    def _places(self) -> dict[str, tuple[str, Name]]:
        """By id: where each task is, what moves meanwhile included."""
        found: dict[str, tuple[str, Name]] = {}
        for state in (layout.WAITING, layout.TODO, layout.DOING, layout.TODO, layout.DONE, layout.FAIL):
            found.update((name.id, (state, name)) for name in names_in(self._folder, state))
        return found

    # -- the end ---------------------------------------------------------------------------------

    def abort(self) -> None:
        """Cancel all that has not ended; what runs is ended, too, and fails as `Cancelled`.  Returns at once."""
        self._watch.abort()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        wait            until all futures have ended.  If not, they end while this program runs, and the runner
                        finishes what was submitted in any case
        cancel_futures  cancel what was not started
        """
        watch = self._watch
        watch.close()
        if cancel_futures:
            watch.cancel()
        watch.force()
        if wait:
            watch.wait()
        else:
            watch.leave()

    def __repr__(self) -> str:
        return f"Executor({self.directory!r})"

    def __reduce__(self) -> Any:
        raise UnpicklableError(f"an executor can't be given to a call: make one there, Executor({self.directory!r}, "
                               f"max_workers=0)")


class _Handle:
    """When nobody has it any more, nobody can submit."""


def _is_several(after: Any) -> bool:
    return isinstance(after, Iterable) and not isinstance(after, (str, Task))


def _not_ended(after: Any) -> Any:
    """Ids in the place of futures.  Those that have a value need not be waited for, nor looked for."""
    if not _is_several(after):
        after = (after,)
    return tuple(each.id if isinstance(each, Future) else each for each in after
                 if not (isinstance(each, Future) and each.done() and not each.cancelled() and not each.exception()))


def _slots(max_workers: Any) -> int:
    number = len(usable_cpus()) if max_workers is None else plain(max_workers)
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise InvalidArgument(f"max_workers must be greater than 0, or 0 if others run the list, not {max_workers!r}",
                              argument="max_workers")
    return number


def _max_tasks(number: Any) -> int:
    if number is None:
        return 0
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError("max_tasks_per_child must be an integer")
    if number < 1:
        raise InvalidArgument("max_tasks_per_child must be >= 1", argument="max_tasks_per_child")
    return number


def _open(fs: FileOps, durability: str, trust: bool, group: bool, key: signing.Key | None) -> settings.Settings:
    """The list, which is made if it is not there."""
    settings.check_durability(durability)
    if os.path.isdir(fs.root) and os.listdir(fs.root):
        settings.open_list(fs, trust, group, key)
    elif os.path.isdir(fs.root) and not trust:
        settings.check_empty(fs, trust, group)
    return settings.create(fs, durability, trust, group, key)
