"""`run`: order, interruption, several at once, sessions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runforrest import Run, TaskList, defer, errors
from runforrest.folder import layout
from tests.helpers import has_ended, wait_for
from tests.tasklist import work
from tests.tasklist.programs import python, started

ISOLATIONS = ["process", "reuse"]


def new(directory: Path) -> TaskList:
    return TaskList(directory, durability="none")


def counts(directory: Path) -> tuple[int, ...]:
    return tuple(len(list((directory / state).glob("*.pkl"))) for state in ("todo", "done", "fail"))


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


# -- order -----------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_as_finished(tasklist_dir: Path, tmp_path: Path, isolation: str) -> None:
    """The first task ends only after the second has been yielded."""
    tasks, go = new(tasklist_dir), tmp_path / "go"
    tasks.schedule(defer(work.started_then_wait, str(tmp_path / "log"), str(go)), metadata="first")
    tasks.schedule(defer(abs, -1), metadata="second")
    seen = []
    for task in tasks.run(2, isolation=isolation):
        seen.append(task.metadata)
        go.touch()
    assert seen == ["second", "first"]


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_ordered(tasklist_dir: Path, tmp_path: Path, isolation: str) -> None:
    """The first task waits until the second has been published, and yet comes first."""
    tasks = new(tasklist_dir)
    tasks.schedule(defer(work.wait_for_a_file, str(tasklist_dir / "done"), "second"), metadata=1)
    tasks.schedule(defer(abs, -1), name="second", metadata=2)
    assert [t.metadata for t in tasks.run(2, ordered=True, isolation=isolation)] == [1, 2]


def test_ordered_is_by_priority_and_time(tasklist_dir: Path) -> None:
    tasks = new(tasklist_dir)
    for number in range(20):
        tasks.schedule(defer(abs, number), priority=number % 2)
    found = [t.returnvalue for t in tasks.run(4, ordered=True)]
    assert found == [*range(1, 20, 2), *range(0, 20, 2)]
    assert [t.returnvalue for t in tasks.done_tasks()] == found


def test_a_run_may_be_iterated_again(tasklist_dir: Path) -> None:
    """It has run what was there; the second time it yields that again."""
    tasks = new(tasklist_dir)
    for number in range(3):
        tasks.schedule(defer(abs, -number))
    run = tasks.run(2)
    assert sorted(t.returnvalue for t in run) == sorted(t.returnvalue for t in run) == [0, 1, 2]
    assert counts(tasklist_dir) == (0, 3, 0)


# -- several runs ----------------------------------------------------------------------------


def test_what_others_have_finished_is_yielded(tasklist_dir: Path) -> None:
    tasks = new(tasklist_dir)
    for number in range(4):
        tasks.schedule(defer(abs, -number if number else "x"), metadata=number)
    run = tasks.run(1, ordered=True)
    assert len(list(TaskList(tasklist_dir, exist_ok=True, pre_clean=False).run(2))) == 4
    assert counts(tasklist_dir) == (0, 3, 1) and sorted(t.metadata for t in run) == [0, 1, 2, 3]


def test_two_runs_in_threads(tasklist_dir: Path, tmp_path: Path) -> None:
    """Each task is executed once, and both yield all."""
    tasks, log = new(tasklist_dir), tmp_path / "log"
    for number in range(30):
        tasks.schedule(defer(work.noted, str(log), number))
    runs = [tasks.run(1), tasks.run(1)]
    found: dict[int, list[int]] = {}
    threads = [threading.Thread(target=lambda n=n, run=run: found.update({n: sorted(t.returnvalue for t in run)}))
               for n, run in enumerate(runs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: list(range(30)), 1: list(range(30))}
    assert sorted(map(int, lines(log))) == list(range(30))


def test_runs_interleaved(tasklist_dir: Path) -> None:
    """Two lists in one loop."""
    one, two = new(tasklist_dir), new(tasklist_dir.parent / "second")
    for number in range(3):
        one.schedule(defer(abs, -number))
        two.schedule(defer(abs, -number))
    pairs = [(a.returnvalue, b.returnvalue) for a, b in zip(one.run(1), two.run(1), strict=True)]
    assert len(pairs) == 3 and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_cleaning_under_a_run_is_refused(tasklist_dir: Path, tmp_path: Path) -> None:
    tasks, log, go = new(tasklist_dir), tmp_path / "log", tmp_path / "go"
    tasks.schedule(defer(abs, -1), priority=1)
    tasks.schedule(defer(work.started_then_wait, str(log), str(go)))
    for _ in tasks.run(1):
        if not go.exists():
            wait_for(lambda: lines(log))
            for attempt in (tasks.clean, lambda: TaskList(tasklist_dir, exist_ok=True)):
                with pytest.raises(errors.TaskListInUse, match="stop it first, or use another folder"):
                    attempt()
            go.touch()
    assert counts(tasklist_dir) == (0, 2, 0)


# -- leaving early ---------------------------------------------------------------------------

LOOP = """
from runforrest import TaskList, defer
from tests.tasklist.work import started_then_wait
tasks = TaskList({directory!r})
tasks.schedule(defer(abs, -1), metadata='quick', priority=1)
for number in range(4):
    tasks.schedule(defer(started_then_wait, {log!r}, {go!r}), metadata=number)
