"""What the tasks of these tests do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path


def double(x: int) -> int:
    return 2 * x


def deep(x: int) -> int:
    marker = x + 41
    return marker // x


def fail(x: int) -> int:
    print("about to fail")
    return deep(x)


def until(started: str, go: str) -> str:
    """Say that it has begun, then wait for permission to end."""
    Path(started).touch()
    while not os.path.exists(go):
        time.sleep(0.005)
    return "went"


def endless() -> None:
    time.sleep(1000)


def once_more(counter: str) -> int:
    """Fails the first time."""
    with open(counter, "a") as file:
        file.write("x")
    if os.path.getsize(counter) < 2:
        raise ValueError("the first time")
    return os.path.getsize(counter)


def leave(code: int) -> None:
    sys.exit(code)


def unpicklable() -> object:
    return (x for x in range(3))


def where() -> tuple[str, str | None, str]:
    return os.getcwd(), os.environ.get("FROM_TASK"), sys.path[0]


def loaded(module: str) -> bool:
    return module in sys.modules


def shout(length: int) -> None:
    subprocess.run([sys.executable, "-c", f"print('o' * {length})"], check=True)
    print("\033[2Jgone")
