"""What people ask of a runner through the folder, and the signals of batch systems."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from runforrest import TaskList, defer, errors
from runforrest.folder import requests
from runforrest.folder.cancelling import Canceller
from runforrest.folder.fsio import FileOps
from runforrest.folder.settings import ensure_internal
from runforrest.runner import Options, Runner
from tests.helpers import wait_for
from tests.runner.support import a_runner, all_gone, counts, folder_of, lines, tree
from tests.tasks import bytes_when_told, hang, log_and_sleep, log_and_wait

ISOLATIONS = pytest.mark.parametrize("isolation", ["process", "reuse"])


def runforrest(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "runforrest", *map(str, arguments)], text=True, timeout=60,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def scheduled(directory: Path, log: Path, number: int, seconds: float) -> tuple[TaskList, list[str]]:
    tasks = TaskList(directory)
    return tasks, [tasks.schedule(defer(log_and_sleep, str(log), n, seconds), name=f"task{n}") for n in range(number)]


def unhurried(directory: Path, where: Path, seconds: float) -> tuple[Path, Path]:
    """A list that a slow machine does not finish either before it is told that it is enough; its log, and the file that
    tells.
    """
    tasks, log, enough = TaskList(directory), where / "log", where / "enough"
    for number in range(100):
        tasks.schedule(defer(log_and_wait, str(log), number, str(enough), seconds))
    return log, enough


@ISOLATIONS
def test_cancel_a_running_and_a_waiting_task(tasklist_dir: Path, tmp_path: Path, isolation: str) -> None:
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    first = tasks.schedule(defer(hang, str(log), False), name="first", retries=5)
    tasks.schedule(defer(abs, -1), name="second")
    third = tasks.schedule(defer(abs, -2), name="third")
    with a_runner(tasklist_dir, 1, isolation) as runner:
        wait_for(lambda: len(lines(log)) == 2)
        family = [psutil.Process(int(pid)) for pid in lines(log)]
        answer = runforrest("cancel", tasklist_dir, "first", third)
        assert answer.returncode == 0 and "2 tasks cancelled" in answer.stdout, answer.stdout
        assert all_gone(family), "also what it had started"
        text, _ = runner.communicate(timeout=30)
    assert "left: done" in text
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 1, "fail": 2}
    failed = {t.scheduled.id: t for t in tasks.fail_tasks()}
    assert set(failed) == {first, third}
    assert all(isinstance(t.errorvalue, errors.Cancelled) for t in failed.values())
    assert [a.outcome for a in failed[first].attempts] == ["cancelled"]
    assert sorted(p.name for p in tasklist_dir.iterdir()) == [
        "done", "fail", "history.jsonl", "runforrest.json", "todo"], "no request is left"


def test_cancel_without_any_runner_and_of_what_has_ended(tasklist_dir: Path, tmp_path: Path) -> None:
    tasks, _ = scheduled(tasklist_dir, tmp_path / "log", 2, 0.0)
    assert "1 task cancelled" in runforrest("cancel", tasklist_dir, "task0").stdout
    assert counts(tasklist_dir) == {"todo": 1, "doing": 0, "done": 0, "fail": 1}
    assert len(list(tasks.run(1))) == 1
    for name, words in (("task1", "has ended already"), ("task9", "no task")):
        answer = runforrest("cancel", tasklist_dir, name)
        assert answer.returncode == 2 and words in answer.stdout
    tasks.schedule(defer(abs, -1), name="task1")
    assert runforrest("cancel", tasklist_dir, "task1").returncode == 0, "of two only one has not ended"
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 1, "fail": 2}
    assert runforrest("retry", tasklist_dir, "task0").returncode == 0, "a cancelled task can be tried again"
    (task,) = tasks.run(1)
    assert task.returnvalue == 0 and [a.outcome for a in task.attempts] == ["cancelled", "returned"]


def test_a_request_to_cancel_outlives_who_asked(tasklist_dir: Path, tmp_path: Path) -> None:
    """Asked while no runner listens: met by the one that comes to it, without a child."""
    tasks, ids = scheduled(tasklist_dir, tmp_path / "log", 2, 0.0)
    requests.ask(FileOps(tasklist_dir), requests.CANCEL, ids[0])
    with a_runner(tasklist_dir, 1) as runner:
        assert runner.wait(30) == 0
    assert [int(line.split()[0]) for line in lines(tmp_path / "log")] == [1]
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 1, "fail": 1}
    assert [a.outcome for a in next(tasks.fail_tasks()).attempts] == ["cancelled"]


def test_a_request_that_came_too_late_does_not_hit_the_next_try(tasklist_dir: Path, tmp_path: Path) -> None:
    """The task ended before its runner had heard of it: a person's `mv done/x todo/` is not cancelled unasked."""
    told, fs = tmp_path / "told", FileOps(tasklist_dir)
    tasks, (id,) = scheduled(tasklist_dir, tmp_path / "log", 1, 0.0)
    tasks.schedule(defer(bytes_when_told, 1, str(told)))
    with a_runner(tasklist_dir, 2) as runner:
        wait_for(lambda: counts(tasklist_dir)["done"] == 1)
        requests.ask(fs, requests.CANCEL, id)
        wait_for(lambda: not requests.pending(fs), what="the runner takes it away")
        told.touch()
        assert runner.wait(30) == 0
    (file,) = (tasklist_dir / "done").glob("*task0*")
    file.rename(tasklist_dir / "todo" / file.name)
    assert [[a.outcome for a in task.attempts] for task in tasks.run(1)] == [["returned", "returned"]]


