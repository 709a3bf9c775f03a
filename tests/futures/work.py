"""Calls of these tests.  Every child imports this module, so it imports little."""

from __future__ import annotations

import os
import time

state = "as imported"


def trace(folder: str, number: int, seconds: float = 0.0) -> int:
    """Leave a file for this run of this call."""
    with open(f"{folder}/{number}.{os.getpid()}.{time.monotonic_ns()}", "x"):
        pass
    time.sleep(seconds)
    return number


def wait_until(file: str, begun: str = "") -> str:
    """End when there is this file; say that it runs."""
    if begun:
        with open(begun, "x"):
            pass
    while not os.path.exists(file):
        time.sleep(0.01)
    return "seen"


def set_state(value: str) -> None:
    global state
    state = value


def get_state() -> str:
    return state


def fails() -> None:
    raise ValueError("no use")


def fails_without(file: str) -> str:
    os.stat(file)
    return "there"


def kill_myself() -> None:
    os.kill(os.getpid(), 9)


def square(x: int) -> int:
    return x * x


def wait_and_make_much(file: str, begun: str) -> str:
    return wait_until(file, begun) * 50_000
