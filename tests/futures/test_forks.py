"""A process that was forked from one that has an executor."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path

import pytest

from runforrest.futures import Executor
from tests.futures import work
from tests.futures.support import SECONDS, an_executor, no_runner_left
from tests.helpers import wait_for


def forked(call: Callable[[], object]) -> int:
    """The pid of a child that exits with 0 if this is true there."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if call() else 2
        finally:
            os._exit(code)
    return pid


def code_of(pid: int) -> int:
    wait_for(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None, SECONDS)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_it_has_no_part_in_the_executor(tasklist_dir: Path) -> None:
    """It hangs in nothing, also when a thread had the lock, and takes nothing from its parent."""
    executor = Executor(tasklist_dir, 0, durability="none")
    mine = executor.submit(abs, -1)

    def child() -> bool:
        executor.shutdown(cancel_futures=True)
        executor.abort()
        for use in (lambda: executor.submit(abs, 2), lambda: list(executor.attach()), lambda: executor.future("abs")):
            with pytest.raises(RuntimeError, match="belongs to the process"):
                use()
        return not mine.cancel()

    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with executor._watch.lock:
            held.set()
            over.wait(SECONDS)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(SECONDS)
    try:
        assert code_of(forked(child)) == 0
    finally:
        over.set()
        holder.join()
    assert not mine.done() and mine.cancel()
    executor.shutdown()


@pytest.mark.slow
def test_it_does_not_keep_the_runner(tasklist_dir: Path) -> None:
    go, say = os.pipe()
    with an_executor(tasklist_dir, 1, durability="none") as executor:
        assert executor.submit(work.square, 3).result(SECONDS) == 9
        pid = forked(lambda: os.read(go, 1))
        executor.shutdown()
        no_runner_left(tasklist_dir)
    os.write(say, b"+")
    assert code_of(pid) == 0
    for end in (go, say):
        os.close(end)


@pytest.mark.slow
def test_it_has_one_of_its_own(tasklist_dir: Path) -> None:
    def child() -> bool:
        with Executor(tasklist_dir, 1, durability="none") as own:
            return own.submit(work.square, 4).result(SECONDS) == 16

    with an_executor(tasklist_dir, 1, durability="none") as executor:
        found = [executor.submit(work.square, n) for n in range(10)]
        pid = forked(child)
        assert futures.wait(found, SECONDS).not_done == set()
        assert code_of(pid) == 0
