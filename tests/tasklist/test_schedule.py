"""What `schedule` takes beyond RunForrest's arguments, and what it refuses."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from runforrest import TaskList, defer, errors
from tests.tasklist import work
from tests.tasklist.programs import python


def tree(directory: Path) -> dict[str, bytes | None]:
    """Everything in a folder, to see that nothing was changed."""
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(directory.rglob("*"))}


def new(directory: Path) -> TaskList:
    return TaskList(directory, durability="none")


@pytest.mark.parametrize("name", ["fit", "a/b c", "../../up", "line\nbreak", "å∂ß", "x" * 500, ".t1-ab", "..",
                                  "x.lost2"])
def test_name(tasklist_dir: Path, name: str) -> None:
    """It is in the file names, as far as these can have it, and whole in ``task.scheduled``."""
    tasks = new(tasklist_dir)
    id = tasks.schedule(defer(abs, -1), name=name)
    (file,) = (tasklist_dir / "todo").iterdir()
    assert file.name == f"{id}.pkl" and len(file.name) < 256
    (task,) = tasks.todo_tasks()
    assert task.scheduled.name == name and task.scheduled.label == "abs" and task.scheduled.id == id
    assert name != "fit" or file.name.endswith("-fit.pkl")


def test_names_of_functions(tasklist_dir: Path) -> None:
    tasks = new(tasklist_dir)
    ids = [tasks.schedule(t) for t in (defer(os.getpid), defer(lambda: 1), defer(divmod, 1, 2)[0], defer(7))]
    assert [id.split("-", 3)[3] for id in ids] == ["getpid", "lambda", "divmod[0]", "data_int"]


def test_priority(tasklist_dir: Path) -> None:
    """The higher first; among equals, as they were scheduled."""
    tasks = new(tasklist_dir)
    for number, priority in enumerate((0, -499, 5, 499, 5, 0)):
        tasks.schedule(defer(abs, number), priority=priority)
    assert [t._args[0] for t in tasks.todo_tasks()] == [3, 2, 4, 0, 5, 1]
    assert [t.returnvalue for t in tasks.run(1)] == [3, 2, 4, 0, 5, 1]


def test_timeout_of_a_task_goes_before_autokill(tasklist_dir: Path) -> None:
    tasks = new(tasklist_dir)
    tasks.schedule(defer(time.sleep, 1000), timeout=0.1, grace=0)
    tasks.schedule(defer(time.sleep, 0.3), timeout=60)
    tasks.schedule(defer(time.sleep, 1000), grace=0)
    short, long, default = tasks.run(3, autokill=0.2, ordered=True)
    assert isinstance(short.errorvalue, errors.TimedOut) and "0.1 s" in str(short.errorvalue)
    assert long.errorvalue is None
    assert isinstance(default.errorvalue, errors.TimedOut) and "0.2 s" in str(default.errorvalue)


def test_retries(tasklist_dir: Path, tmp_path: Path) -> None:
    """Yielded once, with all its attempts."""
    tasks = new(tasklist_dir)
    tasks.schedule(defer(work.fails_until, str(tmp_path / "a"), 2), retries=2, backoff=0.01)
    tasks.schedule(defer(work.fails_until, str(tmp_path / "b"), 2), backoff=0.01)
    enough, too_few = tasks.run(2, retries=1, ordered=True)
    assert enough.returnvalue == 3 and [a.outcome for a in enough.attempts] == ["raised", "raised", "returned"]
    assert str(too_few.errorvalue) == "failure 2" and [a.number for a in too_few.attempts] == [1, 2]


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_env_and_cwd(tasklist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolation: str) -> None:
    """Set and unset for one task, and as they were for the next."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TO_BE_REMOVED", "there")
    (tmp_path / "elsewhere").mkdir()
    tasks = new(tasklist_dir)
    names = ("ADDED", "TO_BE_REMOVED", "PATH")
    tasks.schedule(defer(work.surroundings, *names), env={"ADDED": "å=∂\n", "TO_BE_REMOVED": None}, cwd="elsewhere")
    tasks.schedule(defer(work.surroundings, *names))
    changed, plain = (t.returnvalue for t in tasks.run(1, ordered=True, isolation=isolation))
    path = os.environ["PATH"]
    assert changed["env"] == {"ADDED": "å=∂\n", "TO_BE_REMOVED": None, "PATH": path}
    assert changed["cwd"] == str(tmp_path / "elsewhere")
    assert plain["env"] == {"ADDED": None, "TO_BE_REMOVED": "there", "PATH": path} and plain["cwd"] == str(tmp_path)
    assert os.environ["TO_BE_REMOVED"] == "there" and os.getcwd() == str(tmp_path)


