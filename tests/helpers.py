"""What several tests need."""

from __future__ import annotations

import glob
import inspect
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

T = TypeVar("T")

POLL_SECONDS = 0.005


def files(folder: Path, pattern: str) -> list[Path]:
    """Those below it that fit, also while folders in it come and go, at which `Path.glob` may raise."""
    return [Path(path) for path in glob.glob(f"{glob.escape(str(folder))}/{pattern}", recursive=True)]


def has_ended(process: psutil.Process | int) -> bool:
    """Whether a process is gone, or waits only to be reaped; also if it goes while that is asked."""
    try:
        found = psutil.Process(process) if isinstance(process, int) else process
        return not found.is_running() or bool(found.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def wait_for(condition: Callable[[], T], seconds: float = 30, what: str = "") -> T:
    """Return the first true value of ``condition()``; fail with what was awaited if none comes in time.

    Without ``what``, the text is the source of the condition.
    """
    __tracebackhide__ = True
    deadline = time.monotonic() + seconds
    while True:
        late = time.monotonic() >= deadline  # read first: a slow condition gets its last chance
        value = condition()
        if value:
            return value
        if late:
            pytest.fail(f"waited {seconds} s for: {what or _source(condition)}\nlast value: {value!r}")
        time.sleep(POLL_SECONDS)


def _source(condition: Callable[[], object]) -> str:
    try:
        return inspect.getsource(condition).strip()
    except (OSError, TypeError):  # built interactively, or a callable object
        return repr(condition)


@contextmanager
def small_filesystem(tmp_path: Path, options: str) -> Iterator[Path]:
    """A tmpfs of its own, with these options; a test that can't have one is skipped."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small filesystem needs root")
    place = tmp_path / "small"
    place.mkdir(0o700)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"{options},mode=700", "tmpfs", str(place)],
                          capture_output=True)
    if made.returncode:
        pytest.skip(f"can't mount a tmpfs here: {made.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
