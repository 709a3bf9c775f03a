"""A disk that is really full: a small filesystem of its own."""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runforrest import TaskList, defer
from tests.cli.programs import runforrest
from tests.helpers import small_filesystem, wait_for
from tests.runner.test_deaths import a_runner, counts
from tests.tasks import bytes_when_told


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Two megabytes of tmpfs."""
    with small_filesystem(tmp_path, "size=2m") as place:
        yield place


def fill(ballast: Path) -> None:
    """Write until there is no room."""
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


@contextlib.contextmanager
def volume_with_quota(tmp_path: Path) -> Iterator[Path]:
    """A subvolume of btrfs, of which even renames fail when its quota is used up, also for root."""
    image, place = tmp_path / "image", tmp_path / "volume"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(256 << 20)
    try:
        for command in (["mkfs.btrfs", "-q", image], ["mount", "-o", "loop", image, place]):
            subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no btrfs here: {error}")
    try:
        for command in (["subvolume", "create", place / "user"], ["quota", "enable", place]):
            subprocess.run(["btrfs", *command], check=True, capture_output=True)
        yield place / "user"
    finally:
        subprocess.run(["umount", place], check=True)


def limit(volume: Path, size: str) -> None:
    """Set its quota."""
    subprocess.run(["btrfs", "qgroup", "limit", size, volume], check=True, capture_output=True)


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_a_quota_that_is_used_up_for_a_while(tmp_path: Path, isolation: str) -> None:
    told = tmp_path / "told"
    with volume_with_quota(tmp_path) as volume:
        tasks = TaskList(volume / "tasks")
        tasks.schedule(defer(bytes_when_told, 300_000, str(told)))
        for number in range(20):
            tasks.schedule(defer(abs, number))
        with a_runner(volume / "tasks", 1, isolation) as runner:
            assert runner.stdout
            wait_for(lambda: counts(volume / "tasks")["doing"] == 1)
            limit(volume, "8M")
            fill(volume / "ballast")
            told.touch()
            line = runner.stdout.readline()
            while "in trouble: Disk quota exceeded" not in line:
                assert line, "the runner ended without a word about the quota"
                line = runner.stdout.readline()
            assert counts(volume / "tasks") == {"todo": 20, "doing": 1, "done": 0, "fail": 0}
            limit(volume, "none")
            text, _ = runner.communicate(timeout=60)
            assert "left: done" in text and text.count("well again") == 1, text
        assert counts(volume / "tasks") == {"todo": 0, "doing": 0, "done": 21, "fail": 0}
        values = [t.returnvalue for t in tasks.done_tasks()]
        assert values[0] == bytes(300_000) and values[1:] == list(range(20))


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


def test_a_start_where_no_file_can_be_made_waits(tmp_path: Path) -> None:
    with small_filesystem(tmp_path, "size=20m,nr_inodes=40") as place:
        TaskList(place / "tasks").schedule(defer(abs, -1))
        with contextlib.suppress(OSError):
            for number in itertools.count():
                (place / f"ballast{number}").touch()
        with waiting_for_room(place / "tasks", "-n", "3") as runner:
            for number in range(15):  # more than a runner of three slots makes at once
                (place / f"ballast{number}").unlink()
            text = runner.communicate(timeout=60)[1]
        assert runner.returncode == 0 and "well again" in text and "1 done" in text and "trouble" not in text, text


@contextlib.contextmanager
def waiting_for_room(tasks: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A runner that was started on a full disk, and has said that it waits."""
    with subprocess.Popen([sys.executable, "-m", "runforrest", "run", str(tasks), *options], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as runner:
        try:
            assert runner.stderr
            while "the folder is in trouble: No space left on device" not in (line := runner.stderr.readline()):
                assert line, "the runner ended without a word about the disk"
            yield runner
        finally:
            runner.kill()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 4),
                                              (None, 4)])
def test_who_waits_for_room_leaves_when_told_or_when_its_time_is_over(small_disk: Path, signum: signal.Signals | None,
                                                                      code: int) -> None:
    TaskList(small_disk / "tasks").schedule(defer(abs, -1))
    before = files(small_disk / "tasks")
    fill(small_disk / "ballast")
    options = [] if signum else ["--time-left", "7"]
    with waiting_for_room(small_disk / "tasks", "-n", "1", *options) as runner:
        if signum:
            runner.send_signal(signum)
        assert runner.wait(60) == code
    assert files(small_disk / "tasks") == before


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_room_can_be_made_by_cleaning(small_disk: Path) -> None:
    """What was tried while the disk was full has left nothing that passes for a request; and a runner goes on."""
    tasks = TaskList(small_disk / "tasks")
    for number in range(2):
        tasks.schedule(defer(abs, number))
    assert len(list(tasks.run(1))) == 2
    tasks.schedule(defer(abs, -1), name="last")
    fill(small_disk / "ballast")
    for command in (["pause"], ["cancel", "last"]):
        answer = runforrest(command[0], small_disk / "tasks", *command[1:])
        assert answer.returncode == 3 and str(small_disk / "tasks/.runforrest") in answer.stderr, answer
    with waiting_for_room(small_disk / "tasks", "-n", "1") as runner:
        answer = runforrest("clean", small_disk / "tasks", "--done", "--yes")
        assert (answer.returncode, answer.stdout) == (0, "removed 2 in done/\n"), answer
        assert runner.wait(60) == 0                                 # and nobody has paused it
    assert [task.returnvalue for task in tasks.done_tasks()] == [1]
