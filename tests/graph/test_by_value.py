"""Functions and classes of ``__main__``: pickled in one real process, used in another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import main_program

ROOT = Path(__file__).resolve().parent.parent.parent
CASES = main_program.CASES

# plain pickle must do: no dill here
LOADER = """
import pickle, sys
from runforrest.graph import evaluate
with open(sys.argv[1], "rb") as file:
    print(repr(evaluate(pickle.load(file))))
"""


def run(*arguments: str, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "random"}
    command = [sys.executable, "-W", "error", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    run(str(main_program.__file__), str(folder), cwd=folder)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_loads_in_a_fresh_interpreter(name: str, written: Path) -> None:
    file = written / f"{name}.dill"
    assert run("-c", LOADER, str(file), cwd=written).strip() == repr(CASES[name][1])


def test_long_chain_of_a_function_of_main(written: Path) -> None:
    assert run("-c", LOADER, str(written / "chain.dill"), cwd=written).strip() == "100000"
    assert (written / "chain.dill").stat().st_size < 5_000_000


def test_all_were_written(written: Path) -> None:
    assert {path.name for path in written.iterdir()} == {f"{name}.dill" for name in [*CASES, "chain"]}
