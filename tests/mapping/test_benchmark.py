"""The benchmark runs and prints its rows; what the numbers are depends on the machine."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks import mapping
from benchmarks.common import Report


def test_a_row_per_contender(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    mapping.arguments(parser)
    mapping.run(parser.parse_args(["-n", "20", "--rounds", "1", "--no-mpi", "--dir", str(tmp_path)]), Report("json"))
    rows = [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if "table" in line]
    assert [row["contender"] for row in rows] == [contender.name for contender in mapping.here(20)]
    assert all(row["min"] > 0 for row in rows)
    assert not list(tmp_path.iterdir()), "the scratch folder is still there"
