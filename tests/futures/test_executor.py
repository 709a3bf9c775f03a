"""What `Executor` has besides the contract of `concurrent.futures`, and what that leaves open."""

from __future__ import annotations

import errno
import gc
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from runforrest import TaskList, defer, deferred
from runforrest.errors import (
    Crashed,
    DeferredError,
    DependencyFailed,
    InvalidArgument,
    NoSuchTask,
    NotATaskList,
    RemoteTraceback,
    TimedOut,
    UnpicklableError,
)
from runforrest.futures import Executor, Future
from runforrest.futures import watch as watch_module
from runforrest.futures.watch import Watch
from runforrest.futures.withdrawing import withdraw
from tests.cli.programs import runforrest
from tests.futures import work
from tests.futures.support import SECONDS, no_runner_left, run, runners
from tests.helpers import wait_for
from tests.runner.support import counts
from tests.tasks import raise_


@pytest.fixture
def folder(tasklist_dir: Path) -> Path:
    return tasklist_dir.parent


@pytest.fixture
def executor(tasklist_dir: Path) -> Iterator[Executor]:
    with Executor(tasklist_dir, 2, durability="none") as made:
        yield made


def idle(directory: Path, **options: Any) -> Executor:
    """One whose calls nobody runs."""
    return Executor(directory, 0, durability="none", **options)


# -- calls ---------------------------------------------------------------------------------


def test_a_future_has_the_name_of_its_task(executor: Executor, tasklist_dir: Path) -> None:
    plain, named = executor.submit(pow, 2, 8), executor.options(name="power").submit(pow, 2, 9)
    assert (plain.result(SECONDS), named.result(SECONDS)) == (256, 512)
    assert plain.name == plain.id and plain.id.endswith("-pow") and named.name == "power"
    assert sorted(path.name.split(".t")[0] for path in tasklist_dir.glob("done/*.pkl")) == sorted((plain.id, named.id))
    assert [task.returnvalue for task in TaskList(tasklist_dir, True, False).done_tasks()] == [256, 512]


def test_functions_of_the_program_and_closures(executor: Executor) -> None:
    factor = 3
    assert executor.submit(lambda x: factor * x, 5).result(SECONDS) == 15
    assert list(executor.map(lambda x, y: x + y + factor, [1, 2], [3, 4])) == [7, 9]


@deferred
def halved(number: int) -> float:
    return number / 2


class Shop:
    @deferred
    def price(self, number: int) -> int:
        return 3 * number


def test_decorated_functions_are_called(executor: Executor) -> None:
    """That a call of them makes a task is no value that anybody wants."""
    assert executor.submit(halved, 3).result(SECONDS) == executor.submit(halved(3)).result(SECONDS) == 1.5
    assert list(executor.map(halved, [1, 2, 3], chunksize=2)) == [0.5, 1, 1.5]
    assert list(executor.map(Shop().price, [1, 2])) == [3, 6]


def test_the_traceback_of_the_child(executor: Executor) -> None:
    error = executor.submit(work.fails).exception(SECONDS)
    assert isinstance(error, ValueError) and error.args == ("no use",)
    assert isinstance(error.__cause__, RemoteTraceback) and 'raise ValueError("no use")' in str(error.__cause__)


def test_options_are_those_of_schedule(executor: Executor, folder: Path) -> None:
    with pytest.raises(TimedOut):
        executor.options(timeout=0.2, grace=0.1).submit(time.sleep, 100).result(SECONDS)
    assert executor.options(env={"COLOUR": "red"}).submit(os.getenv, "COLOUR").result(SECONDS) == "red"
    assert executor.options(cwd=folder).submit(os.getcwd).result(SECONDS) == str(folder)
    tried = executor.options(retries=2).submit(work.fails)
    assert isinstance(tried.exception(SECONDS), ValueError)
    [attempts] = [task.attempts for task in TaskList(executor.directory, True, False).fail_tasks()
                  if task.scheduled.id == tried.id]
    assert [attempt.outcome for attempt in attempts] == ["raised"] * 3


