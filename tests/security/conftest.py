"""A place that other users can reach, and the canary, which must not sing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runforrest.folder.signing import VARIABLE

from .planting import Canary


@pytest.fixture(autouse=True)
def counted(tried: Callable[[str, int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    tried("attacks on a task list", 1)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may enter, and only we may write to."""
    made = Path(tempfile.mkdtemp(prefix="runforrest-security-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def canary(place: Path) -> Canary:
    return Canary(place / "sang")
