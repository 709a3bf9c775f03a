"""How attempts end: real tasks that crash, hang, leak, fork and close what they should not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from runforrest import Attempt, Command, Task, TaskList, defer, errors
from runforrest.folder import frames
from tests.helpers import wait_for
from tests.runner.support import a_runner, lines
from tests.tasks import (
    Stubborn,
    Unloadable,
    close_everything,
    draw,
    eat,
    fork_bomb,
    leave_family,
    log_and_wait,
    much_output,
    print_and_exit,
    raise_,
    segfault,
    spoil_surroundings,
    start_family,
    stray,
    surroundings,
    unpicklable_value,
)

ISOLATIONS = ["process", "reuse"]


def run_one(directory: Path, task: Task, isolation: str = "process", **limits: Any) -> Task:
    """Schedule one task with ``crash_limit=1``, run it, and return it."""
    tasks = TaskList(directory, exist_ok=True, pre_clean=False)
    tasks.schedule(task, **{"crash_limit": 1, **limits})
    (found,) = tasks.run(nprocesses=1, isolation=isolation, print_output=False)
    return found


def last(task: Task) -> Attempt:
    attempt: Attempt = task.attempts[-1]
    return attempt


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def family_of(file: Path) -> list[int]:
    return [int(p) for p in file.read_text().split()]


# -- tests ----------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", ISOLATIONS)
class TestOutcomes:
    def test_returned(self, tasklist_dir: Path, isolation: str) -> None:
        task = run_one(tasklist_dir, defer(divmod, 7, 2), isolation)
        attempt = last(task)
        assert (task.returnvalue, task.errorvalue) == ((3, 1), None)
        assert attempt.outcome == "returned" and attempt.number == 1
        assert attempt.pid and attempt.host and attempt.runner and attempt.started <= attempt.ended
        assert attempt.cpu is not None and attempt.cpu >= 0
        assert attempt.peak_bytes and attempt.peak_bytes > 1 << 20
        assert attempt.duration is not None and task.runtime <= attempt.duration

    def test_raised_keeps_exception_and_traceback(self, tasklist_dir: Path, isolation: str) -> None:
        task = run_one(tasklist_dir, defer(raise_, KeyError, "nothing"), isolation)
        assert type(task.errorvalue) is KeyError and task.errorvalue.args == ("nothing",)
        attempt = last(task)
        assert attempt.outcome == "raised" and attempt.error == "KeyError"
        assert "in raise_" in attempt.traceback and "runforrest/process" not in attempt.traceback
        assert "in raise_" in str(task.errorvalue.__cause__)

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
    def test_base_exceptions_are_failures(self, tasklist_dir: Path, isolation: str, kind: Any) -> None:
        task = run_one(tasklist_dir, defer(raise_, kind, 0), isolation)
        assert type(task.errorvalue) is kind and last(task).outcome == "raised"

    def test_segfault(self, tasklist_dir: Path, isolation: str) -> None:
        task = run_one(tasklist_dir, defer(segfault), isolation)
        attempt = last(task)
        assert isinstance(task.errorvalue, errors.Crashed)
        assert (attempt.outcome, attempt.signal, attempt.exit_code) == ("crashed", "SIGSEGV", None)
        assert "about to crash" in attempt.output and "in segfault" in attempt.output
        assert task.runtime is None

    @pytest.mark.parametrize("code", [0, 3])
    def test_exit_without_a_word(self, tasklist_dir: Path, isolation: str, code: int) -> None:
        task = run_one(tasklist_dir, defer(os._exit, code), isolation)
        assert (last(task).outcome, last(task).exit_code) == ("crashed", code)
        assert f"exit code {code}" in str(task.errorvalue)

    def test_kill_from_outside(self, tasklist_dir: Path, isolation: str) -> None:
        task = run_one(tasklist_dir, defer(lambda: os.kill(os.getpid(), signal.SIGKILL)), isolation)
        assert (last(task).outcome, last(task).signal) == ("crashed", "SIGKILL")

    def test_closed_descriptors(self, tasklist_dir: Path, isolation: str) -> None:
        task = run_one(tasklist_dir, defer(close_everything), isolation)
        if isolation == "process":
            assert (task.returnvalue, last(task).outcome) == ("still here", "returned")
        else:
            assert task.returnvalue == "still here"

    def test_unpicklable_value(self, tasklist_dir: Path, isolation: str) -> None:
        task = run_one(tasklist_dir, defer(unpicklable_value), isolation)
        assert isinstance(task.errorvalue, errors.UnpicklableError) and last(task).outcome == "raised"
        assert "unpicklable_value" in str(task.errorvalue) and "generator" in str(task.errorvalue)

    @pytest.mark.parametrize("kind", [Stubborn, Unloadable])
    def test_unpicklable_exception(self, tasklist_dir: Path, isolation: str, kind: Any) -> None:
        task = run_one(tasklist_dir, defer(raise_, kind, 1, 2), isolation)
        assert isinstance(task.errorvalue, errors.RemoteError) and last(task).outcome == "raised"
        assert kind.__name__ in str(task.errorvalue) and task.errorvalue.type_name == kind.__name__
        assert "in raise_" in last(task).traceback

    def test_stray_fork_does_not_answer(self, tasklist_dir: Path, isolation: str) -> None:
        assert run_one(tasklist_dir, defer(stray), isolation).returnvalue == "parent"

    def test_module_that_is_not_there(self, tasklist_dir: Path, isolation: str, tmp_path: Path) -> None:
        module = tmp_path / "vanishing_module.py"
        module.write_text("def f():\n    return 1\n")
        sys.path.insert(0, str(tmp_path))
        try:
            from vanishing_module import f  # type: ignore[import-not-found]
            tasks = TaskList(tasklist_dir)
            tasks.schedule(defer(f))
        finally:
            sys.path.remove(str(tmp_path))
            sys.modules.pop("vanishing_module", None)
        module.unlink()
        (task,) = tasks.run(1, isolation=isolation)
        assert isinstance(task.errorvalue, errors.Unloadable) and "vanishing_module" in str(task.errorvalue)
        assert last(task).outcome == "unloadable"

    def test_next_task_is_not_hurt(self, tasklist_dir: Path, isolation: str) -> None:
        tasks = TaskList(tasklist_dir)
        for task in (defer(segfault), defer(os._exit, 0), defer(close_everything), defer(unpicklable_value)):
            tasks.schedule(task, crash_limit=1)
            tasks.schedule(defer(abs, -5))
        values = [t.returnvalue for t in tasks.run(1, ordered=True, isolation=isolation, print_output=False)]
        assert values[1::2] == [5] * 4

    def test_a_message_that_fits_into_no_record(self, tasklist_dir: Path, isolation: str) -> None:
        task = run_one(tasklist_dir, defer(raise_, ValueError, "x" * frames.MAX_RECORD), isolation)
        assert last(task).outcome == "raised" and str(task.errorvalue) == "x" * frames.MAX_RECORD
        assert "in raise_" in last(task).traceback and "in all" in last(task).traceback

    def test_memory_error_is_out_of_memory(self, tasklist_dir: Path, isolation: str) -> None:
        task = run_one(tasklist_dir, defer(raise_, MemoryError, "much"), isolation)
        assert type(task.errorvalue) is MemoryError and last(task).outcome == "out_of_memory"


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("ignore_term", [False, True])
def test_timeout_ends_the_whole_family(tasklist_dir: Path, tmp_path: Path, isolation: str, ignore_term: bool) -> None:
    pids = tmp_path / "pids"
    task = run_one(tasklist_dir, defer(start_family, str(pids), ignore_term), isolation, timeout=2.0, grace=0.3)
    attempt = last(task)
    assert isinstance(task.errorvalue, errors.TimedOut) and isinstance(task.errorvalue, TimeoutError)
    assert attempt.outcome == "timed_out" and attempt.signal == ("SIGKILL" if ignore_term else "SIGTERM")
    assert "2 s" in str(task.errorvalue)
    family = family_of(pids)
    assert len(family) == 5 and not [pid for pid in family if alive(pid)]


def test_what_a_task_leaves_behind_is_ended(tasklist_dir: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    task = run_one(tasklist_dir, defer(leave_family, str(pids)))
    assert task.returnvalue == "returned"
    assert len(family_of(pids)) == 5 and not [pid for pid in family_of(pids) if alive(pid)]


def test_fork_bomb(tasklist_dir: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    task = run_one(tasklist_dir, defer(fork_bomb, str(pids), 2), timeout=1.0, grace=0.1)
    assert last(task).outcome == "timed_out"
    assert len(family_of(pids)) > 20 and not [pid for pid in family_of(pids) if alive(pid)]


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_gigabyte_of_output(tasklist_dir: Path, isolation: str) -> None:
    task = run_one(tasklist_dir, defer(much_output, 1024), isolation)
    attempt = last(task)
    assert task.returnvalue == "done"
    assert attempt.output_bytes == 1 << 30 and 0 < len(attempt.output) < 100_000
    log = tasklist_dir / attempt.log
    assert log.parent.name == "done" and log.stat().st_size == 1 << 30
    log.unlink()


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_memory_limit(tasklist_dir: Path, isolation: str) -> None:
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(eat, 400), memory=150 << 20, crash_limit=1)
    tasks.schedule(defer(eat, 20, 0.2), memory=150 << 20)
    hog, modest = tasks.run(1, ordered=True, isolation=isolation)
    assert isinstance(hog.errorvalue, errors.OutOfMemory) and last(hog).outcome == "out_of_memory"
    assert str(150 << 20) in str(hog.errorvalue)
    assert (last(hog).peak_bytes or 0) > 150 << 20
    assert modest.returnvalue == 20


def test_killed_by_the_system_for_memory(tasklist_dir: Path, tmp_path: Path) -> None:
    """A real OOM kill: the whole runner in a memory cgroup that is too small for its task."""
    group = _memory_cgroup()
    if group is None:
        pytest.skip("no writable memory cgroup (needs root and the v1 or v2 memory controller)")
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(eat, 600), crash_limit=1)
    code = (f"import os; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
            f"from runforrest import TaskList\n"
            f"list(TaskList({str(tasklist_dir)!r}, exist_ok=True, pre_clean=False).run(1))\n")
    try:
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        (task,) = tasks.fail_tasks()
        assert (last(task).outcome, last(task).signal) == ("out_of_memory", "SIGKILL")
        assert "out of memory" in str(task.errorvalue)
    finally:
        wait_for(lambda: not (group / "cgroup.procs").read_text().split())
        group.rmdir()


def test_what_others_lack_memory_for_is_no_reason(tasklist_dir: Path, tmp_path: Path) -> None:
    """A task is killed by somebody while the kernel kills for memory in another control group."""
    group, log = _memory_cgroup(), tmp_path / "log"
    if group is None:
        pytest.skip("no writable memory cgroup (needs root and the v1 or v2 memory controller)")
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(log_and_wait, str(log), 0, str(tmp_path / "never")), crash_limit=1)
    hog = f"import os; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid())); b'x' * (600 << 20)"
    try:
        with a_runner(tasklist_dir, 1) as runner:
            wait_for(lambda: lines(log))
            assert subprocess.run([sys.executable, "-c", hog], timeout=60).returncode == -signal.SIGKILL
            os.kill(int(lines(log)[0].split()[1]), signal.SIGKILL)
            assert runner.wait(60) == 0
        (task,) = tasks.fail_tasks()
        assert (last(task).outcome, last(task).signal) == ("crashed", "SIGKILL")
    finally:
        wait_for(lambda: not (group / "cgroup.procs").read_text().split())
        group.rmdir()


def _memory_cgroup() -> Path | None:
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(root) / f"runforrest-test-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text(str(300 << 20))
        except OSError:
            if group.exists():
                group.rmdir()
            continue
        return group
    return None


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_retries_are_chosen_by_outcome(tasklist_dir: Path, isolation: str) -> None:
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(raise_, ValueError), name="twice", retries=1, backoff=0.01)
    tasks.schedule(defer(raise_, ValueError), name="once", retries={"timed_out": 5}, backoff=0.01)
    tasks.schedule(defer(time.sleep, 60), name="late", retries={"timed_out": 2}, timeout=0.1, grace=0, backoff=0.01)
    tasks.schedule(defer(os._exit, 1), name="crash", retries=9, crash_limit=2, backoff=0.01)
    ended = {t.scheduled.name: [a.outcome for a in t.attempts] for t in tasks.run(2, isolation=isolation)}
    assert ended == {"twice": ["raised"] * 2, "once": ["raised"], "late": ["timed_out"] * 3,
                     "crash": ["crashed"] * 2}


def test_numpydraws_differ_between_forks(tasklist_dir: Path) -> None:
    pytest.importorskip("numpy")
    tasks = TaskList(tasklist_dir)
    for _ in range(6):
        tasks.schedule(defer(draw))
    draws = [t.returnvalue for t in tasks.run(2, preload=["numpy.random", "random"])]
    assert len(set(draws)) == 6


def test_reuse_keeps_the_process_and_replaces_it(tasklist_dir: Path) -> None:
    tasks = TaskList(tasklist_dir)
    for _ in range(7):
        tasks.schedule(defer(os.getpid))
    assert len({t.returnvalue for t in tasks.run(1, isolation="reuse")}) == 1
    for _ in range(7):
        tasks.schedule(defer(os.getpid))
    pids = [t.returnvalue for t in tasks.run(1, isolation="reuse", max_tasks=3, ordered=True)]
    assert [pids.count(p) for p in dict.fromkeys(pids)] == [3, 3, 1]


def test_after_a_long_output_the_next_ones_are_their_own(tasklist_dir: Path) -> None:
    """The slot's file was given away to the first task; the process that runs the last one is another."""
    tasks = TaskList(tasklist_dir)
    for call in (defer(print, "x" * 100_000), defer(print_and_exit, "dying"), defer(print, "hello")):
        tasks.schedule(call, crash_limit=1)
    found = [last(t) for t in tasks.run(1, ordered=True, isolation="reuse", print_output=False)]
    assert [(a.outcome, a.output_bytes, a.log == "") for a in found] == [
        ("returned", 100_001, False), ("crashed", 6, True), ("returned", 6, True)]
    assert (found[1].output, found[2].output) == ("dying\n", "hello\n")
    assert os.path.getsize(tasklist_dir / found[0].log) == 100_001