def test_calls_that_wait_for_others(executor: Executor, folder: Path) -> None:
    first = executor.submit(work.wait_until, str(folder / "go"), str(folder / "begun"))
    second = executor.options(after=first, group="some").submit(abs, -2)
    third = executor.options(after=[first.id, second], group="some").submit(abs, -3)
    last = executor.options(after="some").submit(abs, -4)
    wait_for((folder / "begun").exists, SECONDS)
    assert counts(Path(executor.directory)) == {"todo": 0, "doing": 1, "done": 0, "fail": 0}
    assert [future.id for future in executor.attach()] == [each.id for each in (first, second, third, last)]
    (folder / "go").touch()
    assert [future.result(SECONDS) for future in (second, third, last)] == [2, 3, 4]
    executor._dependencies.gate = None  # type: ignore[method-assign, assignment]    # need not be asked
    assert executor.options(after=[first, third]).submit(abs, -5).result(SECONDS) == 5
    del executor._dependencies.gate
    with pytest.raises(NoSuchTask, match="no task and no group 'others'"):
        executor.options(after="others").submit(abs, 1)
    with pytest.raises(InvalidArgument, match="after takes ids"):
        executor.options(after=3).submit(abs, 1)
    with pytest.raises(InvalidArgument, match="group"):
        executor.options(group="")


def test_calls_that_wait_for_one_that_fails(executor: Executor) -> None:
    failed = executor.submit(work.fails)
    with pytest.raises(DependencyFailed, match="which it waited for, has failed"):
        executor.options(after=failed).submit(abs, 1).result(SECONDS)
    assert executor.options(after=failed, even_if_failed=True).submit(abs, -1).result(SECONDS) == 1


def test_a_call_that_waits_for_others_is_cancelled(tasklist_dir: Path) -> None:
    with idle(tasklist_dir) as executor:
        first = executor.submit(abs, -1)
        second, third = (executor.options(after=first).submit(abs, -2) for _ in range(2))
        after_it = executor.options(after=second).submit(abs, -3)
        assert second.cancel() and second.cancelled() and not third.done()
        assert isinstance(after_it.exception(SECONDS), DependencyFailed)
        assert idle(tasklist_dir).future(second.id).cancelled()
        executor.shutdown(cancel_futures=True)
        assert third.cancelled()
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 0, "fail": 4}


def test_a_call_that_crashes_leaves_the_others_alone(executor: Executor) -> None:
    others = [executor.submit(pow, 2, n) for n in range(5)]
    error = executor.options(crash_limit=1).submit(work.kill_myself).exception(SECONDS)
    assert isinstance(error, Crashed) and "SIGKILL" in str(error)
    assert [future.result(SECONDS) for future in others] == [1, 2, 4, 8, 16]
    assert executor.submit(pow, 2, 10).result(SECONDS) == 1024


def test_processes_are_kept_or_replaced(tasklist_dir: Path) -> None:
    with Executor(tasklist_dir, 1, durability="none", max_tasks_per_child=3) as executor:
        pids = [executor.submit(os.getpid).result(SECONDS) for _ in range(4)]
    assert pids[0] == pids[1] == pids[2] != pids[3]
    with Executor(tasklist_dir, 1, isolation="process") as executor:
        pids = [executor.submit(os.getpid).result(SECONDS) for _ in range(3)]
    assert len(set(pids)) == 3


@pytest.mark.parametrize("isolation", ["reuse", "process"])
def test_initializer(tasklist_dir: Path, isolation: str) -> None:
    with Executor(tasklist_dir, 1, work.set_state, ("begun",), isolation=isolation, durability="none") as executor:
        assert [executor.submit(work.get_state).result(SECONDS) for _ in range(3)] == ["begun"] * 3
        assert executor.submit(work.square, x=3).id.endswith("-square")
    with Executor(tasklist_dir, 1) as executor:             # another one, in the same list
        assert executor.submit(work.get_state).result(SECONDS) == "as imported"


