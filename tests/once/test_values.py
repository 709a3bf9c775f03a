"""Values as they are kept: JSON where that gives back exactly the same, else a pickle."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runforrest.once import values
from tests.hosts.machines import ROOT


@pytest.mark.parametrize("value", [None, True, 0, 1.5, float("inf"), "å", "\ud800", [1, [2]], {"a": {"b": []}}])
def test_json(value: Any) -> None:
    data = values.encode(value)
    assert data[:1] == b"j" and values.decode(data, "no pickle") == value


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, {"a": (1,)}, pytest.param(10**5000, id="long"), b"x", {"a"}])
def test_pickles(value: Any) -> None:
    data = values.encode(value)
    assert data[:1] == b"p" and values.decode(data) == value


def test_a_list_that_is_there_again_and_again() -> None:
    value: list[Any] = []
    for _ in range(60):                     # 2**60 lists for who follows each
        value = [value, value]
    found = values.decode(values.encode(value))
    assert found[0] is found[1]


MAIN = """
import dataclasses
from runforrest.once import run_once, value_of

@dataclasses.dataclass
class Found:
    number: int

@run_once("k", store="keys")
def find():
    return Found(5)

print([isinstance(found, Found) and found == Found(5) for found in (find(), find(), value_of("k", store="keys"))])
"""


def test_a_class_of_the_main_program_is_its_own(tmp_path: Path) -> None:
    for _ in range(2):
        ended = subprocess.run([sys.executable, "-c", MAIN], cwd=tmp_path, capture_output=True, text=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert ended.stdout == "[True, True, True]\n", ended.stderr
