"""Fixtures of the folder's tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """A private folder in memory, where there is such a thing: for proofs that make thousands of lists."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="runforrest-test-", dir=memory) as folder:
        yield Path(folder)
