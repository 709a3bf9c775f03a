"""CPython's own tests of `concurrent.futures` executors, run on ours.

They are imported from the ``test`` package of the Python that runs; where that was left out, these are skipped.  What
is not taken from there is in NOT_TAKEN, with the reason, and `test_nothing_is_forgotten` holds that list.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import tempfile
import unittest
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from types import ModuleType
from typing import Any

import pytest

from runforrest.errors import RunforrestError
from runforrest.futures import Executor


def _module(name: str) -> ModuleType:
    """A part of the tests: a module of its own from 3.12 on, before that all are in one."""
    for path in (f"test.test_concurrent_futures.{name}", "test.test_concurrent_futures"):
        try:
            return importlib.import_module(path)
        except ModuleNotFoundError:
            continue
    pytest.skip("this Python was installed without its tests", allow_module_level=True)


EXECUTOR, WAIT, COMPLETED, INIT = map(_module, ("executor", "test_wait", "test_as_completed", "test_init"))
SHUTDOWN, PROCESSES, DEADLOCK, UTIL = map(_module, ("test_shutdown", "test_process_pool", "test_deadlock", "util"))

pytestmark = pytest.mark.slow

OUTPUT = "what a call prints is kept with its task, and not printed by the program; see test_executor.py"
POOL = "looks into the processes or queues of ProcessPoolExecutor"
NOT_TAKEN = {
    "test_interpreter_shutdown": OUTPUT,
    "test_hang_gh83386": OUTPUT,
    "test_submit_after_interpreter_shutdown": "names its executor in a program; see test_executor.py",
    "test_cancel_futures": "by then a call must have begun, and few have ended; see test_executor.py",
    "test_cancel_futures_wait_false": OUTPUT,
    "test_max_workers_negative": "0 means that others run the list; the rest of it is in test_executor.py",
    "test_max_workers_too_large": "a limit of Windows",
    "test_killed_child": "a call whose process is killed fails, or is tried again; the others go on",
    "test_traceback": "the cause of an exception is a RemoteTraceback of ours; see test_executor.py",
    "test_ressources_gced_in_workers": "a call is given to its process in a file, and not by a manager's proxy",
    "test_python_finalization_error": POOL,
    "test_force_shutdown_workers": POOL,
    "test_max_tasks_per_child_defaults_to_spawn_context": "asks for a context of multiprocessing",
    "test_shutdown_deadlock": "a call whose process is killed fails by itself; see test_executor.py",
    "test_crash_big_data": "a call whose process is killed fails by itself",
    "test_shutdown_deadlock_pickle": "what can't be pickled is told by submit",
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": POOL,
    "test_max_tasks_per_child": f"{POOL}; see test_executor.py",
    **dict.fromkeys(("test_saturation", "test_idle_process_reuse_one", "test_idle_process_reuse_multiple"), POOL),
}


class Ours(Executor):
    """In a folder of its own, which is removed with it."""

    def __init__(self, *arguments: Any, mp_context: object = None, **options: Any) -> None:
        self.place = tempfile.mkdtemp(prefix="runforrest-contract-")
        super().__init__(os.path.join(self.place, "tasks"), *arguments, durability="none", **options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            shutil.rmtree(self.place, ignore_errors=True)

    @property
    def _broken(self) -> Any:
        """Where these tests look."""
        return self._watch.broken


class Mixin(UTIL.ExecutorMixin):  # type: ignore[misc, name-defined]
    executor_type = Ours

    def setUp(self) -> None:
        """With a runner at work: what these tests give a call to end, or to have been started, is not for its start."""
        super().setUp()
        self.executor.submit(int).result()

    def get_context(self) -> object:
        return multiprocessing.get_context("spawn")


def without(kind: type, base: type = object) -> type:
    """The same tests, but for those that are NOT_TAKEN, or of its base."""
    left_out = {name for name in dir(kind) if name in NOT_TAKEN or (name.startswith("test_") and hasattr(base, name))}
    return type(kind.__name__, (kind,), dict.fromkeys(left_out, None))


class TestExecutor(without(EXECUTOR.ExecutorTest), Mixin, UTIL.BaseTestCase):  # type: ignore[misc]
    pass


class TestOfPools(without(PROCESSES.ProcessPoolExecutorTest, EXECUTOR.ExecutorTest), Mixin, UTIL.BaseTestCase):  # type: ignore[misc]
    """What ProcessPoolExecutor has besides: chunks."""


class TestWait(WAIT.WaitTests, Mixin, UTIL.BaseTestCase):  # type: ignore[misc, name-defined]
    pass


class TestAsCompleted(COMPLETED.AsCompletedTests, Mixin, UTIL.BaseTestCase):  # type: ignore[misc, name-defined]
    pass


class TestShutdown(without(SHUTDOWN.ExecutorShutdownTest), Mixin, UTIL.BaseTestCase):  # type: ignore[misc]
    pass


class Initialized:
    executor_type = Ours


class TestInitializer(Initialized, INIT.InitializerMixin, UTIL.BaseTestCase):  # type: ignore[misc, name-defined]
    pass


class TestFailingInitializer(Initialized, INIT.FailingInitializerMixin,  # type: ignore[misc, name-defined]
                             UTIL.BaseTestCase):
    pass


class TestDeadlock(without(DEADLOCK.ExecutorDeadlockTest), Mixin, UTIL.BaseTestCase):  # type: ignore[misc]
    """Calls that crash, exit or raise wherever that is possible: each has an end."""

    def _check_crash(self, error: type[BaseException], func: Any, *args: Any, ignore_stderr: bool = False) -> None:
        """Where theirs are broken, ours tell how the attempt has ended; what can't be pickled is told at once."""
        with self.assertRaises((error, RunforrestError)) as caught:
            self.executor.submit(func, *args).result(timeout=60)
        self.assertNotIsInstance(caught.exception, BrokenExecutor)
        self.assertEqual(self.executor.submit(pow, 2, 3).result(timeout=60), 8)


def test_nothing_is_forgotten(tried: Callable[[str, int], None]) -> None:
    """Each test of an executor in general is one of ours, or NOT_TAKEN; and what is not taken is there."""
    ours = (TestExecutor, TestOfPools, TestWait, TestAsCompleted, TestShutdown, TestInitializer,
            TestFailingInitializer, TestDeadlock)
    taken = [name for kind in ours for name in unittest.TestLoader().getTestCaseNames(kind)]
    theirs = (EXECUTOR.ExecutorTest, PROCESSES.ProcessPoolExecutorTest, WAIT.WaitTests, COMPLETED.AsCompletedTests,
              SHUTDOWN.ExecutorShutdownTest, INIT.InitializerMixin, INIT.FailingInitializerMixin,
              DEADLOCK.ExecutorDeadlockTest)
    there = {name for kind in theirs for name in dir(kind) if name.startswith("test_")}
    assert there - set(taken) == there & NOT_TAKEN.keys()
    assert not NOT_TAKEN.keys() & set(taken)
    tried("tests of CPython's that our executor passes", len(taken))
