"""What several tests need."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")

POLL_SECONDS = 0.005


def wait_for(condition: Callable[[], T], seconds: float = 10, what: str = "") -> T:
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
