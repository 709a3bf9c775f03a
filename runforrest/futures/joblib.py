"""A backend of joblib: its calls, and so those of scikit-learn, are the tasks of a list.

    import runforrest.futures.joblib
    with joblib.parallel_config(backend="runforrest", directory="DIR", n_jobs=8):
        GridSearchCV(…).fit(X, y)

Importing this module makes the backend known.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from joblib import cpu_count, register_parallel_backend  # type: ignore
from joblib._parallel_backends import (  # type: ignore
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from runforrest.arguments import check_path
from runforrest.folder.attempts import new_tag
from runforrest.futures.executor import Executor

NAME = "runforrest"
MOST_BYTES = 1 << 20               # an array of more is written once, instead of with each call
ARRAYS = ".arrays"                 # the folder for these is called as the list, and this
Item = tuple[Any, tuple[Any, ...], dict[str, Any]]     # a call
_OF_TASKS = ("retries", "crash_limit", "timeout", "grace", "memory", "priority", "cores", "gpus", "tokens", "backoff")
_OF_JOBLIB = ("temp_folder", "mmap_mode", "prefer", "require", "verbose", "context", "idle_worker_timeout")


class RunforrestBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Batches of calls as tasks.

    directory    the task list; a temporary one if left out, which is removed at the end
    max_workers  slots of the runner that is started on this host; ``n_jobs`` if left out, 0: others run the list.
                 ``n_jobs`` is then how many calls joblib has under way
    options      of `Executor.options`, for each task, and of `Executor`

    joblib's own ``max_nbytes`` says which arrays among the arguments are written to a file once, and read by each call
    that has them; None: none.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    default_n_jobs = -1

    def __init__(self, directory: str | os.PathLike[str] | None = None, max_workers: int | None = None,
                 nesting_level: int | None = None, inner_max_num_threads: int | None = None, **options: Any) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._given = {"directory": directory, "max_workers": max_workers, **options}
        self._executor: Executor | None = None
        self._submitter: Executor | None = None
        self._arrays: _Arrays | None = None
        self._futures: weakref.WeakSet[Future[Any]] = weakref.WeakSet()
        self._begun_with: tuple[int, dict[str, Any]] = 0, {}

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(int(cpu_count()) + 1 + n_jobs, 1)

    def configure(self, n_jobs: int = 1, parallel: Any = None, max_nbytes: int | None = MOST_BYTES,
                  **options: Any) -> int:
        """Called before each use; the executor stays from one to the next, if its options do.

        options  joblib's own, and those of this backend that were given to `joblib.Parallel`
        """
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        options = {**self._given, **{name: options[name] for name in options if name not in _OF_JOBLIB}}
        if self._executor is None or self._begun_with != (n_jobs, options):
            self._begin(n_jobs, **options)
            self._begun_with = n_jobs, options
        assert self._arrays is not None
        self._arrays.most = max_nbytes
        return n_jobs

    def _begin(self, n_jobs: int, directory: str | os.PathLike[str] | None, max_workers: int | None,
               **options: Any) -> None:
        self._end()
        of_tasks = {name: options.pop(name) for name in _OF_TASKS if name in options}
        place = "" if directory is not None else tempfile.mkdtemp(prefix="runforrest-joblib-")
        directory = f"{place}/tasks" if place else os.path.abspath(check_path(directory, "directory"))
        try:
            executor = Executor(directory, n_jobs if max_workers is None else max_workers, **options)
            submitter = executor.options(env=self._prepare_worker_env(n_jobs), **of_tasks)
        except BaseException:
            if place:
                shutil.rmtree(place, ignore_errors=True)
            raise
        self._executor, self._submitter = executor, submitter
        self._arrays = _Arrays(directory + ARRAYS)
        self._finalizer = weakref.finalize(self, _finish, executor, self._arrays.folder, place)

    def _end(self) -> None:
        if self._executor is not None:
            self._finalizer()
            self._executor = self._submitter = self._arrays = None

    def submit(self, func: Any, callback: Callable[[Any], object] | None = None) -> Future[Any]:
        """``func``: a batch of calls."""
        assert self._submitter is not None and self._arrays is not None
        items = getattr(func, "items", None)
        if isinstance(items, list):
            func.items = [self._arrays.replaced(item) for item in items]
        future = self._submitter.submit(func)
        self._futures.add(future)
        if callback is not None:
            future.add_done_callback(_Once(callback))
        return future

    apply_async = submit                        # as joblib called it before 1.5

    def retrieve_result_callback(self, future: Future[Any]) -> Any:
        return future.result()

    def terminate(self) -> None:
        """Called after each use.  Nothing must hold this backend any more that nobody uses: its runner leaves then."""
        self.reset_batch_stats()
        self.parallel = None
        if self._arrays is not None and all(future.done() for future in self._futures):
            self._arrays.tidy()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A call has failed, and nobody wants the others."""
        if self._executor is not None:
            self._executor.abort()
        if not ensure_ready:
            self._end()


class _Once:
    """Forgets its function when it has called it: a future keeps its callbacks, and theirs keep the backend."""

    def __init__(self, function: Callable[[Any], object]) -> None:
        self._function: Callable[[Any], object] | None = function

    def __call__(self, future: Future[Any]) -> None:
        function, self._function = self._function, None
        if function is not None:
            function(future)


class _Arrays:
    """Large arrays, each in a file of its own."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.most: int | None = MOST_BYTES
        self._known: dict[int, tuple[weakref.ref[Any], _Stored]] = {}
        self._old: list[_Stored] = []

    def replaced(self, item: Item) -> Item:
        """The same call, with its large arrays where they were written."""
        fn, args, kwargs = item
        return fn, tuple(map(self._stored, args)), {name: self._stored(value) for name, value in kwargs.items()}

    def _stored(self, value: Any) -> Any:
        if not _is_array(value) or self.most is None or value.nbytes <= self.most or value.dtype.hasobject:
            return value
        found = self._known.get(id(value))
        if found is None or found[0]() is not value:
            if found is not None:                   # of another array, which had this place in memory
                self._old.append(found[1])
            found = self._known[id(value)] = (weakref.ref(value), self._written(value))
        return found[1]

    def tidy(self) -> None:
        """No call is under way: the files of arrays that are gone are not needed any more."""
        for key in [key for key, (array, _) in self._known.items() if array() is None]:
            self._old.append(self._known.pop(key)[1])
        while self._old:
            with suppress(OSError):
                os.unlink(self._old.pop().path)

    def _written(self, array: Any) -> _Stored:
        import numpy
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        path = f"{self.folder}/{new_tag(12)}.npy"
        with open(path, "xb") as file:
            numpy.save(file, array, allow_pickle=False)
        return _Stored(path)


class _Stored:
    """Is unpickled as the array, which can only be read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        import numpy
        return partial(numpy.load, mmap_mode="r", allow_pickle=False), (self.path,)


def _is_array(value: Any) -> bool:
    import sys
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray


def _finish(executor: Executor, arrays: str, place: str) -> None:
    """The backend is not used any more."""
    executor.abort()
    executor.shutdown(wait=bool(place))
    shutil.rmtree(arrays, ignore_errors=True)
    if place:
        shutil.rmtree(place, ignore_errors=True)


register_parallel_backend(NAME, RunforrestBackend)
