"""Runners, fork servers and guards that are killed or interrupted: nothing is lost, nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from runforrest import Command, TaskList, defer, errors
from runforrest.folder import layout
from tests.helpers import wait_for
from tests.runner.support import a_runner, all_gone, counts, lines, tree
from tests.tasks import hang, log_and_wait, needs


@pytest.mark.parametrize("isolation", [pytest.param("process", marks=pytest.mark.slow), "reuse"])
def test_two_runners_share_a_list_and_one_is_killed(tasklist_dir: Path, tmp_path: Path, isolation: str) -> None:
    tasks, log, enough = TaskList(tasklist_dir), tmp_path / "log", tmp_path / "enough"
    for number in range(2000):      # of which none takes time, but for those that are at work when one is killed
        tasks.schedule(defer(log_and_wait, str(log), number, str(enough), 0.0 if number < 300 else 0.1))
    with a_runner(tasklist_dir, 2, isolation) as victim, a_runner(tasklist_dir, 2, isolation) as other:
        wait_for(lambda: counts(tasklist_dir)["done"] > 300, 60)
        below = tree(victim.pid)
        assert len(below) >= 3
        victim.kill()
        victim.wait()
        enough.touch()
        wait_for(lambda: all_gone(below), what="guards and children of the killed runner end")
        assert other.wait(100) == 0
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 2000, "fail": 0}
    values = Counter(t.returnvalue for t in tasks.done_tasks())
    assert values == Counter(range(2000))
    executions = Counter(int(line.split()[0]) for line in lines(log))
    assert set(executions) == set(range(2000))
    again = sum(executions.values()) - 2000             # what the victim was just running
    assert 0 <= again <= 2
    print(f"{isolation}: killed one of two runners, {again} tasks ran twice, none lost, none published twice")


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_killed_runner_leaves_no_process_and_the_next_takes_over_at_once(
        tasklist_dir: Path, tmp_path: Path, isolation: str) -> None:
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    tasks.schedule(defer(hang, str(log), True), crash_limit=1)
    with a_runner(tasklist_dir, 1, isolation) as runner:
        wait_for(lambda: len(lines(log)) == 2)
        below = tree(runner.pid) + [psutil.Process(int(pid)) for pid in lines(log)]
        runner.kill()
        runner.wait()
        wait_for(lambda: all_gone(below), what="everything below the killed runner ends")
    assert counts(tasklist_dir)["doing"] == 1
    run = tasks.run(1)
    assert len(run) == 1 and counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 0, "fail": 1}
    (task,) = run
    assert task == next(tasks.fail_tasks()) and isinstance(task.errorvalue, errors.Lost)
    assert [a.outcome for a in task.attempts] == ["lost"] and "died" in str(task.errorvalue)
    assert task.attempts[0].runner and task.attempts[0].ended


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not watch a pipe for a group")
@pytest.mark.parametrize("isolation", ["process", "reuse"])
@pytest.mark.parametrize("what", ["call", "command"])
def test_when_all_of_a_runner_is_killed_at_once_the_system_ends_its_tasks(
        tasklist_dir: Path, tmp_path: Path, what: str, isolation: str) -> None:
    """None of ours is left that could do it, as after `pkill -9 python`: what the task has started is ended, too."""
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    line = f"sleep 1000 & echo $! > {log}; sleep 1000; true"
    tasks.schedule(defer(os.system, line) if what == "call" else Command(line))
    with a_runner(tasklist_dir, 1, isolation) as runner:
        wait_for(lambda: lines(log))
        [server] = psutil.Process(runner.pid).children()
        [guard] = server.children()
        of_task = guard.children(recursive=True)
        assert int(lines(log)[0]) in [process.pid for process in of_task]
        ours = [psutil.Process(runner.pid), server, guard]
        for process in ours:
            process.suspend()
        for process in ours:
            process.kill()
        wait_for(lambda: all_gone([server, guard, *of_task]))


def test_killed_runner_its_task_runs_again(tasklist_dir: Path, tmp_path: Path) -> None:
    tasks, log, enough = TaskList(tasklist_dir), tmp_path / "log", tmp_path / "enough"
    tasks.schedule(defer(log_and_wait, str(log), 1, str(enough)))
    with a_runner(tasklist_dir, 1) as runner:
        wait_for(lambda: lines(log))
        below = tree(runner.pid)
        runner.kill()
    wait_for(lambda: all_gone(below))
    enough.touch()
    (task,) = tasks.run(1)
    assert task.returnvalue == 1 and [a.outcome for a in task.attempts] == ["lost", "returned"]
    assert len(lines(log)) == 2
    assert not list(tasks.todo_tasks()) and len(list(tasks.done_tasks())) == 1


def test_first_interrupt_drains(tasklist_dir: Path, tmp_path: Path) -> None:
    tasks, log, enough = TaskList(tasklist_dir), tmp_path / "log", tmp_path / "enough"
    for number in range(10):
        tasks.schedule(defer(log_and_wait, str(log), number, str(enough)))
    with a_runner(tasklist_dir, 2) as runner:
        wait_for(lambda: len(lines(log)) == 2)
        runner.send_signal(signal.SIGINT)
        assert runner.stdout
        wait_for(lambda: "2 running tasks will be finished" in runner.stdout.readline())  # type: ignore[union-attr]
        enough.touch()
        text, _ = runner.communicate(timeout=20)
    assert "left: drained" in text
    assert counts(tasklist_dir) == {"todo": 8, "doing": 0, "done": 2, "fail": 0}


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_second_interrupt_puts_back_uncounted(tasklist_dir: Path, tmp_path: Path, isolation: str) -> None:
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    tasks.schedule(defer(hang, str(log), True))
    with a_runner(tasklist_dir, 1, isolation) as runner:
        wait_for(lambda: len(lines(log)) == 2)
        below = tree(runner.pid)
        runner.send_signal(signal.SIGINT)
        assert runner.stdout and wait_for(lambda: "will be finished" in runner.stdout.readline())  # type: ignore[union-attr]
        runner.send_signal(signal.SIGINT)
        text, _ = runner.communicate(timeout=20)
    assert "left: released" in text
    assert all_gone(below) and all_gone([p for p in map(_process, lines(log)) if p])
    assert counts(tasklist_dir) == {"todo": 1, "doing": 0, "done": 0, "fail": 0}
    (task,) = tasks.todo_tasks()
    assert task.attempts == []


def _process(pid: str) -> psutil.Process | None:
    try:
        return psutil.Process(int(pid))
    except psutil.NoSuchProcess:
        return None


@pytest.mark.parametrize("ignore_term", [False, True])
def test_sigterm_releases_within_the_grace_time(tasklist_dir: Path, tmp_path: Path, ignore_term: bool) -> None:
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    tasks.schedule(defer(hang, str(log), ignore_term))
    with a_runner(tasklist_dir, 1, grace=0.5) as runner:
        wait_for(lambda: len(lines(log)) == 2)
        runner.terminate()
        text, _ = runner.communicate(timeout=20)
    assert "left: terminated" in text
    assert all_gone([p for p in map(_process, lines(log)) if p])
    assert counts(tasklist_dir) == {"todo": 1, "doing": 0, "done": 0, "fail": 0}
    assert not (tasklist_dir / layout.INTERNAL).exists() and not (tasklist_dir / "doing").exists()


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_sigterm_ends_a_task_whose_guard_is_stopped(tasklist_dir: Path, tmp_path: Path, isolation: str) -> None:
    """A guard that is stopped, by its own task, say, hears no order: nobody could leave, ever."""
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    tasks.schedule(defer(hang, str(log)))
    with a_runner(tasklist_dir, 1, isolation, grace=0.5) as runner:
        wait_for(lambda: len(lines(log)) == 2)
        guard = psutil.Process(int(lines(log)[0])).parent()
        assert guard is not None
        guard.suspend()
        wait_for(lambda: guard.status() == psutil.STATUS_STOPPED)
        runner.terminate()
        text, _ = runner.communicate(timeout=20)
    assert "left: terminated" in text and all_gone([guard])
    assert counts(tasklist_dir) == {"todo": 1, "doing": 0, "done": 0, "fail": 0}


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_killed_guard(tasklist_dir: Path, tmp_path: Path, isolation: str) -> None:
    """The guard dies with its task and all it started; another takes its place; the loss is on record."""
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    tasks.schedule(defer(hang, str(log), True), crash_limit=1)
    tasks.schedule(defer(abs, -3))
    with a_runner(tasklist_dir, 1, isolation) as runner:
        wait_for(lambda: len(lines(log)) == 2)
        family = [psutil.Process(int(pid)) for pid in lines(log)]
        guard = psutil.Process(int(lines(log)[0])).parent()
        assert guard is not None
        guard.kill()
        text, _ = runner.communicate(timeout=20)
    assert "left: done" in text and all_gone(family)
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 1, "fail": 1}
    (task,) = tasks.fail_tasks()
    assert [a.outcome for a in task.attempts] == ["lost"] and "guard" in str(task.errorvalue)


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_killed_fork_server(tasklist_dir: Path, tmp_path: Path, isolation: str) -> None:
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    tasks.schedule(defer(hang, str(log)), crash_limit=1)
    tasks.schedule(defer(abs, -3))
    with a_runner(tasklist_dir, 1, isolation) as runner:
        wait_for(lambda: len(lines(log)) == 2)
        family = [psutil.Process(int(pid)) for pid in lines(log)]
        guard = family[0].parent()
        server = guard.parent() if guard else None
        assert server is not None and server.ppid() == runner.pid
        server.kill()
        text, _ = runner.communicate(timeout=20)
    assert "starting another" in text and "left: done" in text
    wait_for(lambda: all_gone(family))
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 1, "fail": 1}


def test_ten_guards_killed_while_tasks_run(tasklist_dir: Path, tmp_path: Path) -> None:
    tasks, log, enough = TaskList(tasklist_dir), tmp_path / "log", tmp_path / "enough"
    for number in range(300):
        tasks.schedule(defer(log_and_wait, str(log), number, str(enough), 0.1), crash_limit=100, backoff=0.01)
    killed = 0
    with a_runner(tasklist_dir, 3) as runner:
        while runner.poll() is None and killed < 10:
            done = counts(tasklist_dir)["done"]
            wait_for(lambda done=done: runner.poll() is not None or counts(tasklist_dir)["done"] > done + 15)  # type: ignore[misc]
            for server in psutil.Process(runner.pid).children():
                guards = server.children()
                if guards:
                    guards[killed % len(guards)].kill()
                    killed += 1
        enough.touch()
        text, _ = runner.communicate(timeout=60)
        print(text)
    assert killed == 10
    assert counts(tasklist_dir) == {"todo": 0, "doing": 0, "done": 300, "fail": 0}
    assert Counter(t.returnvalue for t in tasks.done_tasks()) == Counter(range(300))


def test_a_finished_list_is_plain_files(tasklist_dir: Path) -> None:
    tasks = TaskList(tasklist_dir)
    for number in range(5):
        tasks.schedule(defer(abs, number))
    assert len(list(tasks.run(2))) == 5
    assert sorted(os.listdir(tasklist_dir)) == ["done", "fail", "history.jsonl", "runforrest.json", "todo"]
    records: list[dict[str, Any]] = [json.loads(line) for line in lines(tasklist_dir / "history.jsonl")]
    assert [r["outcome"] for r in records] == ["returned"] * 5


def test_move_by_hand_retries_and_keeps_the_history(tasklist_dir: Path, tmp_path: Path) -> None:
    flag, tasks = tmp_path / "flag", TaskList(tasklist_dir)
    tasks.schedule(defer(needs, str(flag)))
    (task,) = tasks.run(1)
    assert isinstance(task.errorvalue, FileNotFoundError)
    flag.touch()
    (file,) = (tasklist_dir / "fail").iterdir()
    subprocess.run(["mv", str(file), str(tasklist_dir / "todo")], check=True)
    (task,) = tasks.run(1)
    assert task.returnvalue == "there" and [a.outcome for a in task.attempts] == ["raised", "returned"]
    assert [a.number for a in task.attempts] == [1, 2]


def test_foreign_and_damaged_files(tasklist_dir: Path) -> None:
    tasks = TaskList(tasklist_dir)
    for number in range(3):
        tasks.schedule(defer(abs, number), name=f"good{number}")
    tasks.schedule(defer(abs, 1), name="truncated")
    todo = tasklist_dir / "todo"
    (cut,) = todo.glob("*truncated*")
    cut.write_bytes(cut.read_bytes()[:20])
    (todo / "empty.pkl").touch()
    (todo / "notes.txt").write_text("not a task")
    (todo / ".nfs0001").touch()
    (todo / "folder.pkl").mkdir()
    (todo / "link.pkl").symlink_to("/etc/passwd")
    with a_runner(tasklist_dir) as runner:
        text, _ = runner.communicate(timeout=20)
    assert "left: done" in text and text.count("notes.txt") == 1 and ".nfs" not in text
    assert sorted(p.name for p in todo.iterdir()) == [".nfs0001", "notes.txt"]
    assert counts(tasklist_dir)["done"] == 3
    failed = {t.scheduled.id: t for t in tasks.fail_tasks()}
    for part in ("truncated", "empty"):
        (task,) = [t for id, t in failed.items() if part in id]
        assert task.attempts[-1].outcome == "unloadable" and "schedule the task again" in str(task.errorvalue)
    assert {p.name.split(".")[0] for p in (tasklist_dir / "fail").iterdir()} >= {"link", "folder", "empty"}
