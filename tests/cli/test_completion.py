"""Shell completion, help and version; the command line starts quickly."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from runforrest import defer
from runforrest.cli import main
from runforrest.cli.exits import OK, USAGE
from tests.cli import work
from tests.cli.programs import COMMAND, environment, files, inside, runforrest, tasklist


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(shell: str) -> None:
    ended = runforrest("completion", shell)
    assert ended.returncode == OK
    assert "runforrest" in ended.stdout and f"_RUNFORREST_COMPLETE={shell}_complete" in ended.stdout
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=ended.stdout, text=True).returncode == 0
    assert inside("completion", "csh").returncode == USAGE


def completed(line: str) -> list[str]:
    """What the shell would offer, by the way that click's script asks for it."""
    words = line.split(" ")
    more = {"_RUNFORREST_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    ended = subprocess.run(COMMAND, env=environment(**more), capture_output=True, text=True, check=True)
    return [text.partition(",")[2] for text in ended.stdout.splitlines() if text]


def test_commands_and_states() -> None:
    assert completed("runforrest st") == ["status", "stop"]
    assert completed("runforrest ls . do") == ["doing", "done"]
    assert "--isolation" in completed("runforrest run --i")


def test_tasks(tasklist_dir: Path) -> None:
    tasks = tasklist(tasklist_dir, defer(work.double, 1), defer(work.fail, 0))
    list(tasks.run(2, print_output=False))
    assert files(tasklist_dir, "fail") == ["fail"]
    assert completed(f"runforrest show {tasklist_dir} dou") == ["double"]
    ids = completed(f"runforrest show {tasklist_dir} 500-")
    assert [id.split("-", 3)[-1] for id in ids] == ["double", "fail"]
    assert completed(f"runforrest retry {tasklist_dir} dou") == []      # it has not failed
    (path,) = completed(f"runforrest retry {tasklist_dir} fail/")
    assert (tasklist_dir / path).exists()
    assert completed("runforrest show /nowhere x") == []


def test_help_names_everything() -> None:
    text = runforrest("--help").stdout
    assert all(f"  {name} " in text for name in main.commands) and "TASK.pkl OUT.pkl" in text
    for name, command in main.commands.items():
        help = inside(name, "-h").stdout
        assert command.help and help.startswith(f"Usage: runforrest {name} ")


def test_version() -> None:
    assert runforrest("--version").stdout.startswith("runforrest ")


def test_no_command_is_help_and_a_wrong_one_is_a_line() -> None:
    assert runforrest().returncode == USAGE
    ended = runforrest("statsu", ".")
    assert ended.returncode == USAGE and "No such command 'statsu'" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_help_loads_nothing_heavy() -> None:
    program = ("import sys; from runforrest.cli import main\ntry: main(['run', '--help'])\nexcept SystemExit: pass\n"
               "print([m for m in ('rich', 'psutil', 'dill', 'numpy') if m in sys.modules])")
    ended = subprocess.run([COMMAND[0], "-c", program], env=environment(), capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"
