"""Scripts and folders of RunForrest 0.4, used as they are.

Each script in ``scripts/`` was run with RunForrest 0.4.3 as well.  What it prints is in the text file beside
it; where that is not what RunForrest printed, ``BETTER`` says why.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from runforrest import TaskList
from tests.tasklist.programs import python

HERE = Path(__file__).parent
SCRIPTS = sorted(p.stem for p in (HERE / "scripts").glob("*.py") if p.stem != "lab")
BETTER = {
    "autokill": "a task that was ended is yielded, with the reason, and is in fail/: there it vanished",
    "main_globals": "functions of a script find its globals: there only with save_session",
    "print_errors": "the whole traceback, as its README says: there the exception alone",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_prints_what_it_printed_with_runforrest(script: str, tmp_path: Path) -> None:
    ended = python(HERE / "scripts" / f"{script}.py", cwd=tmp_path)
    assert plain(ended.stdout) == (HERE / "scripts" / f"{script}.txt").read_text(), BETTER.get(script, "")
    assert "Traceback" not in ended.stderr


def plain(text: str) -> str:
    """Without what differs from run to run, and from one Python to the next."""
    text = re.sub(r"\d{3}-\d{8}T\d{12}-\S+\.pkl", "NAME", text)
    text = re.sub(r'File ".*/', 'File "', text)
    return re.sub(r"^ *[~^]+\n", "", text, flags=re.MULTILINE)


# -- folders that RunForrest 0.4.3 made ------------------------------------------------------


def folder(name: str, tmp_path: Path) -> Path:
    """A copy, with the empty folders that git does not keep."""
    copied = tmp_path / name
    shutil.copytree(HERE / "runforrest043" / name, copied)
    for state in ("todo", "done", "fail"):
        (copied / state).mkdir(exist_ok=True)
    for path in (copied, *copied.rglob("*")):       # whatever umask they were checked out with
        path.chmod(0o755 if path.is_dir() else 0o644)
    return copied


def test_waiting_tasks_of_runforrest_are_run(tmp_path: Path) -> None:
    """A5: ``todo/UUID.pkl``, one dill pickle of a task each."""
    tasks = TaskList(folder("waiting", tmp_path), exist_ok=True, pre_clean=False)
    assert sorted(str(t.metadata) for t in tasks.todo_tasks()) == ["attribute", "items", "sum", "{'bad': True}"]
    run = tasks.run(nprocesses=2)
    assert len(run) == 4
    found = {str(t.metadata): t for t in run}
    bad = found.pop("{'bad': True}")
    assert {name: t.returnvalue for name, t in found.items()} == {"attribute": 4.0, "items": 6, "sum": 3}
    assert isinstance(bad.errorvalue, ZeroDivisionError) and bad.metadata == {"bad": True}
    assert all(isinstance(t.runtime, float) for t in found.values())
    assert len(list(tasks.done_tasks())) == 3 and len(list(tasks.fail_tasks())) == 1


def test_finished_tasks_of_runforrest_are_read(tmp_path: Path) -> None:
    """A5: ``done/`` and ``fail/``, with the results in the pickle."""
    tasks = TaskList(folder("finished", tmp_path), exist_ok=True, pre_clean=False)
    done = {t.metadata: t for t in tasks.done_tasks()}
    assert {m: t.returnvalue for m, t in done.items()} == {"attribute": 4.0, "items": 6, "sum": 3}
    assert all(t.errorvalue is None and 0 < t.runtime < 60 and t.attempts == [] for t in done.values())
    (bad,) = tasks.fail_tasks()
    assert isinstance(bad.errorvalue, ZeroDivisionError) and bad.returnvalue is None and bad.runtime > 0


def test_failed_task_of_runforrest_is_moved_back_and_fails_again(tmp_path: Path) -> None:
    directory = folder("finished", tmp_path)
    tasks = TaskList(directory, exist_ok=True, pre_clean=False)
    (directory / "fail" / "bad.pkl").rename(directory / "todo" / "bad.pkl")
    (bad,) = tasks.run(1)
    assert isinstance(bad.errorvalue, ZeroDivisionError) and [a.outcome for a in bad.attempts] == ["raised"]


def test_cleaning_a_folder_of_runforrest(tmp_path: Path) -> None:
    directory = folder("finished", tmp_path)
    (directory / "session.pkl").touch()
    TaskList(directory, noschedule_if_exist=True).clean()
    assert not directory.exists()


def test_data_tasks_of_runforrest(tmp_path: Path) -> None:
    """A1: ``defer(42)``."""
    tasks = TaskList(folder("data", tmp_path), exist_ok=True, pre_clean=False)
    assert {t.metadata: t.returnvalue for t in tasks.run(1)} == {"data": 42, "item": 2}


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="byte code of Python 3.11 in the pickle")
def test_lambdas_of_runforrest(tmp_path: Path) -> None:
    tasks = TaskList(folder("python311", tmp_path), exist_ok=True, pre_clean=False)
    assert [t.metadata for t in tasks.todo_tasks()] == ["lambda"]
    assert [t.returnvalue for t in tasks.run(1)] == [6]
