"""Row by row: what RunForrest 0.4 does (A2, A3, A5), and the defects that it has (B) and this must not have.

The rows are those of the behaviour table that was made by reading and running RunForrest 0.4.3.
"""

from __future__ import annotations

import configparser
import gc
import inspect
import os
import pickle
import re
import stat
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from runforrest import Task, TaskList, defer, errors
from runforrest.folder import layout
from tests.helpers import has_ended, wait_for
from tests.tasklist import work
from tests.tasklist.programs import ROOT, python, started
from tests.tasks import raise_, segfault, unpicklable_value


def filled(directory: Path, count: int = 3, **arguments: Any) -> TaskList:
    """A list with ``abs(0)`` … in it, the number as metadata."""
    tasks = TaskList(directory, **arguments)
    for number in range(count):
        tasks.schedule(defer(abs, -number), metadata=number)
    return tasks


def counts(directory: Path) -> tuple[int, int, int]:
    """(todo, done, fail) as a person counts them."""
    return tuple(len(list((directory / state).glob("*.pkl"))) for state in ("todo", "done", "fail"))  # type: ignore[return-value]


def again(directory: Path) -> TaskList:
    return TaskList(directory, exist_ok=True, pre_clean=False)


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


# -- the signatures --------------------------------------------------------------------------


@pytest.mark.parametrize("function, expected", [
    (TaskList.__init__, {"directory": None, "exist_ok": False, "pre_clean": True, "post_clean": False, "logfile": None,
                         "noschedule_if_exist": False}),
    (TaskList.schedule, {"task": None, "metadata": None}),
    (TaskList.run, {"nprocesses": 4, "print_errors": False, "save_session": False, "autokill": None}),
    (TaskList.clean, {"clean_todo": True, "clean_done": True, "clean_fail": True}),
], ids=["TaskList", "schedule", "run", "clean"])
def test_arguments_by_place_are_runforrests(function: Any, expected: dict[str, Any]) -> None:
    """A2, A3: names, order and defaults; what is new is by keyword only."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    by_place = {p.name: None if p.default is p.empty else p.default for p in parameters if p.kind != p.KEYWORD_ONLY}
    assert by_place == expected and list(by_place) == list(expected)


# -- A2: TaskList(...) ------------------------------------------------------------------------


def test_new_directory(tasklist_dir: Path) -> None:
    """A2 new directory: with todo/, done/ and fail/; missing parents are made as well."""
    TaskList(tasklist_dir / "deep" / "deeper")
    assert counts(tasklist_dir / "deep" / "deeper") == (0, 0, 0)
    assert stat.S_IMODE((tasklist_dir / "deep" / "deeper" / "todo").stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_directory_in_any_form(tasklist_dir: Path, kind: Any) -> None:
    assert TaskList(kind(tasklist_dir)).directory == str(tasklist_dir)


def test_existing_directory_is_refused(tasklist_dir: Path) -> None:
    """A2 directory exists, defaults: RuntimeError with RunForrest's words, and more."""
    filled(tasklist_dir)
    with pytest.raises(RuntimeError, match=f"TaskList directory {tasklist_dir} already exists; exist_ok=True"):
        TaskList(tasklist_dir)
    assert counts(tasklist_dir) == (3, 0, 0)


def test_exist_ok_cleans(tasklist_dir: Path) -> None:
    """A2 exist_ok=True: the tasks that were there are removed."""
    list(filled(tasklist_dir).run(1))
    filled(tasklist_dir, 2, exist_ok=True)
    assert counts(tasklist_dir) == (2, 0, 0)


def test_durability_of_a_list_that_is_begun_anew(tasklist_dir: Path) -> None:
    for arguments, expected in (({}, "none"), ({"pre_clean": False}, "none"), ({}, "full")):
        TaskList(tasklist_dir, exist_ok=True, durability=expected if not arguments else "full", **arguments)
        assert f'"durability": "{expected}"' in (tasklist_dir / "runforrest.json").read_text()


