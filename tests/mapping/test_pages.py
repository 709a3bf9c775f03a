"""The pages about maps and MPI, and their examples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, environment
from tests.docs.test_examples import run_page
from tests.mapping.mpi import mpirun

EXAMPLES = ROOT / "examples"


@pytest.mark.parametrize("name", ["cached-map.md", "coming-from-an-mpi-script.md", "mpi.md"])
def test_page(name: str, tmp_path: Path, tasklist_dir: Path) -> None:
    run_page(DOCS / name, tmp_path, tasklist_dir.parent)


def test_example_cached_map(tmp_path: Path, tasklist_dir: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "cached_map.py"), str(tasklist_dir)]
    said = []
    for _ in range(2):
        ended = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, timeout=100)
        assert ended.returncode == 0, ended.stderr
        said.append(ended.stdout)
    assert "computed 0 of" in said[1] and "computed 0 of" not in said[0]


@pytest.mark.parametrize("name", ["mpi_tasker.py", "mpi_runners.py"])
def test_example_under_mpirun(name: str, tasklist_dir: Path) -> None:
    text = (EXAMPLES / name).read_text("utf-8")
    for _ in range(2):
        ended = mpirun(4, text, tasklist_dir.parent)
        assert ended.returncode == 0, ended.stderr
        assert "3.14" in ended.stdout
