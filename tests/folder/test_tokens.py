"""Tokens of the whole list: never more in use than there are, and none lost, whoever dies."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runforrest import Command, TaskList
from runforrest.cli.group import main
from runforrest.errors import InvalidArgument, Stopped
from runforrest.folder import layout, tokens
from runforrest.folder.fsio import FileOps
from tests.helpers import wait_for


@pytest.fixture
def fs(tmp_path: Path) -> FileOps:
    return FileOps(tmp_path)


def free(fs: FileOps) -> dict[str, int]:
    return {name: token.free for name, token in tokens.look(fs).items()}


def test_tokens_are_taken_and_given_back(fs: FileOps) -> None:
    tokens.define(fs, {"a": 2, "b": 1})
    first = tokens.take(fs, "R", {"a": 1, "b": 1})
    assert first is not None and free(fs) == {"a": 1, "b": 0}
    assert tokens.take(fs, "S", {"a": 1, "b": 1}) is None and free(fs) == {"a": 1, "b": 0}, "all or nothing"
    assert tokens.look(fs)["b"].holders == {"R": 1}
    tokens.give_back(fs, first)
    tokens.give_back(fs, first)
    assert free(fs) == {"a": 2, "b": 1}


def test_the_number_can_be_changed_while_some_are_in_use(fs: FileOps) -> None:
    tokens.define(fs, {"a": 2})
    taken = tokens.take(fs, "R", {"a": 1})
    tokens.define(fs, {"a": 5})
    assert tokens.look(fs)["a"].total == 5 and free(fs) == {"a": 4}
    tokens.define(fs, {"a": 1})
    assert tokens.look(fs)["a"].total == 1 and free(fs) == {"a": 0}
    tokens.give_back(fs, taken or [])
    assert free(fs) == {"a": 1}


def test_fewer_than_are_in_use(fs: FileOps) -> None:
    """Who has one goes on, and what is given back is not there any more."""
    tokens.define(fs, {"a": 4})
    taken = [tokens.take(fs, runner, {"a": 1}) for runner in "RSTU"]
    tokens.define(fs, {"a": 1})
    assert tokens.look(fs)["a"].total == 1 and tokens.take(fs, "V", {"a": 1}) is None
    for each in taken:
        tokens.give_back(fs, each or [])
    assert free(fs) == {"a": 1}


def test_the_number_is_right_whoever_takes_meanwhile(fs: FileOps) -> None:
    tokens.define(fs, {"a": 8})
    over = threading.Event()

    def work(runner: str) -> None:
        while not over.is_set():
            tokens.give_back(fs, tokens.take(fs, runner, {"a": 1}) or [])

    with ThreadPoolExecutor(3) as pool:
        for runner in "RST":
            pool.submit(work, runner)
        for _ in range(20):
            for count in (2, 8):
                tokens.define(fs, {"a": count})
        tokens.define(fs, {"a": 3})
        over.set()
    assert free(fs) == {"a": 3}


@pytest.mark.parametrize("wrong", [{"a/b": 1}, {"": 1}, {"..": 1}, {"a": -1}, {"a": 1.5}])
def test_what_is_no_token(fs: FileOps, wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument):
        tokens.define(fs, wrong)
    assert not tokens.look(fs)


def test_a_list_has_no_end_of_them(fs: FileOps) -> None:
    """Each is a file."""
    with pytest.raises(InvalidArgument, match="10000 of a token at most"):
        tokens.define(fs, {"b": 1, "a": 10**12})
    assert not tokens.look(fs)


def test_an_error_in_between_keeps_none(fs: FileOps) -> None:
    class Troubled(FileOps):
        def rename(self, source: str, destination: str) -> None:
            if "/b/" in source:
                raise OSError(errno.EIO, "trouble", source)
            super().rename(source, destination)

    tokens.define(fs, {"a": 2, "b": 1})
    with pytest.raises(OSError, match="trouble"):
        tokens.take(Troubled(fs.root), "R", {"a": 2, "b": 1})
    assert free(fs) == {"a": 2, "b": 1}


def test_many_take_at_once(fs: FileOps) -> None:
    tokens.define(fs, {"a": 3})
    most, using, lock = 0, 0, threading.Lock()

    def work(number: int) -> None:
        nonlocal most, using
        for _ in range(100):
            taken = tokens.take(fs, f"R{number}", {"a": 1})
            if taken is None:
                continue
            with lock:
                using += 1
                most = max(most, using)
            with lock:
                using -= 1
            tokens.give_back(fs, taken)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert 1 <= most <= 3 and free(fs) == {"a": 3}


def test_a_list_has_them_for_all_its_runners(tasklist_dir: Path, tmp_path: Path) -> None:
    tasks = TaskList(tasklist_dir, tokens={"license": 2})
    place = tmp_path / "running"
    place.mkdir()
    for number in range(12):
        tasks.schedule(Command(f"touch {place}/{number}; sleep 0.1; ls {place} | wc -l; rm {place}/{number}"),
                       tokens={"license": 1})
    runners = [subprocess.Popen([sys.executable, "-m", "runforrest", "run", str(tasklist_dir), "-n", "3", "--quiet"])
               for _ in range(2)]
    assert [runner.wait(60) for runner in runners] == [0, 0]
    seen = Counter(int(task.attempts[0].output) for task in tasks.done_tasks())
    assert sum(seen.values()) == 12 and max(seen) == 2
    assert free(FileOps(tasklist_dir)) == {"license": 2}


def test_what_a_dead_runner_held_comes_back(tasklist_dir: Path) -> None:
    tasks = TaskList(tasklist_dir, tokens={"license": 1})
    tasks.schedule(Command("test -e now || sleep 600"), tokens={"license": 1}, cwd=tasklist_dir)
    with subprocess.Popen([sys.executable, "-m", "runforrest", "run", str(tasklist_dir), "--quiet"]) as runner:
        wait_for(lambda: free(FileOps(tasklist_dir)) == {"license": 0}, 30)
        os.kill(runner.pid, signal.SIGKILL)
    (tasklist_dir / "now").touch()
    [task] = tasks.run(1)
    assert task.returnvalue == 0 and free(FileOps(tasklist_dir)) == {"license": 1}


def test_more_than_the_list_has_is_told(tasklist_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tasks = TaskList(tasklist_dir, tokens={"license": 1})
    tasks.schedule(Command("true"), tokens={"license": 2}, name="greedy")
    with pytest.raises(Stopped):
        list(tasks.run(1))
    assert "greedy needs 2 of the token license, of which this list has 1" in capfd.readouterr().err


def test_the_command_shows_and_sets_them(tasklist_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    TaskList(tasklist_dir)
    main(["tokens", str(tasklist_dir), "license=3", "net=1"], standalone_mode=False)
    assert capfd.readouterr().out == "license: 3 of 3 free\nnet: 1 of 1 free\n"
    tokens.take(FileOps(tasklist_dir), "R", {"net": 1})
    main(["tokens", str(tasklist_dir)], standalone_mode=False)
    assert "net: 0 of 1 free, 1 with R" in capfd.readouterr().out
    assert (tasklist_dir / layout.TOKENS / "net").is_dir()