def test_exist_ok_without_pre_clean_appends(tasklist_dir: Path) -> None:
    """A2 exist_ok=True, pre_clean=False: appends to what is there."""
    list(filled(tasklist_dir, 1).run(1))
    filled(tasklist_dir, 2, exist_ok=True, pre_clean=False)
    assert counts(tasklist_dir) == (2, 1, 0)


@pytest.mark.parametrize("others", [{}, {"exist_ok": True}, {"exist_ok": True, "pre_clean": True}])
def test_noschedule_if_exist(tasklist_dir: Path, others: dict[str, bool]) -> None:
    """A2 noschedule_if_exist: nothing is cleaned nor scheduled, what is left is run; it overrides the others."""
    tasks = filled(tasklist_dir, 2, noschedule_if_exist=True)
    assert counts(tasklist_dir) == (2, 0, 0)
    list(tasks.run(1))
    again(tasklist_dir).schedule(defer(abs, -7))
    tasks = filled(tasklist_dir, 5, noschedule_if_exist=True, **others)
    assert tasks.schedule(defer(abs, 1)) == "" and counts(tasklist_dir) == (1, 2, 0)
    assert [t.returnvalue for t in tasks.run(1)] == [7]


def test_post_clean(tasklist_dir: Path) -> None:
    """A2 post_clean: removed when the object goes away."""
    tasks = filled(tasklist_dir, post_clean=True)
    list(tasks.run(1))
    del tasks
    gc.collect()
    assert not tasklist_dir.exists()


def test_post_clean_is_not_done_by_a_fork(tasklist_dir: Path) -> None:
    """A program that forks, as multiprocessing does, has the list in both processes."""
    tasks = filled(tasklist_dir, post_clean=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)         # of forking with threads
        pid = os.fork()
    if pid == 0:
        try:
            del tasks
            gc.collect()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert counts(tasklist_dir) == (3, 0, 0)


def test_logfile_is_appended_to(tasklist_dir: Path, tmp_path: Path) -> None:
    """A2 logfile, A5: `YYYY-MM-DDTHH:MM:SS NAME EVENT`, one name through a task's life, and its output."""
    log = tmp_path / "log"
    log.write_text("from before\n")
    tasks = TaskList(tasklist_dir, logfile=log)
    tasks.schedule(defer(work.speak, 300))
    tasks.schedule(defer(raise_, ValueError, "bad"))
    list(tasks.run(1))
    first, *rest = lines(log)
    assert first == "from before"
    found: dict[str, list[str]] = {}
    for line in rest:
        match = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d (\S+\.pkl) (.*)", line)
        assert match, line
        found.setdefault(match[1], []).append(match[2])
    speak, bad = found.values()
    assert speak == ["schedule", "start", "output", *["| " + "x" * 99] * 3, "done"]
    assert bad == ["schedule", "start", "fail"]


def test_logfile_that_breaks_does_not_break_the_run(tasklist_dir: Path, tmp_path: Path,
                                                   capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "logs").mkdir()
    tasks = filled(tasklist_dir, 0, logfile=tmp_path / "logs" / "log")
    tasks.schedule(defer(abs, -1))
    (tmp_path / "logs" / "log").unlink()
    (tmp_path / "logs").rmdir()
    assert [t.returnvalue for t in tasks.run(1)] == [1]
    assert capfd.readouterr().err.count("the logfile can't be written") == 1