def test_a_runner_that_leaves_takes_away_what_came_too_late(tasklist_dir: Path, tmp_path: Path) -> None:
    """Asked for by a program that was killed in between, just before the task ended."""
    _, (id,) = scheduled(tasklist_dir, tmp_path / "log", 1, 0.0)
    fs = FileOps(tasklist_dir)
    runner = Runner(folder_of(tasklist_dir), Options(1),
                    finished=lambda name, state, report: requests.ask(fs, requests.CANCEL, id))
    assert runner.run() == "done"
    assert not (tasklist_dir / ".runforrest").exists(), "no request is left"


def test_who_asks_too_late_takes_it_back(tasklist_dir: Path, tmp_path: Path) -> None:
    """The task ends between the look at what runs and the request."""
    _, (id,) = scheduled(tasklist_dir, tmp_path / "log", 1, 0.0)
    folder = folder_of(tasklist_dir)
    ensure_internal(folder.fs)
    folder.fs.mkdir("doing/R")
    mine = folder.claim(next(folder.scan("todo")), "R")
    assert mine is not None

    def ends(operation: str, args: tuple[object, ...]) -> None:
        if operation == "create" and "cancel@" in str(args[0]):
            folder.fs.hook = None
            os.rename(tasklist_dir / "doing/R" / str(mine), tasklist_dir / "done" / str(mine))
    folder.fs.hook = ends
    canceller = Canceller(folder, [id])
    assert canceller.look() == [] and canceller.ended == [id]
    assert folder.fs.hook is None and not requests.pending(folder.fs)


def test_a_claim_is_cancelled_only_while_that_is_asked(tasklist_dir: Path, tmp_path: Path) -> None:
    """What the last look has shown may have been met since, and the task put back."""
    _, (id,) = scheduled(tasklist_dir, tmp_path / "log", 1, 0.0)
    runner = Runner(folder_of(tasklist_dir), Options(1))
    runner.brain.cancelled = frozenset({id})
    (name,) = runner.folder.names("todo")
    assert not runner._is_cancelled(name)
    requests.ask(runner.folder.fs, requests.CANCEL, id)
    assert runner._is_cancelled(name)
    runner.wakeup.close()


