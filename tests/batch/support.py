"""Batches of real commands, run by the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from runforrest.batch.statusfile import StatusLine, read

SECONDS = 120.0


def batch(folder: Path, *arguments: str, text: str | None = None, stdin: str | None = None,
          env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `runforrest batch` in this folder; ``text`` becomes its task file ``Tasks``."""
    given = list(arguments)
    if text is not None:
        (folder / "Tasks").write_text(text)
        given.append("Tasks")
    return subprocess.run([sys.executable, "-m", "runforrest", "batch", *given], cwd=folder, input=stdin or "",
                          capture_output=True, text=True, timeout=SECONDS, env={**os.environ, **(env or {})})


def records(folder: Path, prefix: str = "x") -> list[StatusLine]:
    """The status file's records; all of it can be read."""
    bad: list[object] = []
    found = list(read(str(folder / f"{prefix}_status.txt"), bad))   # type: ignore[arg-type]
    assert not bad
    return found


def brief(folder: Path, prefix: str = "x") -> dict[int, tuple[str, int, str]]:
    """By number: flags, return code and output."""
    return {record.task: (record.flags, record.code, record.out) for record in records(folder, prefix)}
