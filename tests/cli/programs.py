"""Starting `python -m runforrest` as a person does."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import runforrest as rf
from runforrest.cli import main

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = [sys.executable, "-m", "runforrest"]
SECONDS = 30


def environment(**more: str) -> dict[str, str]:
    """This one's, so that the package is found from everywhere."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}


def runforrest(*arguments: object, cwd: Path | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run([*COMMAND, *map(str, arguments)], cwd=cwd, env=environment(), stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=SECONDS, **more)


def inside(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The same in this process: for what only differs in its arguments."""
    out, err = io.StringIO(), io.StringIO()
    code: object = None
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main(list(map(str, arguments)))
        except SystemExit as error:
            code = error.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(list(arguments), code, out.getvalue(), err.getvalue())


@contextmanager
def start(*arguments: object, stderr: Path, stdout: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    """A command at work; what it says goes to a file, to be waited for.  A test that fails ends it."""
    with stderr.open("wb") as file:
        program = subprocess.Popen([*COMMAND, *map(str, arguments)], env=environment(), stdin=subprocess.DEVNULL,
                                   stdout=stdout, stderr=file)
    with ended(program):
        yield program


@contextmanager
def ended(program: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        if program.poll() is None:
            program.kill()
            program.wait()


def tasklist(directory: Path, *tasks: Any, **limits: Any) -> rf.TaskList:
    """A new list with these tasks in it."""
    made = rf.TaskList(directory, durability="none")
    for task in tasks:
        made.schedule(task, **limits)
    return made


def files(directory: Path, state: str) -> list[str]:
    """Names of the tasks in a state, without what the protocol adds."""
    return sorted(path.name.split("-", 3)[-1].split(".")[0] for path in (directory / state).glob("*.pkl"))