run = tasks.run(2, isolation={isolation!r})
{loop}
"""
INTERRUPTED = """
try:
    for task in run:
        print('got', task.metadata, flush=True)
except KeyboardInterrupt:
    print('interrupted', flush=True)
"""
KEPT = """
iterator = iter(run)
print('got', next(iterator).metadata, flush=True)
input()
"""


def loop(tasklist_dir: Path, tmp_path: Path, text: str = INTERRUPTED, isolation: str = "process") -> str:
    return LOOP.format(directory=str(tasklist_dir), log=str(tmp_path / "log"), go=str(tmp_path / "go"), loop=text,
                       isolation=isolation)


def interrupt(script: subprocess.Popen[str]) -> None:
    """Ctrl-C, and wait until it has been heard."""
    assert script.stderr
    script.send_signal(signal.SIGINT)
    heard = ""
    while "will be finished" not in heard:
        heard = script.stderr.readline()
        assert heard, "the script has ended"


def test_first_interrupt_finishes_and_yields_what_runs(tasklist_dir: Path, tmp_path: Path) -> None:
    with started(loop(tasklist_dir, tmp_path), tmp_path) as script:
        wait_for(lambda: len(lines(tmp_path / "log")) == 2, 30)
        interrupt(script)
        (tmp_path / "go").touch()
        out, err = script.communicate(timeout=30)
    assert out.splitlines()[0] == "got quick" and out.splitlines()[-1] == "interrupted", err
    assert sorted(out.splitlines()[1:-1]) == ["got 0", "got 1"]
    assert script.returncode == 0 and counts(tasklist_dir) == (2, 3, 0)


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_second_interrupt_ends_at_once(tasklist_dir: Path, tmp_path: Path, isolation: str) -> None:
    with started(loop(tasklist_dir, tmp_path, isolation=isolation), tmp_path) as script:
        wait_for(lambda: len(lines(tmp_path / "log")) == 2, 30)
        interrupt(script)
        script.send_signal(signal.SIGINT)
        out, err = script.communicate(timeout=30)
    assert out.splitlines() == ["got quick", "interrupted"], err
    assert counts(tasklist_dir) == (4, 1, 0) and all(has_ended(int(pid)) for pid in lines(tmp_path / "log"))
    assert not (tasklist_dir / "doing").exists()


def test_interrupt_that_nobody_catches(tasklist_dir: Path, tmp_path: Path) -> None:
    """A traceback, and the exit code that a shell expects."""
    with started(loop(tasklist_dir, tmp_path, "for task in run: print('got', flush=True)"), tmp_path) as script:
        wait_for(lambda: len(lines(tmp_path / "log")) == 2, 30)
        interrupt(script)
        (tmp_path / "go").touch()
        out, err = script.communicate(timeout=30)
    assert out == "got\n" * 3 and err.endswith("KeyboardInterrupt\n") and script.returncode == -signal.SIGINT


def test_sigterm(tasklist_dir: Path, tmp_path: Path) -> None:
    """What a batch system sends: tasks are put back, and the exit code says so."""
    with started(loop(tasklist_dir, tmp_path), tmp_path) as script:
        wait_for(lambda: len(lines(tmp_path / "log")) == 2, 30)
        script.terminate()
        script.communicate(timeout=30)
    assert script.returncode == 143 and counts(tasklist_dir) == (4, 1, 0)
    assert all(has_ended(int(pid)) for pid in lines(tmp_path / "log"))


def test_iterator_that_is_kept_until_the_interpreter_ends(tasklist_dir: Path, tmp_path: Path) -> None:
    """atexit ends what runs, and puts it back."""
    with started(loop(tasklist_dir, tmp_path, KEPT.replace("input()", "import time, os\nwhile not os.path.exists("
                      f"{str(tmp_path / 'leave')!r}): time.sleep(0.005)")), tmp_path) as script:
        wait_for(lambda: len(lines(tmp_path / "log")) == 2, 30)
        (tmp_path / "leave").touch()
        out, err = script.communicate(timeout=30)
    assert out == "got quick\n" and script.returncode == 0 and "Traceback" not in err
    assert counts(tasklist_dir) == (4, 1, 0) and all(has_ended(int(pid)) for pid in lines(tmp_path / "log"))
    assert not (tasklist_dir / layout.INTERNAL).exists()


def test_error_in_the_loop(tasklist_dir: Path, tmp_path: Path) -> None:
    """The user's own error comes through, and nothing is left running."""
    tasks, log = new(tasklist_dir), tmp_path / "log"
    tasks.schedule(defer(abs, -1), priority=1)
    tasks.schedule(defer(work.started_then_wait, str(log), str(tmp_path / "never")))
    with pytest.raises(ZeroDivisionError):
        for _ in tasks.run(2):
            wait_for(lambda: lines(log))
            raise ZeroDivisionError
    assert counts(tasklist_dir) == (1, 1, 0) and has_ended(int(lines(log)[0]))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# -- sessions and modules ----------------------------------------------------------------------