def test_a_command_ends_the_process_that_is_reused(tasklist_dir: Path) -> None:
    """Which has no use for it: bash takes its place in one of its own, with all that it is given."""
    tasks = TaskList(tasklist_dir)
    for call in (defer(os.getpid), Command("echo $PPID; exit 3"), Command("sleep 600"), defer(os.getpid)):
        tasks.schedule(call, timeout=1)
    first, ended, late, second = tasks.run(1, ordered=True, isolation="reuse", print_output=False)
    assert last(ended).exit_code == 3 and last(late).outcome == "timed_out"
    assert first.returnvalue != second.returnvalue


def test_process_isolation_is_a_fresh_process(tasklist_dir: Path) -> None:
    tasks = TaskList(tasklist_dir)
    for _ in range(5):
        tasks.schedule(defer(os.getpid))
    assert len({t.returnvalue for t in tasks.run(1)}) == 5


def test_reuse_restores_what_a_task_has_changed(tasklist_dir: Path) -> None:
    """Environment, import path and working directory: also if the next task asks for nothing else."""
    tasks = TaskList(tasklist_dir)
    for task in (defer(surroundings), defer(spoil_surroundings), defer(surroundings)):
        tasks.schedule(task)
    before, pid, after = (t.returnvalue for t in tasks.run(1, isolation="reuse", ordered=True))
    assert before == after and before[0] == pid, "the same process, and the same surroundings"
