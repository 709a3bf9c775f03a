"""Running a user's script as its user does: in an interpreter of its own, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = 60


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", **more}


def python(*arguments: object, cwd: Path, stdin: str = "", check: bool = True, **variables: str
           ) -> subprocess.CompletedProcess[str]:
    """Run it to its end; ``stdin`` is what it reads."""
    ended = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, env=environment(**variables), input=stdin,
                           capture_output=True, text=True, timeout=SECONDS)
    if check:
        assert ended.returncode == 0, ended.stderr
    return ended


@contextmanager
def started(code: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """A script that is at work, in a session of its own so that a Ctrl-C can be sent to it alone."""
    script = cwd / "script.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, str(script)], cwd=cwd, env=environment(), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
