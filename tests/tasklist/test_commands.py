"""Command lines as tasks: real ones, run by bash."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from runforrest import Command, Task, TaskList, defer, evaluate
from runforrest.commands import run
from runforrest.errors import Cancelled, CommandFailed, InvalidArgument, OutOfMemory, TimedOut
from runforrest.folder import frames
from tests.helpers import files, wait_for


def one(directory: Path, line: str, isolation: str = "process", **wanted: Any) -> Task:
    """The task of this command, run."""
    tasks = TaskList(directory)
    tasks.schedule(Command(line), **wanted)
    [task] = tasks.run(1, print_output=False, isolation=isolation)
    return task


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_a_command_returns_zero_or_fails(tasklist_dir: Path, isolation: str) -> None:
    tasks = TaskList(tasklist_dir)
    for line in ("true", "exit 3", "kill -9 $$", "no-such-command"):
        tasks.schedule(Command(line), name=line)
    ended = {task.scheduled.name: task for task in tasks.run(2, print_output=False, isolation=isolation)}
    assert ended["true"].returnvalue == 0 and ended["true"].errorvalue is None
    for line, exit_code, signum in (("exit 3", 3, None), ("kill -9 $$", None, signal.SIGKILL),
                                    ("no-such-command", 127, None)):
        error = ended[line].errorvalue
        assert isinstance(error, CommandFailed) and (error.exit_code, error.signal) == (exit_code, signum), line
        assert line in str(error) and ended[line].attempts[-1].outcome == "raised"


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_both_outputs_are_kept_apart(tasklist_dir: Path, isolation: str) -> None:
    [attempt] = one(tasklist_dir, "echo out; echo err >&2; cat", isolation).attempts
    assert (attempt.output, attempt.output_bytes, attempt.errors, attempt.errors_bytes) == ("out\n", 4, "err\n", 4)
    assert attempt.exit_code == 0 and attempt.runtime is not None


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_long_outputs_are_kept_beside_the_task(tasklist_dir: Path, isolation: str) -> None:
    [attempt] = one(tasklist_dir, "seq 20000; seq 30000 >&2; exit 1", isolation).attempts
    assert (tasklist_dir / attempt.log).read_text() == "".join(f"{n}\n" for n in range(1, 20001))
    assert (tasklist_dir / attempt.errors_log).read_text() == "".join(f"{n}\n" for n in range(1, 30001))
    assert attempt.log.startswith("fail/") and attempt.output.endswith("20000\n")


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_the_next_command_begins_with_empty_outputs(tasklist_dir: Path, isolation: str) -> None:
    tasks = TaskList(tasklist_dir)
    for line in ("seq 20000; seq 20000 >&2", "echo a; echo b >&2", "true", "echo c"):
        tasks.schedule(Command(line))
    ended = tasks.run(1, print_output=False, isolation=isolation)
    found = [(t.attempts[0].output, t.attempts[0].errors) for t in ended]
    assert found[1:] == [("a\n", "b\n"), ("", ""), ("c\n", "")]


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_a_line_that_is_too_long_for_an_argument(tasklist_dir: Path, isolation: str) -> None:
    task = one(tasklist_dir, f"# {'x' * 300_000}\necho done", isolation)
    assert task.attempts[0].output == "done\n"


def test_a_line_that_fits_into_no_record(tasklist_dir: Path) -> None:
    tasks = TaskList(tasklist_dir)
    with pytest.raises(InvalidArgument, match="into a file"):
        tasks.schedule(Command("x" * frames.MAX_RECORD))
    assert not list(tasks.run(1))


def test_environment_directory_and_limits(tasklist_dir: Path, tmp_path: Path) -> None:
    task = one(tasklist_dir, 'echo "$COLOUR $PWD $RUNFORREST_SLOT $RUNFORREST_TASK"', cwd=tmp_path,
               env={"COLOUR": "red"})
    assert task.attempts[0].output == f"red {tmp_path} 0 {task.scheduled.id}\n"


def test_a_command_that_runs_too_long_is_ended_with_all_it_started(tasklist_dir: Path, tmp_path: Path) -> None:
    task = one(tasklist_dir, f"sleep 1000 & echo $! > {tmp_path}/pid; trap '' TERM; sleep 1000", timeout=2, grace=0.5)
    assert isinstance(task.errorvalue, TimedOut)
    assert not Path(f"/proc/{int((tmp_path / 'pid').read_text())}").exists()


def test_what_is_left_in_the_background_is_ended(tasklist_dir: Path, tmp_path: Path) -> None:
    task = one(tasklist_dir, f"setsid sleep 1000 & echo $! > {tmp_path}/pid; echo hi")
    assert task.returnvalue == 0 and task.attempts[0].output == "hi\n"
    assert not Path(f"/proc/{int((tmp_path / 'pid').read_text())}").exists()


def test_memory_limit(tasklist_dir: Path) -> None:
    task = one(tasklist_dir, "x=$(head -c 200000000 /dev/zero | tr '\\0' x); sleep 100", memory=50 << 20,
               crash_limit=1)
    assert isinstance(task.errorvalue, OutOfMemory)


def test_retries_count_commands_that_fail(tasklist_dir: Path, tmp_path: Path) -> None:
    task = one(tasklist_dir, f"echo x >> {tmp_path}/log; test $(wc -l < {tmp_path}/log) = 3", retries=5, backoff=0)
    assert task.returnvalue == 0 and [a.outcome for a in task.attempts] == ["raised", "raised", "returned"]


def test_signals_that_python_ignores_end_a_command_as_they_should(tasklist_dir: Path) -> None:
    task = one(tasklist_dir, "yes | head -1; echo ${PIPESTATUS[0]}")
    assert task.attempts[0].output == f"y\n{128 + signal.SIGPIPE}\n"


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_a_command_inherits_nothing_that_is_ours(tasklist_dir: Path, isolation: str) -> None:
    """But its input, its outputs, and the pipe that ends it when its guard dies."""
    task = one(tasklist_dir, "ls -l /proc/$$/fd; grep -E '^Sig(Blk|Ign)' /proc/self/status; "
                             "cut -d ' ' -f 5,6 /proc/$$/stat; echo $$", isolation)
    *shown, ids, pid = task.attempts[0].output.splitlines()
    fds = {line.split()[-3]: line.split()[-1] for line in shown if " -> " in line}
    assert fds["0"] == "/dev/null"
    [leash] = fds.keys() - {"0", "1", "2"}
    assert int(leash) >= 20 and fds[leash].startswith("pipe:")
    signals = [int(line.split()[1], 16) & 0x7fffffff for line in shown if line.startswith("Sig")]
    assert signals == [0, 0], "none that has a name is blocked or ignored"
    assert ids.split() == [pid, pid], "a session of its own"


def test_a_command_that_can_not_be_started_says_why(tasklist_dir: Path) -> None:
    """Its environment is too long for the system."""
    task = one(tasklist_dir, "true", env={"LONG": "x" * 200_000})
    assert isinstance(task.errorvalue, OSError) and [a.outcome for a in task.attempts] == ["raised"]
    assert "Argument list too long" in str(task.errorvalue)


def test_calls_and_commands_in_one_list(tasklist_dir: Path) -> None:
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(os.getpid))
    tasks.schedule(Command("echo $$"))
    tasks.schedule(defer(len, "ab"))
    assert [type(t.returnvalue) for t in tasks.run(1, ordered=True, print_output=False)] == [int] * 3
    assert [t.errorvalue for t in tasks.done_tasks()] == [None] * 3


def test_a_command_can_be_run_here_and_now(capfd: pytest.CaptureFixture[str]) -> None:
    assert evaluate(defer(run, "echo here")) == 0 and capfd.readouterr().out == "here\n"
    with pytest.raises(CommandFailed) as caught:
        run("exit 7")
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.exit_code == 7 and str(again) == str(caught.value)


@pytest.mark.parametrize("line", ["", "  ", "a\0b", 3, None])
def test_what_is_no_command(tasklist_dir: Path, line: Any) -> None:
    tasks = TaskList(tasklist_dir)
    with pytest.raises(InvalidArgument, match="command"):
        tasks.schedule(Command(line))
    assert not list((tasklist_dir / "todo").iterdir())


# -- resources -------------------------------------------------------------------------------


def test_cores_and_tokens_limit_what_runs_side_by_side(tasklist_dir: Path, tmp_path: Path) -> None:
    tasks = TaskList(tasklist_dir)
    tmp_path /= "running"
    tmp_path.mkdir()
    for number in range(8):
        needs: dict[str, Any] = {"cores": 2} if number % 2 else {"cores": 0.5}
        weight = int(2 * needs["cores"])
        tasks.schedule(Command(f"mkdir {tmp_path}/r{number}.{weight}; sleep 0.5; ls {tmp_path}; "
                               f"rmdir {tmp_path}/r{number}.{weight}"), **needs)
    most = 0
    for task in tasks.run(3, print_output=False):
        assert task.returnvalue == 0
        most = max(most, sum(int(line.rpartition(".")[2]) for line in task.attempts[0].output.split()))
    assert 4 < most <= 6, "up to three cores, in halves"


def test_gpus_are_given_to_one_task_each(tasklist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While all three are at work."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-ab,MIG-cd")
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "0,1,2")
    tasks = TaskList(tasklist_dir)
    for gpus in (1, 2, 0):
        tasks.schedule(Command(f"touch {tmp_path}/at.{gpus}; until [ $(ls -d {tmp_path}/at.* | wc -l) = 3 ]; do sleep "
                               "0.05; done; echo $CUDA_VISIBLE_DEVICES/$ROCR_VISIBLE_DEVICES"), gpus=gpus)
    found = [task.attempts[0].output.strip() for task in tasks.run(3, print_output=False, ordered=True)]
    assert found == ["3/0", "GPU-ab,MIG-cd/1,2", "3,GPU-ab,MIG-cd/0,1,2"]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_tasks_that_ask_for_whole_cores_keep_to_them(tasklist_dir: Path, isolation: str) -> None:
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(os.sched_getaffinity, 0), cores=2)
    tasks.schedule(defer(os.sched_getaffinity, 0))
    found = [task.returnvalue for task in tasks.run(2, isolation=isolation, ordered=True)]
    assert found == [set(sorted(os.sched_getaffinity(0))[:2]), os.sched_getaffinity(0)]


def test_what_can_never_run_here_is_left_and_said(tasklist_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from runforrest.errors import Stopped
    tasks = TaskList(tasklist_dir)
    tasks.schedule(Command("true"), cores=64, name="big")
    tasks.schedule(Command("true"))
    with pytest.raises(Stopped, match="1 task in"):
        for task in tasks.run(2, print_output=False):
            assert task.returnvalue == 0
    assert "big needs 64 cores, and this runner has 2" in capfd.readouterr().err
    assert len(list((tasklist_dir / "todo").iterdir())) == 1


def test_a_cancelled_command(tasklist_dir: Path) -> None:
    from runforrest.cli.group import main
    tasks = TaskList(tasklist_dir)
    id = tasks.schedule(Command("sleep 1000"))

    def cancel() -> None:
        wait_for(lambda: files(tasklist_dir, "doing/*/*.pkl"))
        time.sleep(0.3)
        main(["cancel", str(tasklist_dir), id], standalone_mode=False)

    thread = threading.Thread(target=cancel)
    thread.start()
    [task] = tasks.run(1, print_output=False)
    thread.join()
    assert isinstance(task.errorvalue, Cancelled)
