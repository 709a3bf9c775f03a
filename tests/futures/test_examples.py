"""The programs in examples/ that use executors: they run, and say what they found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import runforrest
from runforrest.runs import Run
from tests.cli.programs import ROOT, environment
from tests.futures.support import SECONDS, no_runner_left

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(runforrest, "Executor"), reason="not at top level yet")]


def example(name: str, folder: Path) -> str:
    ended = subprocess.run([sys.executable, str(ROOT / "examples" / name), str(folder)], cwd=folder, env=environment(),
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           timeout=SECONDS)
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def test_attach(tasklist_dir: Path) -> None:
    said = example("futures_attach.py", tasklist_dir.parent)
    assert "it was killed" in said and "12 results wanted, 12 there" in said
    no_runner_left(tasklist_dir)


def test_grid_search(tasklist_dir: Path) -> None:
    pytest.importorskip("sklearn")
    said = example("sklearn_grid_search.py", tasklist_dir.parent)
    assert "best: {'C': 10.0, 'gamma': 0.001} with 0.9" in said and "with 27 fits took" in said
    no_runner_left(tasklist_dir)


def test_dask(tasklist_dir: Path) -> None:
    pytest.importorskip("distributed")
    said = example("dask_runners.py", tasklist_dir.parent)
    assert "digits: [4, 31, 302]" in said and "exit codes: [0, 0]" in said


@pytest.mark.skipif(not hasattr(Run, "__aiter__"), reason="runs can't be iterated by asyncio yet")
def test_asyncio(tasklist_dir: Path) -> None:
    said = example("asyncio_calls.py", tasklist_dir.parent)
    assert "steps: [8, 111, 118, 178]" in said and "too long: TimedOut" in said and "meanwhile: True" in said