def test_logfile_that_can_not_be_written_is_refused(tasklist_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        TaskList(tasklist_dir, logfile=tmp_path / "nowhere" / "log")
    assert not tasklist_dir.exists()


# -- A3: methods ------------------------------------------------------------------------------


def test_schedule_sets_the_attributes_and_writes_a_file(tasklist_dir: Path) -> None:
    """A3 schedule: on the caller's object; the same task twice is two files."""
    tasks, task = TaskList(tasklist_dir), defer(abs, -3)
    first, second = tasks.schedule(task, {"a": 1}), tasks.schedule(task, metadata="b")
    assert (task.metadata, task.returnvalue, task.errorvalue) == ("b", None, None)
    assert counts(tasklist_dir) == (2, 0, 0) and first != second
    assert [t.metadata for t in tasks.run(1, ordered=True)] == [{"a": 1}, "b"]


def test_schedule_takes_functions_and_parts(tasklist_dir: Path) -> None:
    """A3 schedule: a bare lambda works, 5 does not."""
    tasks = TaskList(tasklist_dir)
    tasks.schedule(lambda: 5)
    tasks.schedule(defer(divmod, 7, 2)[1])
    tasks.schedule(defer(complex, 1, 2).imag)
    with pytest.raises(TypeError, match=r"not int 5; defer\(5\) makes one"):
        tasks.schedule(5)  # type: ignore[arg-type]
    assert [t.returnvalue for t in tasks.run(1, ordered=True)] == [5, 1, 2.0]


def test_run_is_lazy_and_has_a_length(tasklist_dir: Path, tmp_path: Path) -> None:
    """A3 run: lists todo now, nothing starts until it is iterated; what comes later waits for the next run."""
    tasks, log = TaskList(tasklist_dir), tmp_path / "log"
    for number in range(3):
        tasks.schedule(defer(work.noted, str(log), number))
    run = tasks.run(nprocesses=2)
    tasks.schedule(defer(work.noted, str(log), "late"))
    assert len(run) == 3 and not log.exists() and counts(tasklist_dir) == (4, 0, 0)
    assert not (tasklist_dir / "doing").exists() or not list((tasklist_dir / "doing").iterdir())
    assert sorted(t.returnvalue for t in run) == [0, 1, 2]
    assert len(run) == 3 and counts(tasklist_dir) == (1, 3, 0)
    assert [t.returnvalue for t in tasks.run()] == ["late"]


def test_run_of_nothing(tasklist_dir: Path) -> None:
    run = TaskList(tasklist_dir).run()
    assert len(run) == 0 and list(run) == []


def test_tasks_scheduled_during_iteration_wait(tasklist_dir: Path) -> None:
    """A3 run: they are for the next run."""
    tasks = filled(tasklist_dir, 3)
    seen = []
    for task in tasks.run(nprocesses=1):
        seen.append(task.returnvalue)
        tasks.schedule(defer(abs, -10 - task.returnvalue))
    assert sorted(seen) == [0, 1, 2] and counts(tasklist_dir) == (3, 3, 0)


def test_one_child(tasklist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A3 one child: in a session of its own, in the parent's working directory."""
    monkeypatch.chdir(tmp_path)
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(work.surroundings))
    (task,) = tasks.run()
    assert task.returnvalue["cwd"] == str(tmp_path) and task.returnvalue["session"]


def test_result_attributes(tasklist_dir: Path) -> None:
    """A3 result pick-up: returnvalue, errorvalue, metadata, runtime; on disk as on what is yielded."""
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(divmod, 7, 2), metadata=["m"])
    tasks.schedule(defer(divmod, 7, 0))
    for found in (list(tasks.run(1, ordered=True)), [*tasks.done_tasks(), *tasks.fail_tasks()]):
        good, bad = found
        assert (good.returnvalue, good.errorvalue, good.metadata) == ((3, 1), None, ["m"])
        assert (bad.returnvalue, type(bad.errorvalue), bad.metadata) == (None, ZeroDivisionError, None)
        assert type(good.runtime) is float and type(bad.runtime) is float


