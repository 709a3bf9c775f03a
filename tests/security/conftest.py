"""A place that other users can reach, and the canary, which must not sing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runforrest.folder.signing import VARIABLE

from .planting import Canary, reachable


@pytest.fixture(autouse=True)
def counted(tried: Callable[[str, int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    tried("attacks on a task list", 1)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may enter, and only we may write to."""
    folders = [folder for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm") if reachable(folder)]
    if not folders:
        pytest.skip("there is no folder for temporary files that other users can reach")
    made = Path(tempfile.mkdtemp(prefix="runforrest-security-", dir=folders[0]))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def canary(place: Path) -> Canary:
    return Canary(place / "sang")
