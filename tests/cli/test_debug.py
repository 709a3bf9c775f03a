"""`python -m runforrest IN OUT`: one task in the foreground."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runforrest import Task, defer, scheduling
from runforrest.cli.exits import BROKEN, OK, RAISED, USAGE
from runforrest.cli.start import is_debug
from runforrest.errors import RemoteError, UnpicklableError
from tests.cli import work
from tests.cli.programs import COMMAND, SECONDS, environment, runforrest, tasklist


def infile(directory: Path, task: Any, **limits: Any) -> Path:
    tasklist(directory, task, **limits)
    (path,) = (directory / "todo").glob("*.pkl")
    return path


def result(path: Path) -> Task:
    with path.open("rb") as file:
        found = pickle.load(file)
    assert isinstance(found, Task)
    return found


def test_success(tasklist_dir: Path, tmp_path: Path) -> None:
    task, out = infile(tasklist_dir, defer(work.double, 21), metadata="meta"), tmp_path / "out.pkl"
    before = task.read_bytes()
    ended = runforrest(task, out)
    assert (ended.returncode, ended.stdout, ended.stderr) == (OK, "", "")
    found = result(out)
    assert (found.returnvalue, found.errorvalue, found.metadata) == (42, None, "meta")
    assert isinstance(found.runtime, float)
    assert task.read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))


def test_raised(tasklist_dir: Path, tmp_path: Path) -> None:
    task, out = infile(tasklist_dir, defer(work.fail, 0)), tmp_path / "out.pkl"
    out.write_text("an older file")
    ended = runforrest(task, out)
    assert (ended.returncode, ended.stdout, ended.stderr) == (RAISED, "about to fail\n", "")
    found = result(out)
    assert found.returnvalue is None and isinstance(found.errorvalue, ZeroDivisionError)
    assert isinstance(found.runtime, float)


@pytest.mark.parametrize("flag", ["-p", "--do_print"])
def test_print(tasklist_dir: Path, tmp_path: Path, flag: str) -> None:
    ended = runforrest(infile(tasklist_dir, defer(work.fail, 0)), tmp_path / "out.pkl", flag)
    assert ended.returncode == RAISED and ended.stderr == ""
    assert "return marker // x" in ended.stdout and ended.stdout.endswith("ZeroDivisionError: integer division or "
                                                                          "modulo by zero\n")


@pytest.mark.parametrize("flag", ["-r", "--do_raise"])
def test_raise(tasklist_dir: Path, tmp_path: Path, flag: str) -> None:
    out = tmp_path / "out.pkl"
    ended = runforrest(flag, infile(tasklist_dir, defer(work.fail, 0)), out)
    assert ended.returncode == BROKEN and "return marker // x" in ended.stderr
    assert isinstance(result(out).errorvalue, ZeroDivisionError)


def test_sys_exit_is_an_error(tasklist_dir: Path, tmp_path: Path) -> None:
    task, out = infile(tasklist_dir, defer(work.leave, 0)), tmp_path / "out.pkl"
    assert runforrest(task, out).returncode == RAISED
    assert isinstance(result(out).errorvalue, SystemExit)
    ended = runforrest(task, out, "-r")
    assert ended.returncode == BROKEN and "the task called sys.exit(0)" in ended.stderr


def test_debugger_stops_in_the_users_function(tasklist_dir: Path, tmp_path: Path) -> None:
    task = infile(tasklist_dir, defer(work.fail, 0))
    commands = [part for text in ("continue", "where", "p 'marker', marker", "q", "q") for part in ("-c", text)]
    # pdb of exactly 3.13.0 takes options of the program for its own, unless they come after a `--`
    dashes = ["--"] if sys.version_info[:3] == (3, 13, 0) else []
    ended = subprocess.run([sys.executable, "-m", "pdb", *commands, "-m", "runforrest", *dashes, str(task),
                            str(tmp_path / "out.pkl"), "-r"], env=environment(), stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=SECONDS)
    assert "Entering post mortem debugging" in ended.stdout
    where, _, after = ended.stdout.partition("('marker', 41)")
    assert where.rstrip().endswith("-> return marker // x")     # the innermost frame, with `>` in front
    assert "> " + work.__file__ in where and after


def test_session(tmp_path: Path) -> None:
    """A function of `__main__` that uses a variable of the session."""
    program = ("from runforrest import TaskList, defer\nimport dill\nfactor = 6\ndef f(x):\n    return factor * x\n"
               "TaskList('tl').schedule(defer(f, 7))\ndill.dump_module('session.pkl')\n")
    (tmp_path / "program.py").write_text(program)
    subprocess.run([COMMAND[0], "program.py"], cwd=tmp_path, env=environment(), check=True)
    (task,) = (tmp_path / "tl" / "todo").glob("*.pkl")
    ended = runforrest(task.relative_to(tmp_path), "out.pkl", "--sessionfile", "session.pkl", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (OK, "")
    read = "import pickle; print(pickle.load(open('out.pkl', 'rb')).returnvalue)"
    assert subprocess.check_output([COMMAND[0], "-c", read], cwd=tmp_path, env=environment()) == b"42\n"


def test_a_pickle_of_another_python(tasklist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "PYTHON", "2.7.18")
    ended = runforrest(infile(tasklist_dir, defer(work.double, 4)), tmp_path / "out.pkl")
    assert ended.returncode == BROKEN and "pickled by Python 2.7.18" in ended.stderr


def test_the_current_folder_breaks_no_command(tmp_path: Path) -> None:
    """It is last on the import path, where `python -m` has it first; a debugged task has the path of its own."""
    for name in ("token", "tokenize", "json", "click", "shutil"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed ' + __name__)\n")
    ended = subprocess.run([sys.executable, "-m", "runforrest", "--version"], cwd=tmp_path, capture_output=True,
                           text=True, timeout=60)
    assert ended.returncode == OK and ended.stdout.startswith("runforrest "), ended.stderr


def test_surroundings_of_the_task(tasklist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs where, and with what import path, it was scheduled; IN and OUT are relative to where one is."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    monkeypatch.chdir(tmp_path)
    task = infile(tasklist_dir, defer(work.where), env={"FROM_TASK": "yes"})
    ended = runforrest(task.name, "out.pkl", cwd=task.parent)
    assert ended.returncode == OK, ended.stderr
    assert result(task.parent / "out.pkl").returnvalue == (str(tmp_path), "yes", str(tmp_path / "elsewhere"))


def test_file_of_a_task_that_has_run(tasklist_dir: Path, tmp_path: Path) -> None:
    list(tasklist(tasklist_dir, defer(work.fail, 0)).run(1, print_output=False))
    (path,) = (tasklist_dir / "fail").glob("*.pkl")
    assert runforrest(path, tmp_path / "out.pkl").returncode == RAISED


def test_bare_pickle(tmp_path: Path) -> None:
    """As RunForrest wrote them: no frames; the name of the file says nothing."""
    (tmp_path / "bare").write_bytes(pickle.dumps(defer(work.double, 4)))
    assert runforrest("bare", "out", cwd=tmp_path).returncode == OK
    assert result(tmp_path / "out").returnvalue == 8


def test_value_that_does_not_pickle(tasklist_dir: Path, tmp_path: Path) -> None:
    task, out = infile(tasklist_dir, defer(work.unpicklable)), tmp_path / "out.pkl"
    assert runforrest(task, out).returncode == RAISED
    assert isinstance(result(out).errorvalue, UnpicklableError)
    assert result(out).returnvalue is None


@pytest.mark.parametrize(("arguments", "expected"), [
    (["missing.pkl", "out.pkl"], "there is no task file"), (["garbage.pkl", "out.pkl"], "can't be unpickled"),
    (["good.pkl", "out.pkl", "-s", "nowhere"], "there is no session file nowhere"),
    (["good.pkl", "out.pkl", "-s", "garbage.pkl"], "can't be loaded"),
    (["good.pkl", "no/such/folder/out.pkl"], "can't be written"),
])
def test_bad_input(tmp_path: Path, arguments: list[str], expected: str) -> None:
    (tmp_path / "garbage.pkl").write_bytes(b"garbage")
    (tmp_path / "good.pkl").write_bytes(pickle.dumps(defer(work.double, 4)))
    ended = runforrest(*arguments, cwd=tmp_path)
    assert ended.returncode == BROKEN
    assert expected in ended.stderr and ended.stderr.startswith("Error: ") and ended.stderr.count("\n") == 1
    assert not (tmp_path / "out.pkl").exists()


def test_wrong_use(tmp_path: Path) -> None:
    assert runforrest("only-one.pkl", cwd=tmp_path).returncode == USAGE


def test_which_of_the_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "run").touch()
    assert is_debug(["in.pkl", "out"]) and is_debug(["file", "out"]) and is_debug(["-rp", "file", "out"])
    assert is_debug(["--session", "s", "a", "b"]) and is_debug(["--do_raise", "a", "b"])
    assert not any(map(is_debug, ([], ["run", "x"], ["--help"], ["-h"], ["--version"], ["statsu", "x"])))


def test_errors_that_do_not_pickle(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "class Odd(Exception):\n    def __init__(self, a, b):\n        super().__init__(a)\n"
        "def f():\n    raise Odd(1, 2)\n")
    program = "import pickle, runforrest, odd; pickle.dump(runforrest.defer(odd.f), open('in.pkl', 'wb'))"
    subprocess.run([COMMAND[0], "-c", program], cwd=tmp_path, env=environment(), check=True)
    ended = runforrest("in.pkl", "out.pkl", "-p", cwd=tmp_path)
    assert ended.returncode == RAISED and "odd.Odd: 1" in ended.stdout
    sys.path.insert(0, str(tmp_path))
    try:
        assert isinstance(result(tmp_path / "out.pkl").errorvalue, RemoteError)
    finally:
        sys.path.remove(str(tmp_path))
