"""The runs of disBatch in samples/."""

from __future__ import annotations

from pathlib import Path

from runforrest.batch.statusfile import BadLine, StatusLine, read

SAMPLES = Path(__file__).with_name("samples")


def tasks(sample: str) -> list[bytes]:
    """The lines of its task file."""
    with open(SAMPLES / sample / "Tasks", "rb") as file:
        return list(file)


def records(sample: str, file: str = "status.txt") -> list[StatusLine]:
    bad: list[BadLine] = []
    found = list(read(str(SAMPLES / sample / file), bad))
    assert not bad
    return found