MAIN = """
import sys
from runforrest import Executor

CACHE, COUNT = {}, 0

class Model:
    pass

def fill():
    CACHE["x"] = 5

def begin():
    global MODEL, COUNT
    MODEL, COUNT = Model(), 10
    fill()

def use(number):
    global COUNT
    COUNT += 1
    return isinstance(MODEL, Model) and CACHE["x"] == 5 and (number, COUNT)

for isolation in ("reuse", "process"):
    with Executor(sys.argv[1], 1, begin, isolation=isolation, durability="none") as executor:
        print(list(executor.map(use, range(3))), list(executor.map(use, range(2), chunksize=2)))
"""


def test_an_initializer_of_the_main_program_sets_globals(tasklist_dir: Path) -> None:
    """Its functions come with globals of their own in each call."""
    ended = run(MAIN, tasklist_dir)
    assert ended.stdout.splitlines() == ["[(0, 11), (1, 12), (2, 13)] [(0, 14), (1, 15)]",
                                         "[(0, 11), (1, 11), (2, 11)] [(0, 11), (1, 12)]"], ended.stderr


def test_a_failing_initializer(tasklist_dir: Path) -> None:
    with Executor(tasklist_dir, 1, raise_, (OSError, "no data")) as executor:
        found = [executor.submit(pow, 2, 0)]
        with suppress(futures.BrokenExecutor):      # it may be known already
            found += (executor.submit(pow, 2, n) for n in range(5))
        for future in found:
            with pytest.raises(futures.BrokenExecutor, match="the initializer has failed: OSError: no data"):
                future.result(SECONDS)
        with pytest.raises(futures.BrokenExecutor):
            executor.submit(pow, 2, 2)
    assert counts(tasklist_dir)["todo"] == 0


def test_callbacks_and_state(executor: Executor, folder: Path) -> None:
    told: list[tuple[Future[Any], str]] = []
    future = executor.submit(work.wait_until, str(folder / "go"))
    future.add_done_callback(lambda f: told.append((f, f.result())))
    wait_for(future.running, SECONDS)
    assert not future.done() and not future.cancel() and told == []
    (folder / "go").touch()
    assert future.result(SECONDS) == "seen"
    wait_for(lambda: told == [(future, "seen")], SECONDS)


def exit_(future: Future[Any]) -> None:
    raise SystemExit(3)


def test_a_callback_that_exits_harms_nobody_else(executor: Executor, tasklist_dir: Path) -> None:
    first, second = executor.submit(time.sleep, 0.2), executor.submit(time.sleep, 0.3)
    first.add_done_callback(exit_)
    assert first.result(SECONDS) is None and second.result(SECONDS) is None
    assert executor.submit(abs, -3).result(SECONDS) == 3
    with idle(tasklist_dir) as other:
        future = other.submit(abs, 1)
        future.add_done_callback(exit_)
        assert future.cancel()


async def nothing() -> None:
    pass


def test_nothing_is_scheduled_that_can_not_be_pickled(tasklist_dir: Path) -> None:
    with idle(tasklist_dir) as executor:
        with pytest.raises(UnpicklableError, match="generator"):
            executor.submit(sum, (n for n in range(3)))
        with pytest.raises(DeferredError, match="submit takes a function"):
            executor.submit(3)  # type: ignore[arg-type]
        with pytest.raises(DeferredError, match="nothing is an async function"):
            executor.submit(nothing)
        future = Future[int]("some-id", "", lambda futures: False)
        for what in (future, executor):
            with pytest.raises(UnpicklableError, match="can't be given to a call"):
                pickle.dumps(what)
        assert repr(future).startswith("<some-id: Future at ")
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 0, "fail": 0}


