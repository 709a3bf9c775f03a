"""Orders to a guard that must neither get lost nor hit the wrong task."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from runforrest.process.config import Config
from runforrest.process.pool import Pool
from runforrest.process.reuse import task_of
from runforrest.process.waiting import RunnerGone, Waiter
from runforrest.process.wakeup import Wakeup


@pytest.fixture
def pipes() -> Iterator[tuple[int, int, int, int]]:
    """The orders' two ends, and those of the pipe that tells that the fork server lives."""
    ends = (*os.pipe(), *os.pipe())
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass


def test_what_comes_behind_a_task_is_about_it(pipes: tuple[int, int, int, int]) -> None:
    """Read at once, as the guard was slow: it must find the second order when it watches the task."""
    orders, writer, alive, _ = pipes
    waiter = Waiter(orders, alive, signals=False)
    os.write(writer, b"release 0\nrun 0 doing/R/x.pkl\nrelease 5.0\n")
    assert waiter.wait(1.0) == [b"release 0", b"run 0 doing/R/x.pkl"]
    assert waiter.wait(1.0) == [b"release 5.0"]
    assert waiter.wait(0.01) == []
    os.close(writer)
    with pytest.raises(RunnerGone):
        waiter.wait(1.0)


@pytest.mark.parametrize(("order", "deaths", "path"), [
    (b"run 0 doing/R/x.pkl\n", 0, b"doing/R/x.pkl"),
    (b"run 2 doing/R/with space.pkl", 2, b"doing/R/with space.pkl"),
    (b"run 1 doing/R/x.pkl", 2, b""),           # given before the last death was known: counted as lost
    (b"release 5.0", 0, b""), (b"cancel doing/R/x.pkl", 0, b""),
    (b"cutoff", 0, b"")])
def test_orders_that_are_run(order: bytes, deaths: int, path: bytes) -> None:
    assert task_of(order, deaths)[0] == path


def test_orders_to_a_pool_that_is_closed_go_nowhere(tmp_path: os.PathLike[str]) -> None:
    """The watchdog may come late; its order must not end up in a file that has got the pipe's number."""
    wakeup = Wakeup()
    pool = Pool(Config(str(tmp_path), "R", "host"), 1, wakeup)
    pool.release(0, 0.0)
    pool.close()
    pool.release(0, 0.0)
    pool.cut_off(0)
    wakeup.close()