def test_print_errors(tasklist_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A3 print_errors: the full stack trace that the README promises; without it, nothing."""
    tasks = TaskList(tasklist_dir)
    for print_errors in (True, False):
        tasks.schedule(defer(raise_, KeyError, "missing"))
        list(tasks.run(1, print_errors))
        out = capfd.readouterr().out
        if print_errors:
            assert out.startswith("Error in ") and "in raise_" in out and out.endswith("KeyError: 'missing'\n")
        else:
            assert out == ""


def test_letters_that_the_terminal_lacks(tmp_path: Path) -> None:
    code = ("from runforrest import TaskList, defer\nfrom tests.tasklist.work import fail_with_letters\n"
            "tasks = TaskList('list')\ntasks.schedule(defer(fail_with_letters))\n"
            "print([type(t.errorvalue).__name__ for t in tasks.run(1, print_errors=True)])\n")
    out = python("-c", code, cwd=tmp_path, PYTHONIOENCODING="ascii").stdout
    assert out.startswith("\\xe5\\xdf\\u2202\nError in ") and out.endswith("['ValueError']\n")


def test_looking(tasklist_dir: Path) -> None:
    """A3 todo_tasks, done_tasks, fail_tasks: generators over the folders."""
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(abs, -1))
    tasks.schedule(defer(abs, "x"))
    assert all(isinstance(t, Task) and t.returnvalue is None for t in tasks.todo_tasks())
    list(tasks.run(1))
    tasks.schedule(defer(abs, -2))
    todo, done, fail = tasks.todo_tasks(), tasks.done_tasks(), tasks.fail_tasks()
    assert iter(todo) is todo
    assert [len(list(found)) for found in (todo, done, fail)] == [1, 1, 1]


@pytest.mark.parametrize("number, expected", [(0, (0, 1, 1)), (1, (1, 0, 1)), (2, (1, 1, 0))])
def test_clean_one_state(tasklist_dir: Path, number: int, expected: tuple[int, int, int]) -> None:
    """A3 clean: the chosen ones, by place."""
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(abs, -1))
    tasks.schedule(defer(abs, "x"))
    list(tasks.run(1))
    tasks.schedule(defer(abs, -1))
    tasks.clean(*(n == number for n in range(3)))
    assert counts(tasklist_dir) == expected


def test_files_keep_their_name(tasklist_dir: Path) -> None:
    """A5: the name begins with the same id in todo/, done/ and fail/, and the id is what schedule returned."""
    tasks = TaskList(tasklist_dir)
    ids = [tasks.schedule(defer(abs, -1)), tasks.schedule(defer(abs, "x"))]
    assert sorted(p.name for p in (tasklist_dir / "todo").iterdir()) == [f"{id}.pkl" for id in ids]
    list(tasks.run(1))
    assert [p.name.split(".")[0] for s in ("done", "fail") for p in (tasklist_dir / s).glob("*.pkl")] == ids


# -- B: defects that are not here --------------------------------------------------------------


def test_failed_constructor_cleans_nothing(tasklist_dir: Path) -> None:
    """B1: `TaskList('x', post_clean=True)` on an existing list."""
    filled(tasklist_dir)
    for arguments in ({}, {"exist_ok": True, "pre_clean": False, "durability": "no such level"}):
        with pytest.raises(errors.RunforrestError):
            TaskList(tasklist_dir, post_clean=True, **arguments)  # type: ignore[arg-type]
    gc.collect()
    assert counts(tasklist_dir) == (3, 0, 0)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_exit_inside_a_task_is_a_failure(tasklist_dir: Path, kind: Any) -> None:
    """B2"""
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(raise_, kind, 0))
    (task,) = tasks.run(1)
    assert type(task.errorvalue) is kind and counts(tasklist_dir) == (0, 0, 1)


def test_autokilled_tasks_are_yielded(tasklist_dir: Path) -> None:
    """B3, A3 autokill; also B23, an error in that very path."""
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(time.sleep, 1000), metadata="hangs")
    tasks.schedule(defer(abs, -1))
    run = tasks.run(nprocesses=2, autokill=1.5)
    found = {t.metadata: t for t in run}
    assert len(run) == len(found) == 2 and counts(tasklist_dir) == (0, 1, 1)
    assert isinstance(found["hangs"].errorvalue, TimeoutError) and found["hangs"].returnvalue is None


def test_much_output_with_a_logfile(tasklist_dir: Path, tmp_path: Path) -> None:
    """B4: 200 kB of prints are no deadlock."""
    tasks = TaskList(tasklist_dir, logfile=tmp_path / "log")
    tasks.schedule(defer(work.speak, 200_000))
    (task,) = tasks.run(1)
    assert task.returnvalue == 200_000 and task.attempts[-1].output_bytes == 200_000
    assert (tasklist_dir / task.attempts[-1].log).stat().st_size == 200_000


def test_child_left_behind_with_a_logfile(tasklist_dir: Path, tmp_path: Path) -> None:
    """B5: the run does not wait for it, and does not die of it."""
    tasks = TaskList(tasklist_dir, logfile=tmp_path / "log")
    tasks.schedule(defer(work.leave_a_child, str(tmp_path / "pids")))
    (task,) = tasks.run(1)
    assert task.returnvalue == "returned"
    assert has_ended(int(lines(tmp_path / "pids")[0]))


def test_breaking_out(tasklist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                      capfd: pytest.CaptureFixture[str]) -> None:
    """B6, B8: no ignored exception; running tasks are ended and put back, and nothing is left."""
    ignored: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    before = set(threading.enumerate())         # which other tests may have left
    tasks, log, never = TaskList(tasklist_dir), tmp_path / "log", tmp_path / "never"
    tasks.schedule(defer(abs, -1), priority=1)
    for _ in range(4):
        tasks.schedule(defer(work.started_then_wait, str(log), str(never)))
    for task in tasks.run(nprocesses=2):
        assert task.returnvalue == 1
        wait_for(lambda: len(lines(log)) == 2)
        break
    gc.collect()
    assert ignored == [] and all(has_ended(int(pid)) for pid in lines(log))
    assert counts(tasklist_dir) == (4, 1, 0) and not (tasklist_dir / layout.INTERNAL).exists()
    assert all(t.attempts == [] for t in tasks.todo_tasks())
    said = capfd.readouterr().err
    assert "ending 2 running tasks; they go back to todo/" in said and "stopping" not in said
    assert not [t for t in set(threading.enumerate()) - before if t.name.startswith("runforrest")]


def test_killed_parent_leaves_nothing_running(tasklist_dir: Path, tmp_path: Path) -> None:
    """B8: children end with their runner, and the tasks come back for the next run, once."""
    log, go = tmp_path / "log", tmp_path / "go"
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(work.started_then_wait, str(log), str(go)))
    with started(f"from runforrest import TaskList\n"
                 f"list(TaskList({str(tasklist_dir)!r}, exist_ok=True, pre_clean=False).run(1))", tmp_path) as script:
        wait_for(lambda: lines(log), 30)
        script.kill()
        script.wait()
    wait_for(lambda: has_ended(int(lines(log)[0])))
    go.touch()
    (task,) = tasks.run(1)
    assert counts(tasklist_dir) == (0, 1, 0) and [a.outcome for a in task.attempts] == ["lost", "returned"]


def test_two_runs_at_once(tasklist_dir: Path, tmp_path: Path) -> None:
    """B7: two processes on one folder: each task is executed once, and each run yields all."""
    log = tmp_path / "log"
    tasks = TaskList(tasklist_dir)
    for number in range(60):
        tasks.schedule(defer(work.noted, str(log), number))
    run = tasks.run(nprocesses=1)
    code = (f"from runforrest import TaskList\n"
            f"run = TaskList({str(tasklist_dir)!r}, exist_ok=True, pre_clean=False).run(1)\n"
            f"print('ready', flush=True)\n"
            f"print(len({{t.returnvalue for t in run}}), len(run))\n")
    with started(code, tmp_path) as other:
        assert other.stdout and other.stdout.readline() == "ready\n"
        assert sorted(t.returnvalue for t in run) == list(range(60))
        out, err = other.communicate(timeout=60)
    assert out == "60 60\n", err
    assert sorted(map(int, lines(log))) == list(range(60)) and counts(tasklist_dir) == (0, 60, 0)


@pytest.mark.parametrize("cut", [0, 20])
def test_poison_file(tasklist_dir: Path, cut: int) -> None:
    """B9: a truncated task is a failed task; the others are run."""
    tasks = filled(tasklist_dir, 3)
    middle = sorted((tasklist_dir / "todo").iterdir())[1]
    middle.write_bytes(middle.read_bytes()[:cut])
    assert len(list(tasks.todo_tasks())) == 3
    run = tasks.run(1)
    found = list(run)
    assert len(run) == len(found) == 3 and counts(tasklist_dir) == (0, 2, 1)
    (bad,) = [t for t in found if t.errorvalue]
    assert isinstance(bad.errorvalue, errors.Unloadable) and "schedule the task again" in str(bad.errorvalue)
    assert len(list(tasks.fail_tasks())) == 1 and list(tasks.run()) == []


def test_failing_schedule_leaves_nothing(tasklist_dir: Path) -> None:
    """B10: neither in todo/ nor elsewhere."""
    tasks = TaskList(tasklist_dir)
    with pytest.raises(errors.UnpicklableError, match="generator"):
        tasks.schedule(defer(len, (n for n in range(3))))
    assert [p for p in tasklist_dir.rglob("*") if p.is_file()] == [tasklist_dir / "runforrest.json"]


@pytest.mark.parametrize("task, kind, text", [
    (defer(segfault), errors.Crashed, "SIGSEGV"),
    (defer(os._exit, 3), errors.Crashed, "exit code 3"),
    (defer(unpicklable_value), errors.UnpicklableError, "generator"),
    (defer(raise_, UnicodeDecodeError, "x", b"y", 0, 1, "reason"), UnicodeDecodeError, "reason"),
], ids=["segfault", "exit", "unpicklable", "exception"])
def test_the_real_error_is_kept(tasklist_dir: Path, task: Task, kind: type, text: str) -> None:
    """B11, B12, B18: what ended it, where, and a runtime that is a number or None."""
    tasks = TaskList(tasklist_dir)
    tasks.schedule(task, crash_limit=1)
    (found,) = tasks.run(1, print_output=False)
    attempt = found.attempts[-1]
    assert isinstance(found.errorvalue, kind) and text in str(found.errorvalue)
    assert attempt.host and attempt.ended and ((attempt.pid and attempt.started) or attempt.outcome == "crashed")
    assert found.runtime is None or isinstance(found.runtime, float)
    with pytest.raises(kind):
        raise found.errorvalue


def test_python_is_this_python(tasklist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B16: whatever PATH has, or has not."""
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(work.surroundings))
    monkeypatch.setenv("PATH", str(tmp_path))
    (task,) = tasks.run(1)
    assert task.returnvalue["executable"] == sys.executable