@pytest.mark.parametrize("given, error", [
    ({"max_workers": -1}, "max_workers must be greater than 0"), ({"max_workers": 1.5}, "max_workers must be"),
    ({"max_tasks_per_child": 0}, "max_tasks_per_child must be >= 1"), ({"isolation": "none"}, "isolation must be"),
    ({"durability": "much"}, "durability must be"), ({"preload": ["no_such_module"]}, "no module 'no_such_module'")])
def test_bad_arguments(tasklist_dir: Path, given: dict[str, Any], error: str) -> None:
    with pytest.raises(InvalidArgument, match=error):
        Executor(tasklist_dir, **given)


def test_more_bad_arguments(tasklist_dir: Path) -> None:
    with pytest.raises(TypeError, match="initializer must be a callable"):
        Executor(tasklist_dir, 1, 3)  # type: ignore[arg-type]
    with idle(tasklist_dir) as executor:
        with pytest.raises(InvalidArgument, match="priority"):
            executor.options(priority=1000)
        with pytest.raises(InvalidArgument, match="timeout"):
            executor.options(timeout=-1)
        for options in ({"chunksize": 0}, {"buffersize": 0}):
            with pytest.raises(ValueError, match="must be"):
                executor.map(abs, [1], **options)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="buffersize must be"):
            executor.map(abs, [1], buffersize="2")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="timeout must be"):
            executor.map(abs, [1], timeout="2")  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument, match="name must be"):
            executor.future(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [None, 5, "", "a\0b"])
