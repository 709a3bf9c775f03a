"""Tasks of these tests.  Every child imports this module, so it imports little."""

from __future__ import annotations

import os
import sys
import time
from typing import Any


def note(file: str, text: object) -> None:
    with open(file, "a") as log:
        log.write(f"{text}\n")


def noted(file: str, text: object) -> object:
    note(file, text)
    return text


def started_then_wait(log: str, go: str) -> int:
    """Say the pid, and wait for permission to end."""
    note(log, os.getpid())
    while not os.path.exists(go):
        time.sleep(0.005)
    return os.getpid()


def wait_for_a_file(folder: str, part: str) -> None:
    """Until the folder has a file whose name contains this."""
    while not any(part in name for name in os.listdir(folder)):
        time.sleep(0.005)


def speak(characters: int) -> int:
    for _ in range(characters // 100):
        print("x" * 99)
    return characters


def leave_a_child(pids: str) -> str:
    """Returns while a child of its own, which holds its standard output, goes on."""
    pid = os.fork()
    if pid == 0:
        time.sleep(1000)
    note(pids, pid)
    return "returned"


def surroundings(*names: str) -> dict[str, Any]:
    return {"cwd": os.getcwd(), "env": {name: os.environ.get(name) for name in names},
            "session": os.getsid(0) == os.getpid(), "executable": sys.executable}


def fails_until(log: str, times: int) -> int:
    """Raises as many times as it is told to."""
    note(log, "tried")
    with open(log) as file:
        tried = len(file.readlines())
    if tried <= times:
        raise ValueError(f"failure {tried}")
    return tried


def schedule_more(directory: str, depth: int) -> int:
    from runforrest import TaskList, defer
    tasks = TaskList(directory, exist_ok=True, pre_clean=False)
    if depth:
        for _ in range(2):
            tasks.schedule(defer(schedule_more, directory, depth - 1), metadata=depth - 1)
    return depth


def fail_with_letters() -> None:
    print("åß∂")
    raise ValueError("ƒehler")
