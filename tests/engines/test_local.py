"""Runners on this host: how they end is told, and they end when they are asked to."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest

from runforrest import Command, TaskList
from runforrest.engines import Engine, Start, local
from tests.cli.programs import ROOT
from tests.engines.support import SECONDS, Driver, Ticking
from tests.helpers import has_ended, wait_for
from tests.runner.support import counts

HERE = socket.gethostname()


@pytest.fixture
def folder(tasklist_dir: Path) -> Path:
    """Of this user alone, and with a name that has to be quoted."""
    return tasklist_dir.parent


def a_start(directory: Path, rank: int = 0, *arguments: str, slots: int = 1, python: str = sys.executable) -> Start:
    return Start(str(directory), slots, rank, str(directory.parent / f"log_{rank}.log"), HERE,
                 ("--quiet", *arguments), {"PYTHONPATH": str(ROOT)}, python)


def an_engine(*starts: Start) -> Engine:
    made = local.engine(starts)
    made.start()
    return made


def test_each_has_its_rank_and_leaves_when_nothing_is_left(folder: Path) -> None:
    directory = folder / "it's \"a\" $list"
    tasks = TaskList(directory)
    for _ in range(4):
        tasks.schedule(Command(f'echo "$DISBATCH_ENGINE_RANK $MORE" >>"{folder}/ranks"'))
    tasks.flush()
    starts = [Start(str(directory), 2, rank, str(folder / f"{rank}.log"), HERE, ["--quiet"],
                    {"PYTHONPATH": str(ROOT), "MORE": "'x y'"}) for rank in (3, 4)]
    with local.engine(starts) as engine:
        found = engine.wait(SECONDS)
    assert sorted((each.start.rank, each.code, each.failed) for each in found) == [(3, 0, False), (4, 0, False)]
    lines = (folder / "ranks").read_text().splitlines()
    assert len(lines) == 4 and set(lines) <= {"3 'x y'", "4 'x y'"}
    assert engine.running == [] and engine.poll() == []


def test_what_failed_is_told_with_its_last_words(folder: Path) -> None:
    (folder / "log_0.log").write_text("of another time\n")
    missing, nothing = a_start(folder / "none"), a_start(folder / "none", 1, python=str(folder / "python"))
    with local.engine([missing, nothing]) as engine:
        found = sorted(engine.wait(SECONDS), key=lambda each: each.start.rank)
    assert [(each.code, each.failed) for each in found] == [(2, True), (127, True)]
    assert str(found[0]).startswith(f"runner 0 on {HERE} ended with exit code 2; the last that was said:\nError: ")
    assert "of another time" not in str(found[0])
    assert "No such file or directory" in str(found[1])


def test_a_killed_runner(folder: Path) -> None:
    tasks = Ticking(folder / "tasks", 2, SECONDS)
    with local.engine([a_start(tasks.directory), a_start(tasks.directory, 1)]) as engine:
        tasks.await_begun(HERE, 2)
        victim = next(p for p in psutil.Process().children() if "DISBATCH_ENGINE_RANK" in p.environ())
        victim.kill()
        [found] = wait_for(engine.poll, SECONDS)
        assert (found.code, found.failed) == (-9, True) and "was killed by signal 9" in str(found)
        tasks.enough()
        assert [each.code for each in engine.wait(SECONDS)] == [0]
    tasks.finished()
    assert tasks.counts("lost") <= 1


@pytest.mark.parametrize("now, code", [(False, 130), (True, 143)])
def test_stop(folder: Path, now: bool, code: int) -> None:
    tasks = Ticking(folder / "tasks", 2, SECONDS)
    with local.engine([a_start(tasks.directory)]) as engine:
        tasks.await_begun(HERE)
        engine.stop(now)
        if not now:
            wait_for(lambda: "will be finished" in (folder / "log_0.log").read_text(), SECONDS)
            assert engine.poll() == []          # its task is still at work
            tasks.enough()
        [found] = engine.wait(SECONDS)
    assert (found.code, found.failed, found.told) == (code, False, True)
    assert counts(tasks.directory) == {"todo": 2 if now else 1, "doing": 0, "done": 0 if now else 1, "fail": 0}


def test_first_softly_then_now(folder: Path) -> None:
    tasks = Ticking(folder / "tasks", 1, SECONDS)
    engine = an_engine(a_start(tasks.directory))
    tasks.await_begun(HERE)
    engine.stop()
    assert engine.wait(0.3) == []
    [found] = engine.close()
    assert found.code == 143 and engine.running == []


def test_who_does_not_leave_is_let_go(folder: Path) -> None:
    tasks = Ticking(folder / "tasks", 1, SECONDS)
    engine = an_engine(a_start(tasks.directory))
    tasks.await_begun(HERE)
    runner = next(p for p in psutil.Process().children() if "DISBATCH_ENGINE_RANK" in p.environ())
    below = runner.children(recursive=True)
    runner.send_signal(signal.SIGSTOP)
    [found] = engine.close(0.5)
    assert found.code == -9
    wait_for(lambda: all(map(has_ended, below)), what="its tasks end")


def test_runners_do_without_who_started_them(folder: Path) -> None:
    tasks = Ticking(folder / "tasks", 2, SECONDS)
    driver = Driver("ssh", tasks.directory, folder / "x", nodes=["localhost:1"])
    with driver.started() as program:
        tasks.await_begun(HERE)
        [runner] = [p for p in psutil.Process(program.pid).children() if "run" in p.cmdline()]
        program.kill()
        program.wait()
    tasks.enough()
    wait_for(lambda: has_ended(runner), SECONDS, "the runner has finished")
    tasks.finished()
    assert os.path.exists(f"{folder}/x_L_{HERE}_0.log")