SESSION = """
import collections as co
from runforrest import TaskList, defer

VALUES = [1, 2, 3]
tasks = TaskList("list", post_clean=True)
for _ in range(2):
    tasks.schedule(defer(lambda: (sum(VALUES), co.Counter("aab")["a"], __import__("sys").modules["__main__"].VALUES)))
run = tasks.run(1, save_session=True)
other = tasks.run(2, save_session=True)
for task in run:
    print(task.returnvalue, task.errorvalue)
VALUES.append(4)
tasks.schedule(defer(lambda: __import__("__main__").VALUES))
print([t.returnvalue for t in tasks.run(1, save_session=True)], len(run), len(other))
"""


def test_save_session(tmp_path: Path) -> None:
    """The list, runs and finished tasks are globals of the session that is saved."""
    out = python("-c", SESSION, cwd=tmp_path).stdout
    assert out == "(6, 2, [1, 2, 3]) None\n" * 2 + "[[1, 2, 3, 4]] 2 2\n"
    assert not (tmp_path / "list").exists()


def test_session_that_can_not_be_saved(tmp_path: Path) -> None:
    """Nothing runs; the variable is named, and nothing is left."""
    code = ("import sys\nfrom runforrest import TaskList, defer\ntasks = TaskList('list')\n"
            "tasks.schedule(defer(abs, -1))\nculprit = sys._getframe()\n"
            "try:\n    list(tasks.run(1, save_session=True))\nexcept Exception as error:\n    print(error)\n")
    out = python("-c", code, cwd=tmp_path).stdout
    assert out.startswith("save_session: the variable culprit (frame) can't be pickled") and out.count("\n") == 1
    assert counts(tmp_path / "list") == (1, 0, 0) and not list((tmp_path / "list" / layout.TMP).iterdir())
    assert not (tmp_path / "list" / layout.SESSION).exists()


def test_a_run_survives_pickling_empty(tasklist_dir: Path) -> None:
    import pickle
    tasks = new(tasklist_dir)
    tasks.schedule(defer(abs, -1))
    copy: Run = pickle.loads(pickle.dumps(tasks.run()))
    assert len(copy) == 0 and list(copy) == [] and counts(tasklist_dir) == (1, 0, 0)


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_preload(tasklist_dir: Path, isolation: str) -> None:
    tasks = new(tasklist_dir)
    tasks.schedule(defer(lambda: "colorsys" in __import__("sys").modules))
    (task,) = tasks.run(1, isolation=isolation, preload=["colorsys"])
    assert task.returnvalue is True and "colorsys" not in sys.modules


def test_preload_that_fails(tasklist_dir: Path) -> None:
    """Before anything runs, with nothing lost."""
    tasks = new(tasklist_dir)
    tasks.schedule(defer(abs, -1))
    with pytest.raises(errors.InvalidArgument, match=r"no module 'no_such_module' on the import path"):
        tasks.run(1, preload=["no_such_module"])
    with pytest.raises(errors.ProcessError, match=r"preload of os.no_such failed: ModuleNotFoundError") as caught:
        list(tasks.run(1, preload=["os.no_such"]))
    assert "\n" not in str(caught.value) and counts(tasklist_dir) == (1, 0, 0)
    assert [t.returnvalue for t in tasks.run(1)] == [1]


@pytest.mark.parametrize("name, value", [
    ("isolation", "thread"), ("max_tasks", -1), ("preload", "numpy"), ("grace", -1), ("memory", -5),
    ("retries", "many"), ("crash_limit", 0), ("autokill", -1), ("autokill", "soon"), ("nprocesses", 0),
    ("time_left", "1h"), ("time_left", 0)])
def test_bad_arguments(tasklist_dir: Path, name: str, value: object) -> None:
    """At once, in one line, and nothing is changed."""
    tasks = new(tasklist_dir)
    tasks.schedule(defer(abs, -1))
    before = sorted(os.listdir(tasklist_dir / "todo"))
    with pytest.raises(errors.InvalidArgument, match=f"^{name} must be .* not ") as caught:
        tasks.run(**{name: value})  # type: ignore[arg-type]
    assert caught.value.argument == name and "\n" not in str(caught.value)  # type: ignore[attr-defined]
    assert sorted(os.listdir(tasklist_dir / "todo")) == before
