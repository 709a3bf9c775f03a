"""The processes of tasks run with the options of the Python that has started them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hosts.machines import ROOT

PROGRAM = """
import sys
from runforrest import Executor, TaskList, defer

def found():
    return __debug__, bool(sys.flags.dont_write_bytecode), sys.flags.dev_mode, "error::UserWarning" in sys.warnoptions

folder = sys.argv[1]
for isolation in ("process", "reuse"):
    tasks = TaskList(f"{folder}/{isolation}")
    tasks.schedule(defer(found))
    print(*[task.returnvalue for task in tasks.run(nprocesses=1, isolation=isolation)])
with Executor(f"{folder}/executor", max_workers=1) as executor:
    print(executor.submit(found).result())
"""


@pytest.mark.parametrize("options, seen", [
    ([], (True, False, False, False)),
    (["-O", "-B", "-W", "error::UserWarning"], (False, True, False, True)),
    (["-X", "dev"], (True, False, True, False))])
def test_options_are_handed_on(tmp_path: Path, options: list[str], seen: tuple[bool, ...]) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    (tmp_path / "lists").mkdir(0o700)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ended = subprocess.run([sys.executable, *options, str(program), str(tmp_path / "lists")],
                           env={**environment, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True, check=True)
    assert ended.stdout.split("\n") == [str(seen)] * 3 + [""]
