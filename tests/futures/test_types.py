"""What a type checker knows of an executor's calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.typed import mypy_refuses

TYPED = """
from concurrent import futures
from runforrest import Executor, deferred

def area(width: int, unit: str = "m") -> float: ...

@deferred
def volume(width: int) -> float: ...

executor = Executor("list")
number: float = executor.submit(area, 3, unit="cm").result()
as_library: futures.Future[float] = executor.submit(area, 3)
standard: futures.Executor = executor.options(timeout=3)
executor.submit(area, volume(3))
executor.submit(volume, 3).result().anything
executor.submit(volume(3)).result().anything
several: list[float] = list(executor.map(area, [1, 2], buffersize=3))
"""
WRONG = ["executor.submit(area, '3')", "executor.submit(area)", "executor.submit(area, 3, size=4)",
         "text: str = executor.submit(area, 3).result()", "executor.submit(volume, '3')"]


@pytest.mark.slow
def test_calls_are_checked(tmp_path: Path) -> None:
    mypy_refuses(tmp_path, TYPED, WRONG)
