"""Runners in the workers of any `concurrent.futures.Executor`; the executors are real."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import pytest

from runforrest import TaskList, defer
from runforrest.engines import Engine, executor
from runforrest.errors import InvalidArgument
from runforrest.folder import requests
from runforrest.folder.fsio import FileOps
from tests.engines.support import SECONDS, Ticking
from tests.helpers import has_ended, wait_for
from tests.runner.support import counts
from tests.tasks import raise_

HERE = socket.gethostname()


@contextmanager
def processes(folder: Path) -> Iterator[Executor]:
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        yield pool


@contextmanager
def of_loky(folder: Path) -> Iterator[Executor]:
    loky = pytest.importorskip("loky")
    pool = loky.ProcessPoolExecutor(2, timeout=60)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, kill_workers=True)


@contextmanager
def of_dask(folder: Path) -> Iterator[Executor]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
                                  silence_logs=50, local_directory=str(folder / "dask")) as cluster, \
            distributed.Client(cluster) as client:
        yield client.get_executor()


@contextmanager
def of_executorlib(folder: Path) -> Iterator[Executor]:
    executorlib = pytest.importorskip("executorlib")
    with executorlib.SingleNodeExecutor(max_workers=2, hostname_localhost=True) as pool:
        yield pool


@contextmanager
def of_parsl(folder: Path) -> Iterator[Executor]:
    """Its programs must be on the PATH."""
    parsl = pytest.importorskip("parsl")
    concurrent = pytest.importorskip("parsl.concurrent")
    there = parsl.HighThroughputExecutor(label="here", max_workers_per_node=2, address="127.0.0.1", encrypted=False,
                                         provider=parsl.providers.LocalProvider(init_blocks=1, max_blocks=1))
    config = parsl.Config(executors=[there], run_dir=str(folder / "parsl"), usage_tracking=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.path.dirname(sys.executable), os.pathsep)
        with concurrent.ParslPoolExecutor(config) as pool:
            yield pool


KINDS = {"processes": processes, "loky": of_loky, "dask": of_dask, "executorlib": of_executorlib, "parsl": of_parsl}
Pools = Callable[[str], Any]


@pytest.fixture
def folder(tasklist_dir: Path) -> Path:
    return tasklist_dir.parent


@pytest.fixture
def pools(folder: Path) -> Iterator[Pools]:
    with ExitStack() as stack:
        yield lambda kind: stack.enter_context(KINDS[kind](folder))


def runners() -> list[psutil.Process]:
    """The processes below this one that are a `runforrest run`."""
    return [p for p in psutil.Process().children(recursive=True) if is_runner(p)]


def is_runner(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[1:4] == ["-m", "runforrest", "run"]
    except psutil.Error:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_runs_a_list(folder: Path, pools: Pools, kind: str, tried: Callable[[str, int], None]) -> None:
    tasks = Ticking(folder / "tasks", 20)
    with executor.engine(pools(kind), tasks.directory, runners=2, slots=2) as engine:
        found = engine.wait(SECONDS)
    assert sorted((each.start.rank, each.start.node, each.code, each.failed) for each in found) == \
        [(0, HERE, 0, False), (1, HERE, 0, False)], [str(each) for each in found]
    tasks.finished()
    assert engine.running == [] and engine.poll() == []
    tried(f"tasks that ran in the workers of {kind}", 20)


@pytest.mark.slow
@pytest.mark.parametrize("kind, now, code", [("processes", False, 130), ("processes", True, 143), ("dask", True, 143)])
def test_stop(folder: Path, pools: Pools, kind: str, now: bool, code: int) -> None:
    tasks = Ticking(folder / "tasks", 2, SECONDS)
    with executor.engine(pools(kind), tasks.directory, logs=str(folder / "log_of")) as engine:
        tasks.await_begun(HERE)
        engine.stop(now)
        if not now:
            wait_for(lambda: "nothing new is started" in (folder / "log_of_0.log").read_text(), SECONDS)
            assert engine.poll() == []          # its task is still at work
            tasks.enough()
        [found] = engine.wait(SECONDS)
    assert (found.code, found.failed, found.told) == (code, False, True)
    assert counts(tasks.directory) == {"todo": 2 if now else 1, "doing": 0, "done": 0 if now else 1, "fail": 0}
    assert requests.pending(FileOps(tasks.directory)) == []


@pytest.mark.slow
def test_a_runner_without_a_worker_is_not_waited_for(folder: Path) -> None:
    tasks = Ticking(folder / "tasks", 4, SECONDS)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool, \
            executor.engine(pool, tasks.directory, runners=4) as engine:
        tasks.await_begun(HERE)
        found = engine.close()
        assert sorted(each.code for each in found)[0] == 143 and len(found) >= 2
        assert all(each.told and not each.failed for each in found)
    assert engine.running == [] and tasks.begun(HERE) < 4
    assert requests.pending(FileOps(tasks.directory)) == []


@pytest.mark.slow
def test_the_runner_ends_with_its_worker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(folder / "tmp"))
    tasks = Ticking(folder / "tasks", 2, SECONDS)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool, executor.engine(pool, tasks.directory) as engine:
        tasks.await_begun(HERE)
        [runner] = runners()
        worker = runner.parent()
        assert worker is not None
        worker.kill()
        [found] = engine.wait(SECONDS)
        assert (found.code, found.failed) == (255, True) and "BrokenProcessPool" in str(found)
        wait_for(lambda: has_ended(runner), SECONDS, "the runner has ended")
    assert [name for name in os.listdir(folder / "tmp") if name.startswith("runforrest-")] == []
    assert counts(tasks.directory) == {"todo": 2, "doing": 0, "done": 0, "fail": 0}


@pytest.mark.slow
def test_dask_starts_the_runner_of_a_killed_worker_again(folder: Path, pools: Pools) -> None:
    tasks = Ticking(folder / "tasks", 4, SECONDS)
    with executor.engine(pools("dask"), tasks.directory) as engine:
        tasks.await_begun(HERE)
        worker = runners()[0].parent()
        assert worker is not None
        worker.kill()
        tasks.await_begun(HERE, 2)              # again, in the other worker, or in the one that dask's nanny starts
        tasks.enough()
        assert [each.code for each in engine.wait(SECONDS)] == [0]
    tasks.finished()


@pytest.mark.slow
def test_a_killed_runner_is_told_and_may_be_started_again(folder: Path) -> None:
    tasks = Ticking(folder / "tasks", 1, SECONDS)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool, executor.engine(pool, tasks.directory) as engine:
        tasks.await_begun(HERE)
        runners()[0].kill()
        [found] = wait_for(engine.poll, SECONDS)
        assert (found.code, found.failed) == (-signal.SIGKILL, True)
        again = engine.start_again()
        assert again is not None and again.rank == 0
        tasks.await_begun(HERE, 2)
        tasks.enough()
        assert [each.code for each in engine.wait(SECONDS)] == [0]
    tasks.finished()


@pytest.mark.slow
def test_what_failed_is_told_with_its_last_words(folder: Path) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool, \
            executor.engine(pool, folder / "none", logs=str(folder / "log")) as engine:
        [found] = engine.wait(SECONDS)
    assert (found.code, found.failed) == (2, True)
    assert "Error: " in str(found) and "Error: " in (folder / "log_0.log").read_text()


@pytest.mark.slow
def test_options_and_variables_reach_the_runner(folder: Path) -> None:
    tasks = TaskList(folder / "tasks", durability="none")
    tasks.schedule(defer(os.getenv, "COLOUR"))
    tasks.schedule(defer(os.getenv, "DISBATCH_ENGINE_RANK"))
    tasks.schedule(defer(raise_, ValueError, "again"))
    given: dict[str, Any] = {"arguments": ["--retries", "2"], "environment": {"COLOUR": "red"}}
    with ProcessPoolExecutor(1, get_context("spawn")) as pool, \
            executor.engine(pool, tasks.directory, **given) as engine:
        assert [(each.code, each.failed) for each in engine.wait(SECONDS)] == [(1, False)]
    assert sorted(task.returnvalue for task in tasks.done_tasks()) == ["0", "red"]
    assert [len(task.attempts) for task in tasks.fail_tasks()] == [3]


def test_an_executor_that_takes_nothing(folder: Path) -> None:
    pool = ProcessPoolExecutor(1)
    pool.shutdown()
    with executor.engine(pool, folder) as engine:
        [found] = engine.wait()
    assert found.failed and "cannot schedule new futures after shutdown" in str(found)


class Broken(Executor):
    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(OSError("the cluster is gone"))
        return future


def test_a_call_that_fails(folder: Path) -> None:
    with executor.engine(Broken(), folder) as engine:
        [found] = engine.wait()
    assert (found.code, found.failed) == (255, True) and "OSError: the cluster is gone" in str(found)


@pytest.mark.parametrize("given", [{"runners": 0}, {"slots": 0}, {"runners": 1.5}, {"slots": True}])
def test_bad_numbers(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="must be a whole number"):
        executor.engine(Broken(), ".", **given)


def test_other_bad_arguments() -> None:
    with pytest.raises(InvalidArgument, match=r"executor must be one of concurrent.futures.* not 'pool'"):
        executor.engine("pool", ".")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="arguments must be a list"):
        executor.engine(Broken(), ".", arguments="--quiet")


def test_an_engine_is_an_engine() -> None:
    assert isinstance(executor.engine(Broken(), "."), Engine)