def test_import_path_is_passed_on(tasklist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B17: what this process could import when it scheduled."""
    (tmp_path / "found_by_path.py").write_text("def f():\n    return 'found'\n")
    monkeypatch.syspath_prepend(tmp_path)
    import found_by_path  # type: ignore[import-not-found]
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(found_by_path.f))
    assert [t.returnvalue for t in tasks.run(1)] == ["found"]


def test_crash_while_scheduling(tasklist_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B19: a disk that fails in the middle of a write leaves no half of a task, and the list is usable."""
    tasks = filled(tasklist_dir, 1)

    def full(operation: str, args: tuple[object, ...]) -> None:
        if operation == "write":
            raise OSError(28, "No space left on device")

    tasks._fs.hook = full
    with pytest.raises(OSError, match="No space left"):
        tasks.schedule(defer(abs, -5))
    tasks._fs.hook = None
    assert counts(tasklist_dir) == (1, 0, 0) and not list((tasklist_dir / layout.TMP).iterdir())
    tasks.schedule(defer(abs, -6))
    assert [t.returnvalue for t in tasks.run(1, ordered=True)] == [0, 6]


def test_clean_spares_what_is_not_ours(tasklist_dir: Path) -> None:
    """B20: a sub-directory does not stop it half way, and stays."""
    tasks = filled(tasklist_dir)
    (tasklist_dir / "done" / "mine").mkdir()
    (tasklist_dir / "notes.txt").touch()
    list(tasks.run(1))
    tasks.clean()
    assert sorted(str(p.relative_to(tasklist_dir)) for p in tasklist_dir.rglob("*")) == [
        "done", "done/mine", "notes.txt"]


def test_list_is_usable_after_clean(tasklist_dir: Path) -> None:
    """B20: it is an empty list."""
    tasks = filled(tasklist_dir)
    tasks.clean()
    assert not tasklist_dir.exists()
    assert list(tasks.todo_tasks()) == list(tasks.done_tasks()) == list(tasks.fail_tasks()) == []
    tasks.clean()
    assert len(tasks.run()) == 0 and list(tasks.run()) == []
    tasks.clean()
    tasks.schedule(defer(abs, -5))
    assert [t.returnvalue for t in tasks.run(1)] == [5]
    tasks.clean(clean_todo=False, clean_fail=False)
    tasks.schedule(defer(abs, -6))
    assert [t.returnvalue for t in tasks.run(1)] == [6] and counts(tasklist_dir) == (0, 1, 0)


HALF = """
import os, sys
from runforrest import TaskList, defer
tasks = TaskList({directory!r}, noschedule_if_exist=True)
for number in range(5):
    tasks.schedule(defer(abs, -number))
    if number == 2:
        {end}
"""


@pytest.mark.parametrize("end, left", [("os._exit(1)", 3), ("raise ValueError", 3), ("break", 3)])
def test_half_scheduled_list(tasklist_dir: Path, tmp_path: Path, end: str, left: int) -> None:
    """B21: who died while it scheduled has scheduled nothing; who only stopped has scheduled what is there."""
    python("-c", HALF.format(directory=str(tasklist_dir), end=end), cwd=tmp_path, check=False)
    assert counts(tasklist_dir) == (left, 0, 0)
    tasks = filled(tasklist_dir, 5, noschedule_if_exist=True)
    assert counts(tasklist_dir) == ((3, 0, 0) if end == "break" else (5, 0, 0))
    assert len(list(tasks.run(1))) == (3 if end == "break" else 5)


def test_half_scheduled_list_that_others_have_begun(tasklist_dir: Path, tmp_path: Path) -> None:
    """B21: nothing that has been run is thrown away, nor run again."""
    python("-c", HALF.format(directory=str(tasklist_dir), end="os._exit(1)"), cwd=tmp_path, check=False)
    (first, *_) = (tasklist_dir / "todo").iterdir()
    first.rename(tasklist_dir / "done" / first.name)
    with pytest.warns(UserWarning, match="only half scheduled"):
        filled(tasklist_dir, 5, noschedule_if_exist=True)
    assert counts(tasklist_dir) == (2, 1, 0)


def test_platforms_are_stated() -> None:
    """B24: the metadata say POSIX."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    systems = [c for c in config["metadata"]["classifiers"].split("\n") if c.startswith("Operating System")]
    assert systems and not [s for s in systems if "Windows" in s or "Independent" in s]


@pytest.mark.parametrize("nprocesses", [0, -1, True, "4", None, float("nan"), float("inf"), 0.0])
def test_nprocesses_that_can_not_be(tasklist_dir: Path, nprocesses: Any) -> None:
    """B25: an error at once, not an endless loop."""
    tasks = filled(tasklist_dir, 1)
    with pytest.raises(ValueError, match="nprocesses must be a whole number, 1 or more, not"):
        tasks.run(nprocesses)
    assert counts(tasklist_dir) == (1, 0, 0)


def test_numbers_as_scripts_compute_them(tasklist_dir: Path) -> None:
    """RunForrest took any number; `cpu_count() / 2` is one."""
    numpy = pytest.importorskip("numpy")
    tasks = TaskList(tasklist_dir)
    for nprocesses, autokill in ((2.0, 0), (1.5, False), (numpy.int64(2), numpy.int64(60)), (numpy.float64(1), 60.0)):
        tasks.schedule(defer(abs, -1), priority=numpy.int8(3), timeout=numpy.float32(50), retries=numpy.int64(1))
        assert [t.returnvalue for t in tasks.run(nprocesses, False, False, autokill)] == [1]


def test_task_that_has_run_is_scheduled_again(tasklist_dir: Path) -> None:
    """`for task in tasks.fail_tasks(): tasks.schedule(task)` begins anew."""
    tasks = TaskList(tasklist_dir)
    tasks.schedule(defer(abs, "x"), metadata="m")
    (failed,) = tasks.run(1)
    tasks.schedule(failed, failed.metadata)
    (once_more,) = tasks.run(1)
    assert once_more.metadata == "m" and len(once_more.attempts) == 1
    assert pickle.loads(pickle.dumps(once_more)).metadata == "m"
