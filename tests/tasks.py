"""Tasks of several tests.  Every child imports this module, so it imports little."""

from __future__ import annotations

import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def log_and_sleep(log: str, number: int, seconds: float) -> int:
    with open(log, "a") as file:
        file.write(f"{number} {os.getpid()}\n")
    time.sleep(seconds)
    return number


def log_and_wait(log: str, number: int, enough: str, seconds: float = 600.0) -> int:
    """The same, but it ends as soon as there is this file: for a test in which nothing may end by itself."""
    with open(log, "a") as file:
        file.write(f"{number} {os.getpid()}\n")
    end = time.monotonic() + seconds
    while time.monotonic() < end and not os.path.exists(enough):
        time.sleep(0.01)
    return number


def meet(log: str, number: int, runners: int) -> int:
    """End when tasks of so many runners have begun, so that each has its share."""
    with open(log, "a") as file:
        file.write(f"{number} {os.environ['RUNFORREST_RUNNER']}\n")
    while True:
        with open(log) as file:
            if len({line.split()[1] for line in file if line.endswith("\n")}) >= runners:
                return number
        time.sleep(0.05)


def hang(log: str, ignore_term: bool = False) -> None:
    if ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\n")
    if os.fork() == 0:
        os.setsid()
        with open(log, "a") as file:
            file.write(f"{os.getpid()}\n")
    time.sleep(1000)


def needs(flag: str) -> str:
    os.stat(flag)
    return "there"


def segfault() -> None:
    import ctypes
    print("about to crash", flush=False)
    ctypes.string_at(0)


def close_everything() -> str:
    os.closerange(0, 4096)
    return "still here"


def much_output(megabytes: int) -> str:
    line = b"x" * 1023 + b"\n"
    for _ in range(megabytes):
        os.write(1, line * 1024)
    return "done"


def unpicklable_value() -> Any:
    return (i for i in range(3))


class Stubborn(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("only one argument is kept")
        self.what = (i for i in range(3))


class Unloadable(Exception):
    """Pickles, but can't be unpickled: its constructor wants more than it keeps."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("kept")


def raise_(kind: Any, *args: Any) -> None:
    raise kind(*args)


def start_family(pids: str, ignore_term: bool) -> None:
    """A child, a grandchild in its own session, a double-forked daemon and a stopped child; then hang."""
    if ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def note() -> None:
        with open(pids, "a") as file:
            file.write(f"{os.getpid()}\n")

    def sleeper(new_session: bool) -> None:
        pid = os.fork()
        if pid == 0:
            if new_session:
                os.setsid()
            note()
            while True:
                time.sleep(100)

    note()
    sleeper(False)
    sleeper(True)
    if os.fork() == 0:                  # daemon
        os.setsid()
        if os.fork() == 0:
            note()
            while True:
                time.sleep(100)
        os._exit(0)
    stopped = os.fork()
    if stopped == 0:
        note()
        os.kill(os.getpid(), signal.SIGSTOP)
        while True:
            time.sleep(100)
    while True:
        time.sleep(100)


def count_lines(path: str) -> int:
    with open(path) as file:
        return len(file.readlines())


def leave_family(pids: str) -> str:
    """As above, but return while they live."""
    if os.fork() == 0:
        try:
            start_family(pids, False)
        finally:
            os._exit(0)
    while not os.path.exists(pids) or os.path.getsize(pids) == 0 or count_lines(pids) < 5:
        time.sleep(0.01)
    return "returned"


def fork_bomb(pids: str, depth: int) -> None:
    """Processes that keep forking, in sessions of their own, for as long as they are let."""
    while True:
        if depth and os.fork() == 0:
            os.setsid()
            with open(pids, "a") as file:
                file.write(f"{os.getpid()}\n")
            fork_bomb(pids, depth - 1)
        time.sleep(0.03)


def eat(megabytes: int, seconds: float = 30.0) -> int:
    kept = []
    for _ in range(megabytes):
        kept.append(bytearray(b"x" * (1 << 20)))
    time.sleep(seconds)
    return len(kept)


def stray() -> str:
    """A task whose own fork comes back from the user's code."""
    return "child" if os.fork() == 0 else "parent"


def draw() -> tuple[float, float]:
    import random

    import numpy
    return float(numpy.random.random()), random.random()


def bytes_when_told(size: int, file: str) -> bytes:
    while not os.path.exists(file):
        time.sleep(0.01)
    return bytes(size)


def surroundings() -> tuple[int, str, list[str], dict[str, str]]:
    import sys
    environ = {k: v for k, v in os.environ.items() if k not in ("RUNFORREST_TASK", "RUNFORREST_ATTEMPT")}
    return os.getpid(), os.getcwd(), list(sys.path), environ


def spoil_surroundings() -> int:
    import sys
    os.chdir("/")
    sys.path.insert(0, "/nowhere")
    os.environ["SPOILT"] = "yes"
    del os.environ["PATH"]
    return os.getpid()


def print_and_exit(text: str) -> None:
    """Die without a word to the guard."""
    print(text, flush=True)
    os._exit(3)


def crash_when_told(told: str) -> None:
    while not os.path.exists(told):
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGKILL)