def test_a_cancelled_task_can_be_tried_again_at_once(tasklist_dir: Path, tmp_path: Path) -> None:
    """By any runner, although not all of them know yet that the request is met."""
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    for name in ("first", "second", "third"):
        tasks.schedule(defer(log_and_sleep, str(log), 0, 600.0), name=name)
    tasks.schedule(defer(log_and_sleep, str(log), 1, 600.0))
    with a_runner(tasklist_dir, 3) as one, a_runner(tasklist_dir, 3) as two:
        for number, name in enumerate(("first", "second", "third")):
            wait_for(lambda n=number: len(lines(log)) == 4 + n)  # type: ignore[misc]
            assert runforrest("cancel", tasklist_dir, name).returncode == 0
            assert runforrest("retry", tasklist_dir, name).returncode == 0
            wait_for(lambda n=number: len(lines(log)) == 5 + n)  # type: ignore[misc]
        for runner in (one, two):
            runner.terminate()
            runner.wait(30)
    assert counts(tasklist_dir) == {"todo": 4, "doing": 0, "done": 0, "fail": 0}


def test_pause_and_resume(tasklist_dir: Path, tmp_path: Path) -> None:
    log, enough = unhurried(tasklist_dir, tmp_path, 0.3)
    with a_runner(tasklist_dir, 1) as first:
        wait_for(lambda: counts(tasklist_dir)["done"] >= 1)
        assert runforrest("pause", tasklist_dir).returncode == 0
        wait_for(lambda: counts(tasklist_dir)["doing"] == 0 and first.poll() is None)
        with a_runner(tasklist_dir, 1) as second:            # one that comes later holds still, too
            assert second.stdout and wait_for(lambda: "paused" in second.stdout.readline())  # type: ignore[union-attr]
            before = len(lines(log))
            time.sleep(1)                   # nothing to wait for
            assert len(lines(log)) == before and counts(tasklist_dir)["todo"] > 0
            enough.touch()
            assert runforrest("resume", tasklist_dir).returncode == 0
            assert first.wait(30) == second.wait(30) == 0
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 100, "fail": 0}


def test_pause_one_runner(tasklist_dir: Path, tmp_path: Path) -> None:
    _, enough = unhurried(tasklist_dir, tmp_path, 0.2)
    with a_runner(tasklist_dir, 1) as held, a_runner(tasklist_dir, 1) as free:
        assert held.stdout
        name = held.stdout.readline().split()[1]
        wait_for(lambda: name in runforrest("status", tasklist_dir).stdout)
        assert runforrest("pause", tasklist_dir, name).returncode == 0
        assert wait_for(lambda: "paused" in held.stdout.readline())  # type: ignore[union-attr]
        enough.touch()
        wait_for(lambda: counts(tasklist_dir)["todo"] == 0 and counts(tasklist_dir)["doing"] == 0, 30)
        assert held.poll() is None
        assert free.wait(30) == 0
        assert runforrest("resume", tasklist_dir, name).returncode == 0
        assert held.wait(30) == 0


@pytest.mark.parametrize("now", [False, True])
def test_stop(tasklist_dir: Path, tmp_path: Path, now: bool) -> None:
    unhurried(tasklist_dir, tmp_path, 1.0)
    with a_runner(tasklist_dir, 2) as runner, a_runner(tasklist_dir, 2) as other:
        wait_for(lambda: counts(tasklist_dir)["doing"] == 4)
        answer = runforrest("stop", tasklist_dir, *(["--now"] if now else []))
        assert answer.returncode == 0 and "2 runners left" in answer.stdout, answer.stdout
        for each in (runner, other):
            text, _ = each.communicate(timeout=30)
            assert "left: stopped" in text
    found = counts(tasklist_dir)
    assert found["doing"] == found["fail"] == 0 and found["todo"] > 0 and found["todo"] + found["done"] == 100
    assert not (tasklist_dir / ".runforrest").exists()
    assert "no runner" in runforrest("stop", tasklist_dir).stdout
    assert runforrest("stop", tasklist_dir, "nobody").returncode == 2


