"""asyncio: executors in its loops, and ``async for`` over a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runforrest import TaskList, defer
from runforrest.futures import Executor
from runforrest.runs import Run
from tests.futures import work
from tests.futures.support import SECONDS
from tests.helpers import wait_for
from tests.runner.support import counts


@pytest.fixture
def folder(tasklist_dir: Path) -> Path:
    return tasklist_dir.parent


@pytest.fixture
def executor(tasklist_dir: Path) -> Iterator[Executor]:
    with Executor(tasklist_dir, 2, durability="none") as made:
        yield made


def run(main: Any) -> Any:
    return asyncio.run(asyncio.wait_for(main, SECONDS))


def test_futures_are_awaited(executor: Executor) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, work.square, n) for n in range(5)]
        calls.append(loop.run_in_executor(executor.options(env={"A": "b"}), work.square, 5))
        return [*await asyncio.gather(*calls), await asyncio.wrap_future(executor.submit(work.square, 6))]

    assert run(main()) == [n * n for n in range(7)]


def test_an_exception_is_raised_where_it_is_awaited(executor: Executor) -> None:
    async def main() -> None:
        await asyncio.wrap_future(executor.submit(work.fails))

    with pytest.raises(ValueError, match="no use"):
        run(main())


def test_who_is_cancelled_cancels_the_call(tasklist_dir: Path) -> None:
    executor = Executor(tasklist_dir, 0, durability="none")

    async def main() -> None:
        future = executor.submit(work.square, 3)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(future), 0.05)
        assert future.cancelled()

    run(main())
    assert counts(tasklist_dir)["fail"] == 1
    executor.shutdown()


needs_aiter = pytest.mark.skipif(not hasattr(Run, "__aiter__"), reason="runs can't be iterated by asyncio yet")


@needs_aiter
def test_a_run(tasklist_dir: Path) -> None:
    tasks = TaskList(tasklist_dir, durability="none")
    for number in range(20):
        tasks.schedule(defer(work.square, number))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    async def main() -> list[int]:
        ticking = asyncio.create_task(tick())
        found = [task.returnvalue async for task in tasks.run(2)]
        ticking.cancel()
        return found

    assert sorted(run(main())) == [n * n for n in range(20)]
    assert ticks > 5                                # the loop was free meanwhile
    assert run(_all(tasks.run(2))) == []            # nothing is left


async def _all(tasks: Any) -> list[Any]:
    return [task async for task in tasks]


@needs_aiter
@pytest.mark.parametrize("how", ["break", "cancel", "cancel at once", "raise"])
def test_a_run_that_is_left(tasklist_dir: Path, folder: Path, how: str) -> None:
    tasks = TaskList(tasklist_dir, durability="none")
    if how != "cancel at once":
        tasks.schedule(defer(work.square, 3))
    tasks.schedule(defer(work.wait_until, str(folder / "never"), str(folder / "begun")))

    async def main() -> None:
        async for task in tasks.run(2):
            assert task.returnvalue == 9
            while not (folder / "begun").exists():
                await asyncio.sleep(0.01)
            if how == "break":
                break
            if how == "raise":
                raise ArithmeticError

    async def cancelling() -> None:
        mine = asyncio.create_task(main())
        while how == "cancel" and not (folder / "begun").exists():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        mine.cancel()
        with pytest.raises(asyncio.CancelledError):
            await mine

    if how == "raise":
        with pytest.raises(ArithmeticError):
            run(main())
    else:
        run(cancelling() if how.startswith("cancel") else main())
    left = {"todo": 1, "doing": 0, "done": int(how != "cancel at once"), "fail": 0}
    wait_for(lambda: counts(tasklist_dir) == left, SECONDS)
    (folder / "never").touch()
    (folder / "begun").unlink(missing_ok=True)
    assert [task.returnvalue for task in tasks.run(2)] == ["seen"]      # as any run


@needs_aiter
def test_a_task_that_is_run_by_asyncio_is_killed_in_time(tasklist_dir: Path) -> None:
    tasks = TaskList(tasklist_dir, durability="none")
    tasks.schedule(defer(time.sleep, 100), timeout=0.2, grace=0.1)
    [task] = run(_all(tasks.run(1)))
    assert isinstance(task.errorvalue, TimeoutError)