def test_what_is_no_path(wrong: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a variable that is empty, which would be the current folder."""
    monkeypatch.chdir(tmp_path)
    for made in (Executor, TaskList):
        with pytest.raises(InvalidArgument, match="directory must be a path"):
            made(wrong)
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_place_of_the_list(tasklist_dir: Path) -> None:
    tasklist_dir.write_text("a file")
    with pytest.raises(NotATaskList, match="is a file, not a folder"):
        Executor(tasklist_dir)


def test_what_can_never_be_run_is_refused(tasklist_dir: Path) -> None:
    TaskList(tasklist_dir, tokens={"license": 2})
    with Executor(tasklist_dir, 2) as executor:
        for needs, why in (({"cores": 3}, "3 cores, and this runner has 2"), ({"gpus": 99}, "99 GPUs"),
                           ({"tokens": {"license": 3}}, "3 of the token license")):
            with pytest.raises(InvalidArgument, match=why):
                executor.options(**needs)  # type: ignore[arg-type]
        assert executor.options(cores=2, tokens={"license": 2}).submit(abs, -3).result(SECONDS) == 3
    with idle(tasklist_dir) as executor:
        assert executor.options(cores=100).submit(abs, 1).cancel()      # others may have as many


def test_a_folder_that_is_something_else_is_left_alone(folder: Path) -> None:
    (folder / "thesis.tex").write_text("much work")
    with pytest.raises(NotATaskList):
        Executor(folder)
    assert os.listdir(folder) == ["thesis.tex"]


# -- map -----------------------------------------------------------------------------------


def test_the_buffer_of_map(executor: Executor, tasklist_dir: Path) -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    found = executor.map(work.square, numbers(), buffersize=3)
    assert taken == [0, 1, 2]
    assert [next(found), next(found)] == [0, 1] and len(taken) == 5
    assert list(found) == [n * n for n in range(2, 100)] and len(taken) == 100


def test_the_buffer_counts_chunks(executor: Executor, tasklist_dir: Path) -> None:
    numbers = iter(range(10))
    found = executor.map(work.square, numbers, chunksize=2, buffersize=2)
    assert next(numbers) == 4                       # two chunks of two were taken
    assert list(found) == [n * n for n in (0, 1, 2, 3, 5, 6, 7, 8, 9)]


def test_map_without_a_buffer_submits_at_once(tasklist_dir: Path) -> None:
    executor = idle(tasklist_dir)
    executor.map(abs, range(7))
    assert counts(tasklist_dir)["todo"] == 7
    executor.shutdown(cancel_futures=True)


def test_the_rest_of_a_map_is_cancelled(tasklist_dir: Path) -> None:
    with idle(tasklist_dir) as executor:
        with pytest.raises(futures.TimeoutError):
            list(executor.map(abs, range(7), timeout=0.01))
        assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 0, "fail": 7}


def test_it_is_cancelled_together(tasklist_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cancelling looks into the list."""
    looks = 0

    def count(*arguments: Any) -> set[str]:
        nonlocal looks
        looks += 1
        return withdraw(*arguments)

    monkeypatch.setattr(watch_module, "withdraw", count)
    with idle(tasklist_dir) as executor, pytest.raises(futures.TimeoutError):
        list(executor.map(abs, range(7), timeout=0.01))
    assert looks == 1


# -- cancelling ----------------------------------------------------------------------------


def test_cancel(tasklist_dir: Path) -> None:
    executor = idle(tasklist_dir)
    first, second = executor.submit(abs, -1), executor.submit(abs, -2)
    assert first.cancel() and first.cancelled() and first.cancel()
    with pytest.raises(futures.CancelledError):
        first.result()
    assert futures.wait([first, second], 0).done == {first}
    assert counts(tasklist_dir) == {"todo": 1, "doing": 0, "done": 0, "fail": 1}
    assert "cancelled before it was started" in runforrest("show", tasklist_dir, first.id).stdout
    assert idle(tasklist_dir).future(first.id).cancelled()          # for others, and later, too
    assert runforrest("run", tasklist_dir, "-n", "1").returncode == 0
    assert second.result(SECONDS) == 2 and not second.cancel()
    executor.shutdown()


def test_threads_that_cancel_the_same(tasklist_dir: Path, tried: Callable[[str, int], None]) -> None:
    together = threading.Barrier(4)

    def cancel(future: futures.Future[int]) -> bool:
        together.wait(SECONDS)
        return future.cancel()

    with idle(tasklist_dir) as executor, futures.ThreadPoolExecutor(4) as threads:
        for number in range(50):
            future = executor.submit(abs, number)
            assert [each.result(SECONDS) for each in [threads.submit(cancel, future) for _ in range(4)]] == [True] * 4
            assert future.cancelled()
    tried("futures that four threads cancelled at once", 50)


def test_what_begins_while_it_is_to_be_cancelled(executor: Executor, folder: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner was quicker: that it runs is known afterwards."""
    future = executor.submit(work.wait_until, str(folder / "go"), str(folder / "begun"))
    hear = Watch._hear
    heard = threading.Event()

    def withdraw_too_late(*arguments: Any) -> set[str]:
        heard.wait(SECONDS)
        return withdraw(*arguments)

    def hear_and_say(watch: Watch, what: str, name: str) -> bool:
        try:
            wait_for(lambda: future.id in watch._withdrawing, SECONDS)
            return hear(watch, what, name)
        finally:
            heard.set()

    monkeypatch.setattr(watch_module, "withdraw", withdraw_too_late)
    monkeypatch.setattr(Watch, "_hear", hear_and_say)
    assert not future.cancel()
    monkeypatch.undo()
    assert future.running()
    (folder / "go").touch()
    assert future.result(SECONDS) == "seen"


def test_what_runs_elsewhere_is_not_cancelled(tasklist_dir: Path, folder: Path) -> None:
    with idle(tasklist_dir) as mine, Executor(tasklist_dir, 1) as other:
        future = mine.submit(work.wait_until, str(folder / "go"), str(folder / "begun"))
        [seen] = other.attach()
        wait_for((folder / "begun").exists, SECONDS)
        assert not future.cancel() and not future.cancelled()
        (folder / "go").touch()
        assert future.result(SECONDS) == seen.result(SECONDS) == "seen"


def test_shutdown_cancels_what_was_not_started(tasklist_dir: Path, tried: Callable[[str, int], None]) -> None:
    executor = idle(tasklist_dir)
    found = [executor.submit(abs, n) for n in range(1000)]
    executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in found)
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 0, "fail": 1000}
    tried("futures that were cancelled at once", 1000)


def test_shutdown_waits_for_what_was_started(tasklist_dir: Path, folder: Path) -> None:
    with Executor(tasklist_dir, 1, durability="none") as executor:
        running = executor.submit(work.wait_until, str(folder / "go"), str(folder / "begun"))
        waiting = [executor.submit(abs, n) for n in range(20)]
        wait_for((folder / "begun").exists, SECONDS)
        ending = threading.Thread(target=executor.shutdown, kwargs={"cancel_futures": True})
        ending.start()
        wait_for(lambda: all(future.cancelled() for future in waiting), SECONDS)
        assert ending.is_alive() and not running.done()
        (folder / "go").touch()
        ending.join(SECONDS)
        assert running.done() and running.result() == "seen"
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 1, "fail": 20}


# -- others --------------------------------------------------------------------------------


@pytest.mark.parametrize("local", [True, False])
def test_others_run_the_list(tasklist_dir: Path, local: bool) -> None:
    """Heard from their journals where changes of a folder are seen late."""
    with idle(tasklist_dir) as executor:
        vars(executor._folder)["local"] = local
        found = [executor.submit(pow, 2, n) for n in range(20)]
        assert runforrest("run", tasklist_dir, "-n", "2").returncode == 0
        assert [future.result(SECONDS) for future in found] == [2 ** n for n in range(20)]
    assert runners(tasklist_dir) == []


def test_attach(tasklist_dir: Path) -> None:
    tasks = TaskList(tasklist_dir, durability="none")
    ids = [tasks.schedule(defer(divmod, 7, n), name=f"by {n}") for n in range(3)]
    with Executor(tasklist_dir, 1) as executor:
        found = list(executor.attach())
        assert [future.id for future in found] == ids
        assert executor.future(ids[1]) is found[1] and executor.future("by 2") is found[2]
        assert isinstance(found[0].exception(SECONDS), ZeroDivisionError)
        assert [future.result(SECONDS) for future in found[1:]] == [(7, 0), (3, 1)]
        again = list(executor.attach())             # they have ended: at once
        assert [future.done() for future in again] == [True] * 3 and again[2].result() == (3, 1)


def test_no_such_future(tasklist_dir: Path) -> None:
    with idle(tasklist_dir) as executor:
        executor.submit(abs, 1), executor.submit(abs, 2)
        with pytest.raises(LookupError, match="there is no task sba"):
            executor.future("sba")
        with pytest.raises(LookupError, match=r"2 tasks in .* are called abs: take the id"):
            executor.future("abs")
        executor.shutdown(cancel_futures=True)


def test_two_executors_in_one_program(tasklist_dir: Path) -> None:
    with Executor(tasklist_dir, 1) as one, Executor(tasklist_dir, 1) as two:
        found = [executor.submit(work.square, n) for n in range(20) for executor in (one, two)]
        assert [future.result(SECONDS) for future in found] == [n * n for n in range(20) for _ in "12"]


def test_an_executor_that_is_forgotten(tasklist_dir: Path) -> None:
    executor = Executor(tasklist_dir, 1)
    futures_ = [executor.submit(work.square, n) for n in range(5)]
    del executor
    gc.collect()
    assert [future.result(SECONDS) for future in futures_] == [0, 1, 4, 9, 16]
    no_runner_left(tasklist_dir)


def test_shutdown_in_a_callback(executor: Executor) -> None:
    future = executor.submit(time.sleep, 0.1)
    told: list[str] = []
    future.add_done_callback(lambda f: (executor.shutdown(), told.append("shut down")))  # type: ignore[arg-type]
    wait_for(lambda: told == ["shut down"], SECONDS)
    with pytest.raises(RuntimeError):
        executor.submit(abs, 1)


def test_shutdown_twice_and_options_after_it(executor: Executor) -> None:
    other = executor.options(priority=3)
    executor.shutdown()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        other.submit(abs, 1)


def test_futures_are_found_after_shutdown(tasklist_dir: Path) -> None:
    """A runner is started for what has not ended, and leaves."""
    tasks = TaskList(tasklist_dir, durability="none")
    with Executor(tasklist_dir, 1) as executor:
        executor.submit(abs, -1).result(SECONDS)
    for number in (2, 3):
        id = tasks.schedule(defer(abs, -number))
        assert executor.future(id).result(SECONDS) == number
        executor.shutdown()
    no_runner_left(tasklist_dir)


def test_a_server_that_is_away(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that can't be read at once is not lost."""
    fs, tried = executor._folder.fs, 0
    really = fs.open_read

    def open_read(name: str) -> int:
        nonlocal tried
        tried += name.startswith("done/")
        if name.startswith("done/") and tried < 4:
            raise OSError(errno.ESTALE, "Stale file handle", name)
        return really(name)

    monkeypatch.setattr(fs, "open_read", open_read)
    assert executor.submit(abs, -3).result(SECONDS) == 3 and tried >= 4


# -- the end of the program ------------------------------------------------------------------


AT_EXIT = """
import sys
from runforrest.futures import Executor
from tests.futures import work
executor = Executor(sys.argv[1], 2)
futures = [executor.submit(work.trace, sys.argv[2], n, 0.3) for n in range(6)]
futures[0].add_done_callback(lambda future: print("told", future.result(), flush=True))
if sys.argv[3] == "leave":
    executor.shutdown(wait=False)
"""


def test_a_program_waits_at_its_end(tasklist_dir: Path, folder: Path) -> None:
    (folder / "traces").mkdir()
    ended = run(AT_EXIT, tasklist_dir, folder / "traces", "")
    assert (ended.stdout, ended.stderr) == ("told 0\n", "")
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 6, "fail": 0}
    no_runner_left(tasklist_dir)


def test_or_not_and_the_runner_finishes_what_was_submitted(tasklist_dir: Path, folder: Path) -> None:
    (folder / "traces").mkdir()
    ended = run(AT_EXIT, tasklist_dir, folder / "traces", "leave")
    assert ended.stderr == "" and ended.returncode == 0
    wait_for(lambda: counts(tasklist_dir)["done"] == 6, SECONDS)
    no_runner_left(tasklist_dir)
    assert sorted(future.result() for future in idle(tasklist_dir).attach()) == list(range(6))


def test_a_submission_comes_too_late(tasklist_dir: Path) -> None:
    ended = run("""
import atexit, sys
@atexit.register
def run_last():
    try:
        executor.submit(id, None)
    except RuntimeError:
        print("runtime-error")
        raise
from runforrest.futures import Executor
executor = Executor(sys.argv[1], 2)
executor.submit(id, 42).result()
""", tasklist_dir)
    assert ended.stdout == "runtime-error\n" and "cannot schedule new futures" in ended.stderr


def test_who_waits_for_a_runner_that_does_not_come_is_told(tasklist_dir: Path, caplog: pytest.LogCaptureFixture,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "NOBODY_SECONDS", 0.1)
    with idle(tasklist_dir) as executor:
        future = executor.submit(abs, -1)
        wait_for(lambda: "no runner is at work" in caplog.text, SECONDS)
        assert f"1 tasks are waited for: `runforrest run {tasklist_dir}` runs them" in caplog.text
        runforrest("run", tasklist_dir)
        assert future.result(SECONDS) == 1
    assert caplog.text.count("no runner is at work") == 1