@ISOLATIONS
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_for_every_process_of_a_job_costs_no_attempt(tasklist_dir: Path, tmp_path: Path, isolation: str,
                                                              signum: signal.Signals) -> None:
    """As batch systems send it: to the runner, the fork server, the guards and the tasks."""
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    for number in range(3):
        tasks.schedule(defer(log_and_sleep, str(log), number, 600.0))
    with a_runner(tasklist_dir, 3, isolation) as runner:
        wait_for(lambda: len(lines(log)) == 3)
        below = tree(runner.pid)
        for pid in [*sorted((p.pid for p in below), reverse=True), runner.pid]:     # the tasks first
            os.kill(pid, signum)
        text, _ = runner.communicate(timeout=30)
    assert f"left: {'terminated' if signum == signal.SIGTERM else 'walltime'}" in text
    assert all_gone(below)
    assert counts(tasklist_dir) == {"todo": 3, "doing": 0, "done": 0, "fail": 0}
    assert all(t.attempts == [] for t in tasks.todo_tasks()), "uncounted"


@ISOLATIONS
def test_a_task_that_is_killed_by_a_signal_of_its_own_has_crashed(tasklist_dir: Path, isolation: str) -> None:
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(os.kill, defer(os.getpid), int(signal.SIGTERM)), crash_limit=1)
    (task,) = tasks.run(1, isolation=isolation)
    assert [(a.outcome, a.signal) for a in task.attempts] == [("crashed", "SIGTERM")]


def test_what_would_take_too_long_is_not_started(tasklist_dir: Path, tmp_path: Path) -> None:
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    for number, limits in enumerate([{"estimate": 3600}, {"timeout": 3600}, {"estimate": 1, "timeout": 3600}, {}]):
        tasks.schedule(defer(log_and_sleep, str(log), number, 0.0), **limits)  # type: ignore[arg-type]
    with a_runner(tasklist_dir, 1, grace=1.0, time_left=60) as runner:
        text, _ = runner.communicate(timeout=30)
    assert "left: walltime" in text and "2 tasks in todo/" in text
    assert sorted(int(line.split()[0]) for line in lines(log)) == [2, 3]
    assert counts(tasklist_dir) == {"todo": 2, "doing": 0, "done": 2, "fail": 0}
    assert all(".t" not in str(p.name) for p in (tasklist_dir / "todo").iterdir()), "not even claimed"


def test_when_its_time_is_over_a_runner_puts_its_tasks_back(tasklist_dir: Path, tmp_path: Path) -> None:
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    tasks.schedule(defer(log_and_sleep, str(log), 0, 600.0))
    with a_runner(tasklist_dir, 1, grace=1.0, time_left=14) as runner:         # of which eight are for the task
        text, _ = runner.communicate(timeout=30)
    assert len(lines(log)) == 1 and "left: walltime" in text
    (task,) = tasks.todo_tasks()
    assert task.attempts == []
    with pytest.raises(errors.Stopped, match="1 task in") as caught:
        list(tasks.run(1, time_left=9, grace=1))
    assert caught.value.reason == "walltime"


def test_status_tells_what_was_asked(tasklist_dir: Path, tmp_path: Path) -> None:
    scheduled(tasklist_dir, tmp_path / "log", 4, 600.0)
    with a_runner(tasklist_dir, 1, grace=0.1):
        wait_for(lambda: counts(tasklist_dir)["doing"] == 1)
        runforrest("pause", tasklist_dir)
        answer = runforrest("stop", tasklist_dir, "--wait", 0)
        assert "still there, and asked" in answer.stdout and answer.returncode == 0
        text = runforrest("status", tasklist_dir).stdout
        assert "paused by" in text and "asked to stop" in text
        assert runforrest("stop", tasklist_dir, "--now").returncode == 0
    assert "paused by" in runforrest("status", tasklist_dir).stdout, "for runners to come"
    assert runforrest("resume", tasklist_dir).returncode == 0
    assert "paused" not in runforrest("status", tasklist_dir).stdout
