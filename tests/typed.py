"""What a type checker says of programs that use this library."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def mypy_refuses(folder: Path, program: str, wrong: Sequence[str]) -> None:
    """Check that mypy has nothing to say of the program, and something of each of these lines behind it."""
    pytest.importorskip("mypy")
    lines = program.splitlines()
    (folder / "typed.py").write_text("\n".join([*lines, *wrong]) + "\n")
    ended = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent",
                            "--disable-error-code=empty-body", "typed.py"],
                           cwd=folder, capture_output=True, text=True, timeout=100,
                           env={**os.environ, "MYPYPATH": str(ROOT)})
    told = {int(line.split(":")[1]) for line in ended.stdout.splitlines() if ": error:" in line}
    assert told == {len(lines) + number for number in range(1, len(wrong) + 1)}, ended.stdout
