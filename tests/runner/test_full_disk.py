"""A disk that is really full: a small filesystem of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runforrest import TaskList, defer
from tests.helpers import wait_for
from tests.runner.test_deaths import a_runner, counts
from tests.tasks import bytes_when_told


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Two megabytes of tmpfs."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small filesystem needs root")
    place = tmp_path / "small"
    place.mkdir(0o700)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        pytest.skip(f"can't mount a tmpfs here: {made.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(ballast: Path) -> None:
    """Write until there is no room."""
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_results_wait_for_room(small_disk: Path, tmp_path: Path, isolation: str) -> None:
    """The disk fills up while a task runs: its result waits, the runner says why, and all goes on by itself."""
    told = tmp_path / "told"
    tasks = TaskList(small_disk / "tasks")
    tasks.schedule(defer(bytes_when_told, 300_000, str(told)))
    for number in range(20):
        tasks.schedule(defer(abs, number))
    ballast = small_disk / "ballast"
    with a_runner(small_disk / "tasks", 1, isolation) as runner:
        assert runner.stdout
        wait_for(lambda: counts(small_disk / "tasks")["doing"] == 1)
        fill(ballast)
        told.touch()
        line = runner.stdout.readline()
        while "no space left" not in line.lower():
            assert line, "the runner ended without a word about the disk"
            line = runner.stdout.readline()
        assert counts(small_disk / "tasks") == {"todo": 20, "doing": 1, "done": 0, "fail": 0}
        ballast.unlink()
        assert runner.wait(60) == 0
    assert counts(small_disk / "tasks") == {"todo": 0, "doing": 0, "done": 21, "fail": 0}
    values = [t.returnvalue for t in tasks.done_tasks()]
    assert values[0] == bytes(300_000) and values[1:] == list(range(20))


def test_nothing_is_lost_when_the_runner_leaves_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    tasks = TaskList(small_disk / "tasks")
    tasks.schedule(defer(bytes_when_told, 300_000, str(told)))
    with a_runner(small_disk / "tasks", 1, grace=0.5) as runner:
        wait_for(lambda: counts(small_disk / "tasks")["doing"] == 1)
        ballast = small_disk / "ballast"
        fill(ballast)
        told.touch()
        runner.send_signal(signal.SIGTERM)
        assert runner.wait(30) == 0
    ballast.unlink()
    (task,) = tasks.run(1)
    assert task.returnvalue == bytes(300_000)