def test_missing_cwd(tasklist_dir: Path, tmp_path: Path) -> None:
    """One that was asked for must be there; the one of the scheduling process need not."""
    tasks = new(tasklist_dir)
    tasks.schedule(defer(os.getcwd), cwd=tmp_path / "missing")
    tasks.schedule(defer(abs, -1))
    (bad, good) = tasks.run(1, ordered=True)
    assert isinstance(bad.errorvalue, FileNotFoundError) and str(tmp_path / "missing") in str(bad.errorvalue)
    assert good.returnvalue == 1


def test_cwd_of_the_scheduling_process_is_gone(tasklist_dir: Path, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, gone = new(tasklist_dir), tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    tasks.schedule(defer(abs, -1))
    monkeypatch.chdir(tmp_path)
    gone.rmdir()
    assert [t.returnvalue for t in tasks.run(1)] == [1]


def cyclic() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["itself"] = found
    return found


class Shy:
    def __repr__(self) -> str:
        raise ValueError("no repr")


@pytest.mark.parametrize("metadata", [
    "text", 0, b"\xff", ("tuple", 1), {1: 2, (3, 4): {5}}, float("nan"), 10 ** 5000, cyclic(), Shy(), ["x" * 200_000]],
    ids=["text", "zero", "bytes", "tuple", "keys", "nan", "big", "cyclic", "shy", "long"])
def test_any_metadata(tasklist_dir: Path, metadata: Any) -> None:
    """Whatever can be pickled, also what JSON, in which the envelope repeats it, can't say."""
    tasks = new(tasklist_dir)
    tasks.schedule(defer(abs, -1), metadata=metadata)
    (task,) = tasks.todo_tasks()
    assert type(task.metadata) is type(metadata)
    if not isinstance(metadata, (Shy, float)) and metadata != "cyclic" and "itself" not in (
            metadata if isinstance(metadata, dict) else ()):
        assert task.metadata == metadata


@pytest.mark.parametrize("arguments, argument", [
    ({"timeout": -1}, "timeout"), ({"timeout": 0}, "timeout"), ({"timeout": "5"}, "timeout"),
    ({"timeout": float("inf")}, "timeout"), ({"grace": -0.1}, "grace"), ({"memory": 0}, "memory"),
    ({"retries": -1}, "retries"), ({"retries": 1.5}, "retries"), ({"retries": {"crashed": 1}}, "retries"),
    ({"crash_limit": 0}, "crash_limit"), ({"backoff": -1}, "backoff"), ({"priority": 500}, "priority"),
    ({"priority": 1.5}, "priority"), ({"name": ""}, "name"), ({"name": 5}, "name"), ({"env": "A=b"}, "env"),
    ({"env": {"A": 1}}, "env"), ({"env": {"A=B": "c"}}, "env"), ({"env": {"": "c"}}, "env"),
    ({"env": {"A": "b\0c"}}, "env"), ({"cwd": 5}, "cwd"),
], ids=str)
def test_bad_arguments(tasklist_dir: Path, arguments: dict[str, Any], argument: str) -> None:
    """One line that names the argument and its value; nothing is scheduled."""
    tasks = new(tasklist_dir)
    before = tree(tasklist_dir)
    with pytest.raises(ValueError) as caught:
        tasks.schedule(defer(abs, -1), **arguments)
    assert isinstance(caught.value, errors.InvalidArgument) and caught.value.argument == argument  # type: ignore[attr-defined]
    assert argument in str(caught.value) and "not" in str(caught.value) and "\n" not in str(caught.value)
    assert tree(tasklist_dir) == before


def test_what_can_not_be_pickled_is_named(tasklist_dir: Path) -> None:
    """At `schedule`, with the way to it; nothing is scheduled."""
    tasks = new(tasklist_dir)
    lock = sys._getframe()
    before = tree(tasklist_dir)
    for task, metadata, words in ((defer(len, {"frames": [lock]}), None, "frames"),
                                  (defer(lambda: lock), None, "lock"),
                                  (defer(abs, -1), {"key": lock}, "metadata")):
        with pytest.raises(errors.UnpicklableError, match=words) as caught:
            tasks.schedule(task, metadata)
        assert "frame" in str(caught.value) and "\n" not in str(caught.value)
    assert tree(tasklist_dir) == before


def test_many_threads_schedule(tasklist_dir: Path) -> None:
    tasks = new(tasklist_dir)
    threads = [threading.Thread(target=lambda: [tasks.schedule(defer(abs, -n)) for n in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(tasks.todo_tasks())) == 200


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_tasks_schedule_tasks(tasklist_dir: Path, isolation: str) -> None:
    """What a task schedules is for the next run."""
    tasks = new(tasklist_dir)
    tasks.schedule(defer(work.schedule_more, str(tasklist_dir), 2))
    rounds = []
    while len(run := tasks.run(2, isolation=isolation)):
        rounds.append([t.returnvalue for t in run])
    assert rounds == [[2], [1, 1], [0, 0, 0, 0]]


def test_the_list_itself_may_be_an_argument(tasklist_dir: Path) -> None:
    """Its copy in the child schedules, too, and never cleans up."""
    tasks = TaskList(tasklist_dir, post_clean=True)
    tasks.schedule(defer(lambda: len(tasks.schedule(defer(abs, -4)))))
    (task,) = tasks.run(1)
    assert task.returnvalue > 20 and [t.returnvalue for t in tasks.run(1)] == [4]


# -- where functions come from ------------------------------------------------------------------

PROGRAM = """
import math
from runforrest import TaskList, defer

FACTOR = 3

class Shape:
    def __init__(self, side):
        self.side = side
    def area(self):
        return math.floor(self.side ** 2 * FACTOR)

def make(offset):
    def inner(x):
        return helper(x) + offset
    return inner

def helper(x):
    return Shape(x).area()

tasks = TaskList("list")
for task in (defer(helper, 2), defer(make(1), 2), defer(lambda: FACTOR), defer(Shape(3).area), defer(Shape, 4).side):
    tasks.schedule(task)
print([t.returnvalue if t.errorvalue is None else t.errorvalue for t in tasks.run(2, ordered=True)])
"""


@pytest.mark.parametrize("way", ["stdin", "command", "cell", "file"])
def test_functions_of_main(tmp_path: Path, way: str) -> None:
    """A script, `python - < script`, `python -c`, and a notebook's cell, which has no file."""
    (tmp_path / "script.py").write_text(PROGRAM)
    cell = f"import __main__\nexec(compile({PROGRAM!r}, '<ipython-input-1>', 'exec'), vars(__main__))"
    arguments = {"stdin": ["-"], "command": ["-c", PROGRAM], "cell": ["-c", cell], "file": ["script.py"]}[way]
    ended = python(*arguments, cwd=tmp_path, stdin=PROGRAM if way == "stdin" else "")
    assert ended.stdout == "[12, 13, 3, 27, 4]\n", ended.stderr


def test_local_module_from_another_folder(tasklist_dir: Path, tmp_path: Path) -> None:
    """A script with a module beside it schedules; this process, which knows nothing of either, runs."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    (project / "a_local_module.py").write_text("def double(x):\n    return 2 * x\n")
    (project / "script.py").write_text(
        f"from a_local_module import double\nfrom runforrest import TaskList, defer\n"
        f"tasks = TaskList({str(tasklist_dir)!r})\ntasks.schedule(defer(double, 4))\n"
        f"tasks.schedule(defer(lambda: double(5)))\n")
    python(project / "script.py", cwd=elsewhere)
    tasks = TaskList(tasklist_dir, exist_ok=True, pre_clean=False)
    assert "a_local_module" not in sys.modules
    assert [(t.returnvalue, t.errorvalue) for t in tasks.run(1, ordered=True)] == [(8, None), (10, None)]
